"""A rule's page as text: what ``lightning-debug explain`` prints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lightning_debug.reports._text import capital
from lightning_debug.rule import SECTIONS, Rule

if TYPE_CHECKING:
    from rich.console import Group
    from rich.text import Text

PROGRAMS = ("Broken", "Repaired", "Example")
"""The sections that hold code."""


def plain_page(one: Rule) -> str:
    """The page as plain text.

    >>> from lightning_debug.registry import get
    >>> print(plain_page(get("LD001"))[:113])
    LD001 probe-failed (info)
    <BLANKLINE>
    A probe of this tool raised an exception; training went on without it.
    <BLANKLINE>
    What it sees
    """
    lines = [f"{one.code} {one.name} ({one.severity})", "", one.page.title]
    for heading, text in _sections(one):
        lines += ["", heading, *(f"    {line}".rstrip() for line in text.splitlines())]
    return "\n".join(lines)


def rich_page(one: Rule) -> Group:
    """The page for a terminal: headings, prose with code words set off, programs in colour."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.syntax import Syntax
    from rich.text import Text

    styles = {"error": "bold red", "warning": "bold yellow", "info": "bold blue"}
    title = Text.assemble((f"{one.code} {one.name}", "bold"), " ", (f"({one.severity})", styles[one.severity.value]))
    parts: list[Text | Padding] = [title, Text(""), Text(one.page.title)]
    for heading, text in _sections(one):
        body = (
            Syntax(text, "python", background_color="default", word_wrap=True) if heading in PROGRAMS else _prose(text)
        )
        parts += [Text(""), Text(heading, style="bold"), Padding(body, (0, 0, 0, 4))]
    return Group(*parts)


def _sections(one: Rule) -> Iterator[tuple[str, str]]:
    for heading in SECTIONS:
        text = one.page.sections.get(heading)
        if text:
            yield heading, text if heading in PROGRAMS else capital(text)
        if heading == "When to ignore" and one.thresholds:
            yield "Thresholds", "\n".join(f"``{name}`` (default {value!r})" for name, value in one.thresholds.items())


def _prose(text: str) -> Text:
    from rich.text import Text

    words = text.split("``")
    return Text.assemble(*((word, "cyan" if index % 2 else "") for index, word in enumerate(words)))
