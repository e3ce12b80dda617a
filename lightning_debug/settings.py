"""Settings: keyword arguments over the environment over ``[tool.lightning_debug]`` over the defaults."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
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

    def __post_init__(self) -> None:
        if self.fail_on not in get_args(FailOn):
            raise SettingsError(f"fail_on={self.fail_on!r} is not accepted; choose from {', '.join(get_args(FailOn))}")
        _ = self.selection
        object.__setattr__(self, "thresholds", _checked(self.thresholds))

    @property
    def selection(self) -> Selection:
        """``select`` and ``ignore`` as one object."""
        return Selection(self.select, self.ignore)

    @classmethod
    def resolve(cls, folder: Path | None = None, **given: Any) -> Settings:
        """Merges the sources: ``given`` (what is not ``None``), environment, pyproject.toml, defaults.

        Args:
            folder: Where to look for ``pyproject.toml`` first, then in its parents; the working
                directory by default.
            given: Fields of this class.
        """
        merged = {**from_pyproject(folder or Path.cwd()), **from_environment(os.environ)}
        merged.update({name: value for name, value in given.items() if value is not None})
        return cls(**{name: _convert(name, value, "argument") for name, value in merged.items()})


def from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """Settings in variables such as ``LIGHTNING_DEBUG_SELECT=LD2,LD401`` or ``LIGHTNING_DEBUG_FAIL_ON=error``.

    >>> from_environment({"LIGHTNING_DEBUG_IGNORE": "LD310", "LIGHTNING_DEBUG_HTML": "0"})
    {'ignore': ('LD310',), 'html': False}
    """
    names = [item.name for item in dataclasses.fields(Settings) if item.name != "thresholds"]
    present = {name: environment.get(PREFIX + name.upper(), "") for name in names}
    return {name: _convert(name, text, PREFIX + name.upper()) for name, text in present.items() if text.strip()}


def from_pyproject(folder: Path) -> dict[str, Any]:
    """The table ``[tool.lightning_debug]`` of the nearest ``pyproject.toml`` in ``folder`` or above.

    Raises:
        SettingsError: If the table holds an unknown key or the file is no TOML.
    """
    for parent in (folder, *folder.parents):
        path = parent / "pyproject.toml"
        if not path.is_file():
            continue
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}).get("lightning_debug", {})
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path}: {error}") from error
        known = [item.name for item in dataclasses.fields(Settings)]
        for key in table:
            if key.replace("-", "_") not in known:
                raise SettingsError(f"{path}: [tool.lightning_debug] has no {key!r}; accepted: {', '.join(known)}")
        return {key.replace("-", "_"): value for key, value in table.items()}
    return {}


def _convert(name: str, value: Any, source: str) -> Any:
    default = next((item for item in dataclasses.fields(Settings) if item.name == name), None)
    if default is None:
        raise SettingsError(f"{name!r} is no setting")
    if name in ("select", "ignore"):
        words = value.split(",") if isinstance(value, str) else value
        if not isinstance(words, Sequence) or not all(isinstance(word, str) for word in words):
            raise SettingsError(f"{source} {name}={value!r} must be codes or names, as a list or separated by commas")
        return tuple(word.strip() for word in words if word.strip())
    if isinstance(default.default, bool):
        if isinstance(value, bool):
            return value
        truth = {
            "1": True,
            "true": True,
            "yes": True,
            "on": True,
            "0": False,
            "false": False,
            "no": False,
            "off": False,
        }
        if isinstance(value, str) and value.strip().lower() in truth:
            return truth[value.strip().lower()]
        raise SettingsError(f"{source} {name}={value!r} must be true or false")
    if name == "report_dir":
        if not isinstance(value, (str, os.PathLike)):
            raise SettingsError(f"{source} report_dir={value!r} must be a path")
        return os.fspath(value)
    return value


def _checked(thresholds: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    if not isinstance(thresholds, Mapping):
        raise SettingsError(f"thresholds={thresholds!r} must map rules to their thresholds, like {{'LD210': {{…}}}}")
    result: dict[str, dict[str, Any]] = {}
    for word, values in thresholds.items():
        one = registry.get(word)
        accepted = one.thresholds
        if not isinstance(values, Mapping):
            raise SettingsError(
                f"thresholds[{word!r}]={values!r} must map names to values; accepted: {accepted or 'none'}"
            )
        for key, value in values.items():
            if key not in accepted:
                names = ", ".join(f"{name} (default {default!r})" for name, default in accepted.items()) or "none"
                raise SettingsError(f"thresholds[{word!r}] has no {key!r}; {one.code} {one.name} accepts: {names}")
            if isinstance(accepted[key], (int, float)) and not isinstance(value, (int, float)):
                raise SettingsError(f"thresholds[{word!r}][{key!r}]={value!r} must be a number")
        result[one.code] = dict(values)
    return result
