"""The report as one HTML page: self-contained, without scripts, and without a single request to a network.

The page shows each finding with its numbers, its fix, its symptoms and its rule's page, the curves of the run
with the moment of each finding marked, how the run was set up, and what is not known.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jinja2
from markupsafe import Markup, escape

from lightning_debug.evidence import Evidence, RunContext
from lightning_debug.evidence.schedules import ScheduleForecast
from lightning_debug.finding import Finding, Report
from lightning_debug.record import Record
from lightning_debug.reports._curves import charts, curves, ends_of_epochs
from lightning_debug.reports._files import is_worth_a_file, write_text
from lightning_debug.reports._schedules import schedule_charts
from lightning_debug.reports._text import (
    alarms,
    by_code,
    capital,
    clean,
    ending,
    label,
    listed,
    on_ranks,
    one_line,
    plural,
    rule_of,
    shown,
    skips_by_reason,
    verdict,
    when,
)
from lightning_debug.reports.plots import Plot, draw, marks
from lightning_debug.rule import Rule

MOST_OTHERS = 50
MOST_PLOTS = 12
PROSE = ("What it sees", "Why it hurts", "How to fix", "When to ignore", "Thresholds", "References")

_CODE = re.compile(r"``(.+?)``|`([^`]+)`", re.DOTALL)
_URL = re.compile(r"https?://[^\s<>()\"']*[^\s<>()\"'.,;:]")
_BULLET = re.compile(r"^\s*[-*] ")


@dataclass(frozen=True)
class Line:
    """A line of a program, and whether it differs from the other program: the fault, or its cure."""

    text: str
    changed: bool


@dataclass(frozen=True)
class RulePage:
    """A rule's page, ready to be shown.

    Args:
        title: The fault in one sentence.
        sections: Heading and text of the prose.
        programs: Heading and lines of the broken and the repaired program.
    """

    title: str
    sections: tuple[tuple[str, str], ...]
    programs: tuple[tuple[str, tuple[Line, ...]], ...]


@dataclass(frozen=True)
class Card:
    """A finding, ready to be shown.

    Args:
        finding: The finding.
        page: Its rule's page, if there is one.
        others: More findings of the same code.
        symptoms: What follows from it.
    """

    finding: Finding
    page: RulePage | None
    others: tuple[Finding, ...] = ()
    symptoms: tuple[Card, ...] = ()


def render(
    report: Report,
    *,
    plots: Sequence[Plot] = (),
    plots_missing: str = "",
    find_rule: Callable[[str], Rule | None] = rule_of,
) -> str:
    """The page.

    Args:
        report: What was found.
        plots: Drawings of the run's curves.
        plots_missing: Why there are none, where that needs saying.
        find_rule: The rule behind a code; ``None`` where no page is known.
    """
    return template().render(
        report=report,
        cards=_cards(report.headlines, report, find_rule),
        most_others=MOST_OTHERS,
        alarmed=bool(alarms(report)),
        verdict=verdict(report),
        ending=ending(report),
        plots=plots,
        plots_missing=plots_missing,
        context=_context(report.context),
        unknown=_unknown(report),
        skips=[(listed(codes), reason) for reason, codes in skips_by_reason(report)],
    )


def draw_plots(report: Report, record: Record) -> tuple[tuple[Plot, ...], str]:
    """Drawings of a record's curves, and why there are none or not all."""
    rates = schedule_charts(record.of(ScheduleForecast), report.findings)
    found = charts(curves(record))
    if not found and not rates:
        return (), "Nothing that was recorded has a value over steps."
    marked = marks(report.findings, ends_of_epochs(record))
    try:
        plots = tuple(draw(chart, marked) for chart in found[:MOST_PLOTS])
        plots = (*plots[:1], *map(draw, rates), *plots[1:])  # the loss first
    except Exception as error:  # a page without curves is better than no page
        return (), f"The curves could not be drawn: {one_line(error)}"
    left = len(found) + len(rates) - len(plots)
    return plots, f"{left} more charts could be drawn from report.json." if left else ""


def _cards(findings: Sequence[Finding], report: Report, find_rule: Callable[[str], Rule | None]) -> tuple[Card, ...]:
    """A card for each code: one fault in forty modules is one fault."""
    return tuple(
        Card(
            group[0],
            _rule_page(find_rule(group[0].code)),
            group[1:],
            _cards(report.symptoms(group[0]), report, find_rule),
        )
        for group in by_code(findings)
    )


def _rule_page(rule: Rule | None) -> RulePage | None:
    if rule is None:
        return None
    page = rule.page
    thresholds = "\n".join(f"- `{name}` (default {value!r})" for name, value in rule.thresholds.items())
    sections = {**page.sections, "Thresholds": thresholds}
    prose_sections = tuple((name, capital(sections[name])) for name in PROSE if sections.get(name))
    broken, repaired = (page.sections.get(name, "").splitlines() for name in ("Broken", "Repaired"))
    lines = _compared(broken, repaired)
    named = tuple((name, text) for name, text in zip(("Broken", "Repaired"), lines, strict=True) if text)
    return RulePage(page.title, prose_sections, named)


def _compared(broken: list[str], repaired: list[str]) -> tuple[tuple[Line, ...], tuple[Line, ...]]:
    same_broken: set[int] = set()
    same_repaired: set[int] = set()
    for block in difflib.SequenceMatcher(None, broken, repaired, autojunk=False).get_matching_blocks():
        same_broken.update(range(block.a, block.a + block.size))
        same_repaired.update(range(block.b, block.b + block.size))
    return (
        tuple(Line(text, index not in same_broken) for index, text in enumerate(broken)),
        tuple(Line(text, index not in same_repaired) for index, text in enumerate(repaired)),
    )


def _context(context: RunContext | None) -> list[tuple[str, str]]:
    if context is None:
        return []
    manual = "" if context.automatic_optimization else " (manual optimization)"
    rows = [
        ("model", context.model),
        ("trainable parameters", f"{context.parameters:,}"),
        ("optimizers", f"{listed(context.optimizers)}{manual}"),
        ("epochs planned", "not bounded" if context.max_epochs in (None, -1) else shown(context.max_epochs)),
        ("batches planned", shown(context.planned_steps)),
        ("batches per optimizer step", shown(context.accumulate_grad_batches)),
        ("validation", shown(context.has_validation)),
        ("precision", context.precision),
        ("strategy", f"{context.strategy}, {context.world_size} process{'' if context.world_size == 1 else 'es'}"),
        ("device", context.device),
        ("compiled", shown(context.compiled)),
        ("resumed from a checkpoint", shown(context.resumed)),
        *((f"{name} version", version) for name, version in context.versions.items()),
    ]
    return [(name, clean(text) or "none") for name, text in rows]


def _unknown(report: Report) -> list[str]:
    """What a reader must not conclude from this page."""
    notes = []
    if report.context is None:
        notes.append("Training did not start: how the run is set up is not known.")
    if report.status.startswith(("failed", "interrupted")):
        notes.append("The run ended early: what comes later was not seen.")
    if report.status == "running":
        notes.append("The run was not over when this page was written.")
    for code, text in (("LD001", "A probe of this tool failed"), ("LD002", "A rule of this tool failed")):
        subjects = [one_line(finding.subject) for finding in report.findings if finding.code == code]
        if subjects:
            notes.append(f"{text} ({listed(subjects, limit=6)}): what it would have seen is not judged.")
    notes.append("What was looked at and is not named here looked right; that is no proof that it is.")
    return notes


def prose(text: str) -> Markup:
    """A section's text as HTML: paragraphs, bullets, code between backticks, addresses as links."""
    parts = []
    for paragraph in re.split(r"\n\s*\n|\n\s*(?=https?://)", clean(text).strip()):  # one reference a line
        lines = paragraph.splitlines()
        if lines and all(_BULLET.match(line) or line.startswith("  ") for line in lines):
            items = re.split(r"(?m)^\s*[-*] ", paragraph)[1:]
            parts.append(Markup("<ul>{}</ul>").format(Markup("").join(_item(item) for item in items)))
        else:
            parts.append(Markup("<p>{}</p>").format(_inline(" ".join(lines))))
    return Markup("\n").join(parts)


def _item(text: str) -> Markup:
    return Markup("<li>{}</li>").format(_inline(" ".join(text.split())))


def _inline(text: str) -> Markup:
    escaped = str(escape(text))
    coded = _CODE.sub(lambda match: f"<code>{match[1] or match[2]}</code>", escaped)
    return Markup(_URL.sub(lambda match: f'<a href="{match[0]}" rel="noreferrer">{match[0]}</a>', coded))


@functools.cache
def template(name: str = "report.html.jinja") -> jinja2.Template:
    """A page to fill."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lightning_debug.reports", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        clean=clean, label=label, shown=shown, prose=prose, inline=_inline, plural=plural, capital=capital
    )
    environment.filters.update(when=when, on_ranks=on_ranks)
    return environment.get_template(name)


class HtmlSink:
    """Writes ``report.html`` when the run ends.

    Args:
        path: The file.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def on_evidence(self, evidence: Evidence) -> None:
        """The record keeps it."""

    def on_finding(self, finding: Finding) -> None:
        """The report will hold it."""

    def on_report(self, report: Report, record: Record) -> None:
        """Writes the page."""
        if not is_worth_a_file(report):
            return
        plots, missing = draw_plots(report, record)
        write_text(self._path, render(report, plots=plots, plots_missing=missing))
