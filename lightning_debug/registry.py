"""Finds rules by walking ``rules/``, looks them up by code or name, and selects among them."""

from __future__ import annotations

import difflib
import functools
import importlib
import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass

from lightning_debug import rules as _rules
from lightning_debug.evidence import Evidence
from lightning_debug.rule import Rule


class UnknownRule(ValueError):
    """A code or name that no rule has."""


@functools.cache
def all_rules() -> tuple[Rule, ...]:
    """Every rule in ``lightning_debug.rules``, by code.

    Raises:
        TypeError: If a module defines no rule or several, or two rules share a code or name.
    """
    found: dict[str, Rule] = {}
    for info in pkgutil.iter_modules(_rules.__path__, f"{_rules.__name__}."):
        if info.name.rpartition(".")[2].startswith("_"):
            continue
        module = importlib.import_module(info.name)
        here = [
            item.__rule__
            for item in vars(module).values()
            if isinstance(getattr(item, "__rule__", None), Rule) and item.__module__ == info.name
        ]
        if len(here) != 1:
            raise TypeError(f"{info.name} must define one rule, and defines {len(here)}")
        one = here[0]
        for other in found.values():
            if one.code == other.code or one.name == other.name:
                raise TypeError(f"{one.code} {one.name} and {other.code} {other.name} clash")
        found[one.code] = one
    return tuple(found[code] for code in sorted(found))


def fed_by(kinds: Iterable[type[Evidence]]) -> tuple[Rule, ...]:
    """The rules that need no other kinds of evidence than these."""
    known = set(kinds)
    return tuple(one for one in all_rules() if known.issuperset(one.needs))


def _did_you_mean(word: str) -> str:
    names = [text for one in all_rules() for text in (one.code, one.name)]
    near = (
        difflib.get_close_matches(word, names, n=3, cutoff=0.5) or [n for n in names if word.lower() in n.lower()][:3]
    )
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
    if text.upper().startswith("LD") and (text[2:].isdigit() or text.upper() == "LD"):
        return one.code.startswith(text.upper())
    return text.lower().replace("_", "-") == one.name
