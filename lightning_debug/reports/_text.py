"""What all forms of the report say in the same words: counts, values, moments, what was not judged."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lightning_debug import registry
from lightning_debug.finding import Finding, Report, Severity
from lightning_debug.rule import Rule

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_NOTHING_SEEN = re.compile(r"^no [A-Z]\w+ was recorded$")
NOTHING_SEEN = "nothing was recorded that they could judge"


def clean(text: object) -> str:
    r"""Text without what a terminal or a page would act on: control characters and lone surrogates.

    >>> clean("red \x1b[31m, bell \x07")
    'red \\x1b[31m, bell \\x07'
    """
    visible = _CONTROL.sub(lambda match: repr(match[0])[1:-1], str(text))
    return visible.encode("utf-8", "backslashreplace").decode("utf-8")


def one_line(text: object, limit: int | None = None) -> str:
    r"""Text with its line breaks and runs of spaces made single spaces, cut at ``limit`` characters.

    >>> one_line("a  b\n c", limit=4)
    'a b…'
    """
    short = " ".join(clean(text).split())
    if limit is None or len(short) <= limit:
        return short
    return f"{short[: limit - 1].rstrip()}…"


def label(name: object) -> str:
    """A measured value's name as words.

    >>> label("share_of_rows")
    'share of rows'
    """
    return one_line(str(name).replace("_", " "))


def shown(value: Any, items: int = 6) -> str:
    """A measured value as a reader wants it: four digits, no quotes, long sequences cut.

    >>> shown(0.123456), shown(True), shown(None), shown((1, 2.5)), shown(float("inf"))
    ('0.1235', 'yes', 'not known', '1, 2.5', 'inf')
    """
    if value is None:
        return "not known"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else str(float(value))
    if isinstance(value, Mapping):
        parts = [f"{clean(key)}: {_inner(item, items)}" for key, item in list(value.items())[:items]]
    elif isinstance(value, Iterable) and not isinstance(value, str):
        value = list(value)
        parts = [_inner(item, items) for item in value[:items]]
    else:
        return clean(value)
    more = len(value) - len(parts)
    return ", ".join(parts) + (f", … {more} more" if more else "") if parts else "none"


def _inner(value: Any, items: int) -> str:
    nested = isinstance(value, Iterable) and not isinstance(value, str)
    return f"({shown(value, items)})" if nested else shown(value, items)


def listed(words: Sequence[str], limit: int | None = None) -> str:
    """Words as an enumeration.

    >>> listed(["a"]), listed(["a", "b", "c"]), listed(["a", "b", "c", "d"], limit=2)
    ('a', 'a, b and c', 'a, b and 2 more')
    """
    if limit is not None and len(words) > limit:
        return f"{', '.join(words[:limit])} and {len(words) - limit} more"
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else ""


def capital(text: str) -> str:
    """Text as a sentence begins, unless it begins with a name or an address.

    >>> capital("no fault found"), capital("cross_entropy applies it")
    ('No fault found', 'cross_entropy applies it')
    """
    first = text.split(maxsplit=1)[0] if text.strip() else ""
    return text[:1].upper() + text[1:] if first.rstrip(",;:.").isalpha() else text


def plural(count: int, word: str) -> str:
    """A count with its word.

    >>> plural(1, "error"), plural(0, "warning")
    ('1 error', '0 warnings')
    """
    return f"{count} {word}{'' if count == 1 else 's'}"


def alarms(report: Report) -> tuple[Finding, ...]:
    """The findings that count as alarms: warnings and errors."""
    return tuple(finding for finding in report.findings if finding.severity >= Severity.WARNING)


def verdict(report: Report) -> str:
    """The report in half a sentence: causes by severity, and how many symptoms follow from them.

    >>> verdict(Report())
    'no fault found'
    """
    causes = [group[0] for group in by_code(report.headlines)]  # one fault in forty modules is one fault
    counts = {severity: sum(item.severity == severity for item in causes) for severity in Severity}
    words = [plural(counts[item], item.value) for item in (Severity.ERROR, Severity.WARNING) if counts[item]]
    folded = len(by_code(item for item in alarms(report) if item.explained_by is not None))
    if folded:
        words.append(plural(folded, "symptom"))
    return listed(words) if words else "no fault found"


def ending(report: Report) -> str:
    """How the run ended, as a sentence without its full stop.

    >>> ending(Report(status="failed: ValueError: x"))
    'the run failed with ValueError: x'
    >>> ending(Report(status="failed: SIGTERMException: "))  # an exception without a text
    'the run failed with SIGTERMException'
    """
    status = one_line(report.status, limit=300)
    if status.startswith("failed: FaultFound"):
        return "the run was stopped by fail_on"
    if status.startswith("failed: "):
        return f"the run failed with {status.removeprefix('failed: ').rstrip(': ')}"
    return {"running": "the run goes on", "finished": "the run finished"}.get(status, f"the run was {status}")


def place(finding: Finding) -> str:
    """Where and when, for a line of text."""
    return ", ".join(filter(None, [one_line(finding.subject), when(finding), on_ranks(finding.ranks)]))


def when(finding: Finding) -> str:
    """The moment; the rank is left out where all ranks that found it are named anyway."""
    return str(dataclasses.replace(finding.at, rank=0) if finding.ranks else finding.at)


def on_ranks(ranks: Sequence[int]) -> str:
    """The ranks of a finding in words; nothing where there is one process, or the run is not over.

    >>> on_ranks(()), on_ranks((1,)), on_ranks((0, 1)), on_ranks((0, 1, 2, 3, 6))
    ('', 'rank 1', 'ranks 0 and 1', 'ranks 0 to 3 and 6')
    """
    words: list[str] = []
    for _, run in itertools.groupby(enumerate(ranks), lambda item: item[1] - item[0]):
        row = [rank for _, rank in run]
        words += [f"{row[0]} to {row[-1]}"] if len(row) > 2 else map(str, row)
    return f"rank{'s' * (len(ranks) > 1)} {listed(words, limit=12)}" if words else ""


def by_code(findings: Iterable[Finding]) -> list[tuple[Finding, ...]]:
    """Findings gathered by code, in the order in which codes first appear."""
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.code, []).append(finding)
    return [tuple(group) for group in groups.values()]


def shown_path(path: str) -> str:
    """A path as one would type it: relative, where it lies below the working directory."""
    try:
        relative = os.path.relpath(path)
    except ValueError:  # on another drive
        return path
    return path if relative.startswith("..") else relative


def skips_by_reason(report: Report, *, hindrances: bool = False) -> list[tuple[str, tuple[str, ...]]]:
    """Reason and codes of what was not judged; first what can be changed, then what a rule or probe said itself.

    Where evidence is simply absent (most often the program has no such part) the reasons are merged into one.

    Args:
        report: The report.
        hindrances: Whether to give only what can be changed.
    """
    groups: dict[str, list[str]] = {}
    changeable: set[str] = set()
    for skip in report.skips:
        reason = one_line(skip.reason).rstrip(".")
        groups.setdefault(NOTHING_SEEN if _NOTHING_SEEN.match(reason) else reason, []).append(skip.code)
        changeable.update([reason] if skip.hindrance else [])
    ordered = sorted(groups, key=lambda reason: (reason == NOTHING_SEEN, reason not in changeable, groups[reason]))
    kept = [reason for reason in ordered if reason in changeable or not hindrances]
    return [(reason, tuple(dict.fromkeys(groups[reason]))) for reason in kept]


def rule_of(code: str) -> Rule | None:
    """The rule behind a code, or ``None`` where this version has none (a report of another version)."""
    try:
        return registry.get(code)
    except registry.UnknownRule:
        return None
