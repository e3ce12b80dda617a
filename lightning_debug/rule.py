"""The @rule decorator, Rule, and Page: the module docstring of a rule in sections."""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from lightning_debug.evidence import Evidence
from lightning_debug.finding import Claim, Severity, Skip

Judgement = Iterable["Claim | Skip"]
F = TypeVar("F", bound=Callable[..., Judgement])

SECTIONS = (
    "What it sees",
    "Why it hurts",
    "How to fix",
    "When to ignore",
    "Broken",
    "Repaired",
    "Example",
    "References",
)
"""The sections of a rule's page, in their order; all but the last are required."""

_HEADING = re.compile(rf"^({'|'.join(SECTIONS)}):[ ]*(.*)$")
_CODE = re.compile(r"^[A-Z]{2,8}\d{3}$")


@dataclass(frozen=True)
class Page:
    """A rule's documentation, read from its module docstring.

    Args:
        title: The first line: the fault in one sentence.
        sections: Text by heading (see :data:`SECTIONS`), dedented.
    """

    title: str
    sections: Mapping[str, str]

    def __getitem__(self, heading: str) -> str:
        return self.sections[heading]

    @classmethod
    def parse(cls, docstring: str) -> Page:
        r"""Reads a docstring: a title line, then sections whose headings stand unindented.

        >>> page = Page.parse('''Title.
        ...
        ... What it sees: one thing,
        ...     and another.
        ... Broken:
        ...     x = 1
        ... ''')
        >>> page.title, page["What it sees"], page["Broken"]
        ('Title.', 'one thing,\nand another.', 'x = 1')
        """
        lines = inspect.cleandoc(docstring).splitlines() or [""]
        sections: dict[str, list[str]] = {}
        first: dict[str, str] = {}
        heading = ""
        for line in lines[1:]:
            match = _HEADING.match(line)
            if match:
                heading, first[heading] = match[1], match[2]
                sections[heading] = []
            elif heading:
                sections[heading].append(line)
        texts = {
            name: "\n".join(filter(None, [first[name], textwrap.dedent("\n".join(body)).strip("\n")])).strip()
            for name, body in sections.items()
        }
        return cls(title=lines[0].strip(), sections=texts)


@dataclass(frozen=True)
class Rule:
    """One fault this tool can find.

    Args:
        code: Two to eight capitals and three digits; the hundred is the family. ``"LD"`` is this package's.
        name: The fault in kebab case.
        severity: Error, warning or info.
        needs: Kinds of evidence without which it is not judged.
        explains: Codes of findings that are symptoms of this one.
        function: The judgement: a record in, claims and skips out.
    """

    code: str
    name: str
    severity: Severity
    needs: tuple[type[Evidence], ...]
    explains: tuple[str, ...]
    function: Callable[..., Judgement]

    @property
    def page(self) -> Page:
        """The documentation of the rule."""
        return Page.parse(sys.modules[self.function.__module__].__doc__ or "")

    @property
    def thresholds(self) -> dict[str, Any]:
        """The keyword-only parameters of the judgement with their defaults."""
        parameters = inspect.signature(self.function).parameters.values()
        return {item.name: item.default for item in parameters if item.kind is item.KEYWORD_ONLY}


def rule(
    code: str,
    *,
    severity: Severity,
    needs: type[Evidence] | tuple[type[Evidence], ...],
    explains: tuple[str, ...] = (),
) -> Callable[[F], F]:
    """Marks a function as the judgement of a rule; the function itself is returned untouched.

    The rule's name is the function's, with dashes. Its first parameter is the record; keyword-only
    parameters with defaults are thresholds, which users may set by code and name.

    Args:
        code: ``"LD"`` and three digits; other capitals (two to eight) in a package of your own.
        severity: How bad its findings are.
        needs: The kind, or kinds, of evidence it cannot do without.
        explains: Codes whose findings are symptoms of this one.

    Raises:
        ValueError: If a code is malformed.
    """
    for item in (code, *explains):
        if not _CODE.match(item):
            raise ValueError(f"code={item!r} is not two to eight capitals ('LD' in this package) and three digits")

    def mark(function: F) -> F:
        kinds = needs if isinstance(needs, tuple) else (needs,)
        name = function.__name__.replace("_", "-")
        function.__rule__ = Rule(code, name, severity, kinds, explains, function)  # type: ignore[attr-defined]
        return function

    return mark
