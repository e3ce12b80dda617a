"""The report in the console: one line when a finding appears, a summary at the end.

A healthy run is told nothing: as long as no warning and no error was found, nothing is printed. The text goes
to standard error, so that a script's own output can still be parsed. In a terminal it is coloured; in a log
file, under ``NO_COLOR`` or in a dumb terminal it is plain text, one line for each statement.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lightning_debug.evidence import Evidence
from lightning_debug.evidence.errors import ShapeTable
from lightning_debug.finding import Finding, Report, Severity
from lightning_debug.record import Record
from lightning_debug.reports import shapes
from lightning_debug.reports._text import (
    alarms,
    by_code,
    clean,
    ending,
    label,
    listed,
    on_ranks,
    one_line,
    place,
    plural,
    shown,
    shown_path,
    skips_by_reason,
    verdict,
    when,
)

Row = tuple[str, str]
"""A label and its text. The label :data:`STATEMENT` has none; :data:`AGAIN` goes on under the label above."""

STATEMENT, AGAIN = "", " "
LABEL_WIDTH = 10

TOLD_PER_CODE = 3
"""How many findings of one code are told in full: forty modules with one fault are one fault."""

TABLE = 12
"""Lines of a table of shapes that are told in the console: the last ones before an error."""

BLOCKS = 12
REASONS = 3
STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "bold yellow", Severity.INFO: "bold blue"}
NAME = "lightning_debug"


def headline(finding: Finding) -> str:
    """Severity, code and name."""
    return f"{finding.severity} {finding.code} {finding.name}"


def finding_line(finding: Finding) -> str:
    """The one line that tells of a finding when it appears."""
    cause = f" (follows from {finding.explained_by})" if finding.explained_by else ""
    return f"{NAME}: {headline(finding)}{cause}: {one_line(finding.message)} [{place(finding)}]"


def rich_finding_line(finding: Finding) -> Text:
    """The same line for a terminal. Text objects, not markup: a message may hold ``[3, 4]``."""
    text, severity = finding_line(finding), headline(finding)
    before, _, after = text.partition(severity)
    place_at = after.rindex(f" [{place(finding)}]")
    return Text.assemble(
        (before, "dim"), (severity, STYLES[finding.severity]), after[:place_at], (after[place_at:], "dim")
    )


def summary(report: Report, page: str | None = None) -> str:
    """The end of a run as plain text; empty when no warning and no error was found.

    Args:
        report: What was found.
        page: Path of the HTML report, when there is one.
    """
    if not alarms(report):
        return ""
    told, left = _blocks(report)
    lines = [f"{NAME}: {verdict(report)}; {ending(report)}"]
    for finding, rows in told:
        lines += ["", headline(finding), *_plain(rows)]
    if left:
        lines += ["", left]
    lines += ["", *_plain(_closing(report, page))]
    return "\n".join(lines) + "\n"


def rich_summary(report: Report, page: str | None = None) -> RenderableType:
    """The end of a run for a terminal: the same statements as :func:`summary`."""
    told, left = _blocks(report)
    style = STYLES[report.worst or Severity.INFO]
    parts: list[RenderableType] = [Text.assemble((f"{NAME}: {verdict(report)}", style), f"; {ending(report)}")]
    for finding, rows in told:
        title = Text.assemble(
            (f"{finding.severity} {finding.code}", STYLES[finding.severity]), (f" {finding.name}", "bold")
        )
        parts += [Text(""), title, *_grids(rows)]
    if left:
        parts += [Text(""), Text(left)]
    parts += [Text(""), *_grids(_closing(report, page))]
    return Group(*parts)


def to_ansi(renderable: RenderableType, width: int, *, wrap: bool = True) -> str:
    """What rich would print, as text with escape codes: the stream itself may belong to a progress bar."""
    buffer = io.StringIO()
    console = Console(file=buffer, force_terminal=True, width=width, highlight=False, legacy_windows=False)
    if wrap:
        console.print(renderable, crop=False)
    else:
        console.print(renderable, soft_wrap=True)
    return buffer.getvalue()


def _blocks(report: Report) -> tuple[list[tuple[Finding, list[Row]]], str]:
    """Each cause with what is told under it (causes of one code share a block), and a line on those left out."""
    groups = by_code(item for item in report.headlines if _grave(report, item))
    told = [(group[0], [*_cause_rows(group), *_symptom_rows(report, group[0])]) for group in groups[:BLOCKS]]
    names = [f"{group[0].code} {group[0].name}" for group in groups[BLOCKS:]]
    return told, f"and {plural(len(names), 'more cause')}: {listed(names)}" if names else ""


def _grave(report: Report, cause: Finding) -> bool:
    return max(item.severity for item in (cause, *report.symptoms(cause))) >= Severity.WARNING


def _cause_rows(group: Sequence[Finding]) -> Iterator[Row]:
    first = group[0]
    yield STATEMENT, one_line(first.message)
    yield "where", one_line(first.subject)
    yield "when", when(first)
    if first.ranks:
        yield "seen on", on_ranks(first.ranks)
    table = first.measured.get("shapes")
    plain = {name: value for name, value in first.measured.items() if name != "shapes"}
    numbers = [f"{label(name)} = {shown(value)}" for name, value in plain.items() if _is_short(value)]
    if numbers:
        yield "measured", "; ".join(numbers)
    for position, line in enumerate(table[-TABLE:] if isinstance(table, (tuple, list)) else ()):
        yield AGAIN if position else "shapes", one_line(str(line))
    if first.fix:
        yield "fix", one_line(first.fix)
    for position, finding in enumerate(group[1:TOLD_PER_CODE]):
        yield AGAIN if position else "also", f"{one_line(finding.message)} [{place(finding)}]"
    rest = [one_line(finding.subject) for finding in group[TOLD_PER_CODE:]]
    if rest:
        yield AGAIN, f"and in {listed(rest, limit=6)}"


def _symptom_rows(report: Report, cause: Finding) -> Iterator[Row]:
    for position, group in enumerate(by_code(report.symptoms(cause))):
        yield AGAIN if position else "leads to", f"{headline(group[0])}: {_first(group)}"


def _first(group: Sequence[Finding]) -> str:
    more = f" (and in {plural(len(group) - 1, 'more place')})" if len(group) > 1 else ""
    return f"{one_line(group[0].message)}{more}"


def _is_short(value: Any) -> bool:
    return "\n" not in str(value) and len(shown(value)) <= 120


def _closing(report: Report, page: str | None) -> list[Row]:
    """What stands under the causes: notes, what was not judged, where to read more."""
    notes = by_code(item for item in report.headlines if not _grave(report, item))
    told = [f"{group[0].code} {group[0].name}: {_first(group)}" for group in notes]
    skipped = _not_judged(report)
    rows = [(AGAIN if position else "notes", text) for position, text in enumerate(told)]
    rows += [(AGAIN if position else "not judged", text) for position, text in enumerate(skipped)]
    rows += [("read more", f"lightning-debug explain {finding.code}") for finding in alarms(report)[:1]]
    return rows if page is None else [*rows, ("report", clean(page))]


def _not_judged(report: Report) -> list[str]:
    """What stands in the way and can be changed; a rule that does not apply to the program is counted, not told."""
    reasons = skips_by_reason(report)
    count = sum(len(codes) for _, codes in reasons)
    if reasons and report.status.startswith("failed") and any(item.code.startswith("LD1") for item in report.headlines):
        return [f"{plural(count, 'rule')}, most of them because the run ended there; the report names each reason"]
    told = skips_by_reason(report, hindrances=True)[:REASONS]
    lines = [f"{listed(codes, limit=6)}, because {reason}" for reason, codes in told]
    left = plural(count - sum(len(codes) for _, codes in told), "more rule" if lines else "rule")
    if len(told) < len(reasons):
        lines.append(f"{left} that do not apply or lack evidence; the report names each reason")
    return lines


def _plain(rows: Sequence[Row]) -> Iterator[str]:
    for name, text in rows:
        yield f"  {text}" if name == STATEMENT else f"  {name:<{LABEL_WIDTH}} {text}"


def _grids(rows: Sequence[Row]) -> Iterator[RenderableType]:
    grid: Table | None = None
    for name, text in rows:
        if name == STATEMENT:
            grid = None
            yield Padding(Text(text), (0, 0, 0, 2))
        elif name == "report":  # it is there to be copied: never wrapped
            yield Text.assemble((f"  {name:<{LABEL_WIDTH}} ", "dim"), text, no_wrap=True, overflow="ignore")
        else:
            if grid is None:
                grid = Table.grid(padding=(0, 1), pad_edge=False)
                grid.add_column(style="dim", width=LABEL_WIDTH + 2)
                grid.add_column()
                yield grid
            grid.add_row(f"  {name}", Text(text, style="bold" if name == "fix" else ""))


class ConsoleSink:
    """Prints findings as they appear and a summary at the end, to standard error.

    Args:
        page: Path of the HTML report that is being written, when one is.
        stream: Where to print; by default what ``sys.stderr`` is at that time.
    """

    def __init__(self, page: str | None = None, stream: TextIO | None = None) -> None:
        self._page = page
        self._stream = stream
        self._told: dict[str, int] = {}
        self._summed: set[tuple[str, str]] = set()

    def on_evidence(self, evidence: Evidence) -> None:
        """A table of shapes is printed, where one was asked for; no other evidence is."""
        if isinstance(evidence, ShapeTable):
            text = "\n".join(f"{NAME}: {line}" if not at else line for at, line in enumerate(shapes.lines(evidence)))
            self._print(f"{text}\n", Text(text))

    def on_finding(self, finding: Finding) -> None:
        """One line for a warning or an error, three of one code; all else waits for the summary, if that is to come."""
        if finding.severity < Severity.WARNING and not self._summed:
            return
        self._told[finding.code] = told = self._told.get(finding.code, 0) + 1
        if told <= TOLD_PER_CODE:
            self._print(f"{finding_line(finding)}\n", rich_finding_line(finding), wrap=False)
        elif told == TOLD_PER_CODE + 1:
            text = f"{NAME}: more findings of {finding.code} {finding.name} are in the summary at the end"
            self._print(f"{text}\n", Text(text, style="dim"), wrap=False)

    def on_report(self, report: Report, record: Record) -> None:
        """Takes back what no longer holds, and prints the summary; again only for a new warning or error."""
        for code in sorted(self._told.keys() - {finding.code for finding in report.findings}):
            del self._told[code]
            why = next((f": {skip.reason}" for skip in report.skips if skip.code == code), "")
            text = f"{NAME}: {code}, told above, no longer holds at the end{why}"
            self._print(f"{text}\n", Text(text), wrap=False)
        fresh = {finding.key for finding in alarms(report)} - self._summed
        if not fresh:
            return
        self._summed |= fresh
        page = shown_path(self._page) if self._page is not None and os.path.exists(self._page) else None
        self._print(f"\n{summary(report, page)}\n", Group("", rich_summary(report, page), ""))

    def _print(self, plain: str, renderable: RenderableType, *, wrap: bool = True) -> None:
        stream = self._stream or sys.stderr
        if stream is None:  # a program without a console
            return
        width = min(shutil.get_terminal_size().columns, 120)
        text = to_ansi(renderable, width, wrap=wrap) if is_fancy(stream) else plain
        with _beside_progress_bars(stream):
            stream.write(text)
            stream.flush()


def is_fancy(stream: TextIO) -> bool:
    """Whether a stream is a terminal that may be written to in colour."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    real = getattr(stream, "rich_proxied_file", stream)  # while rich draws a bar, its proxy knows no encoding
    return stream.isatty() and "utf" in str(getattr(real, "encoding", "")).lower()


@contextlib.contextmanager
def _beside_progress_bars(stream: TextIO) -> Iterator[None]:
    """Takes tqdm's bars off the terminal while we write. Rich's bars do that by replacing ``sys.stderr``."""
    module = sys.modules.get("tqdm")
    bars = getattr(module, "tqdm", None)
    if bars is None or not hasattr(bars, "external_write_mode"):
        yield
        return
    with bars.external_write_mode(file=stream):
        yield
