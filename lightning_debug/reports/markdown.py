"""The report as Markdown: what TensorBoard's text tab shows, and what can be pasted into an issue."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lightning_debug.evidence import RunContext
from lightning_debug.finding import Finding, Report
from lightning_debug.reports._text import (
    by_code,
    capital,
    clean,
    ending,
    label,
    listed,
    on_ranks,
    one_line,
    plural,
    shown,
    skips_by_reason,
    verdict,
    when,
)

MOST_PLACES = 20
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_SPECIAL = re.compile(r"([\\`*_{}\[\]#|])")
_CODE = re.compile(r"``([^`\n]+)``|`([^`\n]+)`")


def escape(text: object) -> str:
    r"""Text as Markdown shows it unchanged, on one line.

    >>> print(escape("net.0 [3, 4] | a_b <x>"))
    net.0 \[3, 4\] \| a\_b &lt;x&gt;
    """
    return _escape(one_line(text))


def formatted(text: object) -> str:
    r"""A message or a fix: as :func:`escape`, with what stands between backticks left as code.

    >>> print(formatted("take `softmax_[0]` out of *this*"))
    take `softmax_[0]` out of \*this\*
    """
    parts = []
    line, start = one_line(text), 0
    for match in _CODE.finditer(line):
        parts += [_escape(line[start : match.start()]), f"`{match[1] or match[2]}`"]
        start = match.end()
    return "".join([*parts, _escape(line[start:])])


def _escape(text: str) -> str:
    safe = "".join(_ENTITIES.get(letter, letter) for letter in text)
    return _SPECIAL.sub(r"\\\1", safe)


def finding(one: Finding) -> str:
    """A finding: message, table of numbers, fix, where to read more."""
    cause = f" (follows from {one.explained_by})" if one.explained_by else ""
    lines = [f"**{one.severity} {one.code} {one.name}**{cause}", "", formatted(one.message), "", *_table(one)]
    if one.fix:
        lines += ["", f"**Fix:** {formatted(one.fix)}"]
    return "\n".join([*lines, "", f"Read more: `lightning-debug explain {one.code}`"])


def findings(several: Sequence[Finding]) -> str:
    """Findings of one code, below each other."""
    parts = [finding(one) for one in several[:MOST_PLACES]]
    if len(several) > MOST_PLACES:
        parts.append(f"and {plural(len(several) - MOST_PLACES, 'more finding')} of this code")
    return "\n\n---\n\n".join(parts)


def _table(one: Finding) -> list[str]:
    """The subject heads the table: Markdown has no table without a head."""
    rows: list[tuple[str, Any]] = [("where", one.subject), ("when", when(one)), *one.measured.items()]
    if one.ranks:
        rows.insert(2, ("seen on", on_ranks(one.ranks)))
    shortened = [(label(name), one_line(shown(value), limit=300)) for name, value in rows]
    head, *lines = (f"| {escape(name)} | {escape(text)} |" for name, text in shortened)
    return [head, "|---|---|", *lines]


def report(whole: Report) -> str:
    """The report: causes first, symptoms under them, then what was not judged and how the run was set up."""
    lines = [f"## {capital(verdict(whole))}", "", f"{escape(capital(ending(whole)))}."]
    for group in by_code(whole.headlines):
        one = group[0]
        lines += ["", f"### {one.severity} {one.code} {one.name}", "", formatted(one.message), "", *_table(one)]
        if one.fix:
            lines += ["", f"**Fix:** {formatted(one.fix)}"]
        if group[1:]:
            lines += ["", f"The same in {plural(len(group) - 1, 'more place')}:", "", *_places(group[1:])]
        symptoms = by_code(whole.symptoms(one))
        if symptoms:
            lines += ["", "Leads to:", "", *(f"- {_title(item[0])}: {formatted(item[0].message)}" for item in symptoms)]
    lines += _not_judged(whole)
    lines += _set_up(whole.context)
    return "\n".join(lines) + "\n"


def _title(one: Finding) -> str:
    return f"{one.severity} {one.code} {one.name}"


def _places(group: Iterable[Finding]) -> Iterator[str]:
    told = list(group)
    for one in told[:MOST_PLACES]:
        seen_on = f", {on_ranks(one.ranks)}" if one.ranks else ""
        yield f"- {escape(one.subject)}, {when(one)}{seen_on}: {formatted(one.message)}"
    if len(told) > MOST_PLACES:
        yield f"- and {len(told) - MOST_PLACES} more"


def _not_judged(whole: Report) -> list[str]:
    reasons = skips_by_reason(whole)
    if not reasons:
        return []
    return ["", "### Not judged", "", *(f"- {listed(codes)}, because {escape(reason)}" for reason, codes in reasons)]


def _set_up(context: RunContext | None) -> list[str]:
    if context is None:
        return ["", "Training did not start: how the run is set up is not known."]
    versions: Mapping[str, str] = context.versions
    told = [f"{clean(name)} {clean(version)}" for name, version in versions.items()]
    model = f"{context.model}, {context.parameters:,} trainable parameters, {context.precision}, {context.strategy}"
    return ["", "### The run", "", f"- {escape(model)}", *([f"- {escape(listed(told))}"] if told else [])]
