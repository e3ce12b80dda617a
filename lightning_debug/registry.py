"""Finds rules by walking ``rules/`` and the entry points of other packages, and selects among them by code or name.

Another package adds rules by naming a module, or a package of modules, in the group ``lightning_debug.rules``:

    [project.entry-points."lightning_debug.rules"]
    acme = "acme.training_rules"
"""

from __future__ import annotations

import difflib
import functools
import importlib
import pkgutil
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from lightning_debug import rules as _rules
from lightning_debug.evidence import Evidence
from lightning_debug.rule import Rule


class UnknownRule(ValueError):
    """A code or name that no rule has."""


GROUP = "lightning_debug.rules"
"""The entry-point group in which other packages name modules with rules."""

_PREFIX = re.compile(r"[A-Z]{2,8}\d{0,3}")


@functools.cache
def all_rules() -> tuple[Rule, ...]:
    """Every rule in ``lightning_debug.rules`` and in the modules that other packages name, by code.

    What another package names and cannot be used is left out, with a warning.

    Raises:
        TypeError: If a module of this package defines no rule or several, or two rules share a code or name.
    """
    found: dict[str, Rule] = {}
    for name in _modules(_rules):
        _add(found, _rule_of(importlib.import_module(name)))
    for entry in metadata.entry_points(group=GROUP):
        try:
            named = entry.load()
            modules = [importlib.import_module(name) for name in _modules(named)] or [named]
            others = [_rule_of(module) for module in modules]
            for one in others:
                if one.code.startswith("LD"):
                    raise TypeError(f"{one.code} is a code of lightning_debug; use capitals of your own")
                _add(found, one)
        except Exception as error:  # nothing of another package may keep this one from working
            warnings.warn(
                f"lightning_debug: rules of the entry point {entry.name} = {entry.value} are left out: {error}",
                stacklevel=2,
            )
    return tuple(found[code] for code in sorted(found))


def _modules(package: Any) -> list[str]:
    infos = pkgutil.iter_modules(getattr(package, "__path__", ()), f"{package.__name__}.")
    return [info.name for info in infos if not info.name.rpartition(".")[2].startswith("_")]


def _rule_of(module: Any) -> Rule:
    """The one rule that a module defines.

    Raises:
        TypeError: If it defines none or several.
    """
    items = [item for item in vars(module).values() if isinstance(getattr(item, "__rule__", None), Rule)]
    here: list[Rule] = [item.__rule__ for item in items if item.__module__ == module.__name__]
    if len(here) != 1:
        raise TypeError(f"{module.__name__} must define one rule, and defines {len(here)}")
    return here[0]


def _add(found: dict[str, Rule], one: Rule) -> None:
    for other in found.values():
        if one.code == other.code or one.name == other.name:
            raise TypeError(f"{one.code} {one.name} and {other.code} {other.name} clash")
    found[one.code] = one


def fed_by(kinds: Iterable[type[Evidence]]) -> tuple[Rule, ...]:
    """The rules that need no other kinds of evidence than these."""
    known = set(kinds)
    return tuple(one for one in all_rules() if known.issuperset(one.needs))


def _did_you_mean(word: str) -> str:
    names = [text for one in all_rules() for text in (one.code, one.name)]
    if re.fullmatch(r"LD\d+", word.upper()):  # digits that look alike mean nothing
        near = [name for name in names if name.startswith(word.upper()[:4])][:3]
    else:
        close = difflib.get_close_matches(word, names, n=3, cutoff=0.5)
        near = close or [name for name in names if word.lower() in name.lower()][:3]
    return f"; did you mean {' or '.join(near)}?" if near else "; `lightning-debug rules` lists them"


def get(word: str) -> Rule:
    """The rule with this code (any case) or name.

    Raises:
        UnknownRule: If there is none; the message names the nearest.

    >>> get("ld001").name
    'probe-failed'
    """
    for one in all_rules():
        if word.upper() == one.code or word.lower().replace("_", "-") == one.name:
            return one
    raise UnknownRule(f"{word!r} is no rule's code or name{_did_you_mean(word)}")


@dataclass(frozen=True)
class Selection:
    """Which rules to judge: those that ``select`` names (all when empty) less those that ``ignore`` names.

    A word is a code, the beginning of codes (``"LD2"``), or a name.

    Args:
        select: Words for what to judge.
        ignore: Words for what to leave out; they win over ``select``.

    Raises:
        UnknownRule: If a word fits no rule.

    >>> [one.code for one in Selection(select=("LD00",), ignore=("rule-failed",)).rules()]
    ['LD001']
    """

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for argument in ("select", "ignore"):
            for word in getattr(self, argument):
                if not any(_fits(word, one) for one in all_rules()):
                    raise UnknownRule(f"{argument}: {word!r} fits no rule{_did_you_mean(word)}")

    def has(self, one: Rule) -> bool:
        """Whether the rule is selected."""
        chosen = not self.select or any(_fits(word, one) for word in self.select)
        return chosen and not any(_fits(word, one) for word in self.ignore)

    def rules(self, among: Iterable[Rule] | None = None) -> tuple[Rule, ...]:
        """The selected rules, by code."""
        return tuple(one for one in (all_rules() if among is None else among) if self.has(one))


def _fits(word: str, one: Rule) -> bool:
    text = word.strip()
    if _PREFIX.fullmatch(text.upper()) and one.code.startswith(text.upper()):
        return True
    return text.lower().replace("_", "-") == one.name
