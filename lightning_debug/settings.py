"""Settings: keyword arguments over the environment over ``[tool.lightning_debug]`` over the defaults."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import numbers
import os
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from lightning_debug import registry
from lightning_debug.registry import Selection

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FailOn = Literal["never", "warning", "error"]
PREFIX = "LIGHTNING_DEBUG_"
TALLY = "LIGHTNING_DEBUG_TALLY"
"""No setting: the file in which ``lightning-debug run`` collects what the runs of a script come to."""
TRUE = ("1", "true", "yes", "on")
FALSE = ("0", "false", "no", "off")


class SettingsError(ValueError):
    """A setting that cannot be used; the message names it, its value and what is accepted."""


@dataclass(frozen=True)
class Settings:
    """What a session does with what it sees.

    Args:
        select: Codes, beginnings of codes or names to judge; all when empty.
        ignore: Likewise, to leave out; wins over ``select``.
        thresholds: Keyword arguments for rules, by code or name: ``{"LD210": {"factor": 4.0}}``.
        fail_on: Stop the fit with ``FaultFound`` at the first finding at least as grave.
        report_dir: Folder for ``report.html`` and ``report.json``; by default ``lightning_debug`` in the
            logger's folder (or in ``default_root_dir``).
        console: Print findings.
        tensorboard: Write findings and curves to the TensorBoard loggers of the Trainer.
        html: Write ``report.html``.
        json: Write ``report.json``.
        strict: Let exceptions of this tool through instead of reporting them as LD001 or LD002.
        experiment_seconds: What the experiments may take in all; they also keep to a tenth of the training that is
            planned, or to one second where that is less. 0 for none.

    Raises:
        SettingsError: If a value is not accepted.
        UnknownRule: If a code or name is not known.
    """

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    thresholds: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fail_on: FailOn = "never"
    report_dir: str | None = None
    console: bool = True
    tensorboard: bool = True
    html: bool = True
    json: bool = True
    strict: bool = False
    experiment_seconds: float = 30.0

    def __post_init__(self) -> None:
        for name in _names():
            object.__setattr__(self, name, convert(name, getattr(self, name), name))
        object.__setattr__(self, "thresholds", _checked(self.thresholds))
        _ = self.selection  # raises for a word that fits no rule

    @property
    def selection(self) -> Selection:
        """``select`` and ``ignore`` as one object."""
        return Selection(self.select, self.ignore)

    @classmethod
    def resolve(cls, folder: Path | None = None, **given: Any) -> Settings:
        """Merges the sources: ``given`` (what is not ``None``), environment, pyproject.toml, defaults.

        A field comes from one source: thresholds given in Python replace those of the project.

        Args:
            folder: Where to look for ``pyproject.toml`` first, then in its parents; the working
                directory by default.
            given: Fields of this class.
        """
        own = {name: convert(name, value, name) for name, value in given.items() if value is not None}
        return cls(**{**from_pyproject(folder), **from_environment(os.environ), **own})


def from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """Settings in variables such as ``LIGHTNING_DEBUG_SELECT=LD2,LD401`` or ``LIGHTNING_DEBUG_FAIL_ON=error``.

    ``LIGHTNING_DEBUG_THRESHOLDS`` is JSON. A variable that is empty is not set.

    >>> from_environment({"LIGHTNING_DEBUG_IGNORE": "LD310", "LIGHTNING_DEBUG_HTML": "0"})
    {'ignore': ('LD310',), 'html': False}
    """
    variables = {name: PREFIX + name.upper() for name in _names()}
    present = {name: variable for name, variable in variables.items() if environment.get(variable, "").strip()}
    return {name: convert(name, environment[variable], variable) for name, variable in present.items()}


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """What to say about variables that begin like settings and are none; they may be misspelt.

    >>> unknown_variables({"LIGHTNING_DEBUG_FAILON": "error"})
    ['LIGHTNING_DEBUG_FAILON is no setting; did you mean LIGHTNING_DEBUG_FAIL_ON?']
    """
    known = [PREFIX + name.upper() for name in _names()]
    told = []
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in (*known, TALLY):
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"settings: {', '.join(known)}"
            told.append(f"{name} is no setting; {hint}")
    return told


def from_pyproject(folder: Path | None = None) -> dict[str, Any]:
    """The table ``[tool.lightning_debug]`` of the nearest ``pyproject.toml`` that has one, in ``folder`` or above.

    A relative ``report_dir`` is relative to that file. A file that cannot be read, or that is no TOML
    and does not mention this tool, is somebody else's affair.

    Args:
        folder: Where to look first; the working directory by default.

    Raises:
        SettingsError: If the table holds a key or value that is not accepted.
    """
    try:
        start = (folder or Path.cwd()).absolute()
    except OSError:  # the working directory was deleted
        return {}
    for parent in (start, *start.parents):
        path = parent / "pyproject.toml"
        table = _table(path)
        if table is None:
            continue
        result: dict[str, Any] = {}
        for key, value in table.items():
            name = key.replace("-", "_")
            if name not in _names():
                raise SettingsError(f"{path}: [tool.lightning_debug] has no {key!r}; accepted: {', '.join(_names())}")
            result[name] = convert(name, value, f"{path}: {key}")
        if "report_dir" in result:
            result["report_dir"] = str(parent / result["report_dir"])
        return result
    return {}


def _table(path: Path) -> Mapping[str, Any] | None:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return None
    if "lightning_debug" not in text and "lightning-debug" not in text:
        return None
    try:
        tool = tomllib.loads(text).get("tool", {})
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: {error}") from error
    spelled = [name for name in ("lightning_debug", "lightning-debug") if isinstance(tool, Mapping) and name in tool]
    if not spelled:
        return None
    if len(spelled) > 1 or not isinstance(tool[spelled[0]], Mapping):
        raise SettingsError(f"{path}: [tool.lightning_debug] must be one table")
    table: Mapping[str, Any] = tool[spelled[0]]
    return table


def _names() -> tuple[str, ...]:
    return tuple(item.name for item in dataclasses.fields(Settings))


def convert(name: str, value: Any, source: str) -> Any:
    """A setting's value in its own type.

    Args:
        name: A field of :class:`Settings`.
        value: The value as it was written.
        source: Where it was written, for the message.

    Raises:
        SettingsError: If the value is not accepted; the message names ``source``.
    """
    kinds = {item.name: str(item.type) for item in dataclasses.fields(Settings)}
    if name not in kinds:
        raise SettingsError(f"{name!r} is no setting; accepted: {', '.join(kinds)}")
    return _READ[kinds[name]](value, source)


def _words(value: Any, source: str) -> tuple[str, ...]:
    words = value.split(",") if isinstance(value, str) else value
    listed = isinstance(words, Collection) and not isinstance(words, Mapping)
    if not listed or not all(isinstance(word, str) for word in words):
        raise SettingsError(f"{source}={value!r} must be codes or names, as a list or separated by commas")
    return tuple(word.strip() for word in words if word.strip())


def _truth(value: Any, source: str) -> bool:
    word = str(value).strip().lower() if isinstance(value, (bool, str)) else ""
    if word not in (*TRUE, *FALSE):
        raise SettingsError(f"{source}={value!r} must be true or false")
    return word in TRUE


def _seconds(value: Any, source: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number < math.inf:
        raise SettingsError(f"{source}={value!r} must be a number of seconds, 0 or more")
    return number


def _choice(value: Any, source: str) -> str:
    word = value.strip().lower() if isinstance(value, str) else ""
    if word not in get_args(FailOn):
        raise SettingsError(f"{source}={value!r} is not accepted; choose from {', '.join(get_args(FailOn))}")
    return word


def _path(value: Any, source: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, (str, os.PathLike)) or not str(value).strip():
        raise SettingsError(f"{source}={value!r} must be a path")
    return os.path.expanduser(os.fspath(value))


def _mapping(value: Any, source: str) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise SettingsError(f"{source}={value!r} must be JSON such as {_EXAMPLE}: {error}") from error


_READ: dict[str, Callable[[Any, str], Any]] = {
    "tuple[str, ...]": _words,
    "bool": _truth,
    "float": _seconds,
    "FailOn": _choice,
    "str | None": _path,
    "Mapping[str, Mapping[str, Any]]": _mapping,
}
_EXAMPLE = '{"LD210": {"factor": 4.0}}'


def _checked(thresholds: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    if not isinstance(thresholds, Mapping) or not all(isinstance(word, str) for word in thresholds):
        raise SettingsError(f"thresholds={thresholds!r} must map rules to their thresholds, like {_EXAMPLE}")
    result: dict[str, dict[str, Any]] = {}
    for word, values in thresholds.items():
        try:
            one = registry.get(word)
        except registry.UnknownRule as error:
            raise registry.UnknownRule(f"thresholds: {error}") from None
        accepted = one.thresholds
        told = ", ".join(f"{name} (default {default!r})" for name, default in accepted.items()) or "none"
        if not isinstance(values, Mapping):
            raise SettingsError(f"thresholds[{word!r}]={values!r} must map names to values; accepted: {told}")
        for key, value in values.items():
            if key not in accepted:
                raise SettingsError(f"thresholds[{word!r}] has no {key!r}; {one.code} {one.name} accepts: {told}")
            wanted = _misfit(accepted[key], value)
            if wanted:
                raise SettingsError(f"thresholds[{word!r}][{key!r}]={value!r} must be {wanted}")
        result.setdefault(one.code, {}).update(values)
    return result


def _misfit(default: Any, value: Any) -> str:
    """What ``value`` should have been, given the default it replaces; nothing when it fits."""
    if isinstance(default, bool):
        return "" if isinstance(value, bool) else "true or false"
    if isinstance(default, (int, float)):
        wrong = isinstance(value, bool) or not isinstance(value, numbers.Real) or math.isnan(value)
        return "a number" if wrong else ""
    return ""
