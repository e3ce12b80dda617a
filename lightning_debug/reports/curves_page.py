"""Finished runs side by side: a table over them, and for each its curves with the verdicts marked, on one page."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lightning_debug.finding import Finding
from lightning_debug.reports._curves import Chart
from lightning_debug.reports.html_report import template
from lightning_debug.reports.plots import Plot, draw, marks

COLUMNS = ("run", "verdict", "epochs", "train loss", "val loss", "metric", "keep epoch")


@dataclass(frozen=True)
class RunCurves:
    """One run, ready to be shown.

    Args:
        name: Its name.
        cells: What the table says of it, by :data:`COLUMNS` without the first.
        charts: Its curves.
        findings: What was found.
        notes: What could not be read, and what was left out.
        epochs: The step at which each epoch was validated.
    """

    name: str
    cells: tuple[str, ...]
    charts: tuple[Chart, ...] = ()
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    epochs: Mapping[int, int] = field(default_factory=dict)

    @property
    def plots(self) -> tuple[Plot, ...]:
        """Its charts, drawn."""
        marked = marks(self._placed(), self.epochs)
        return tuple(draw(chart, marked) for chart in self.charts)

    def _placed(self) -> list[Finding]:
        """What was found at an epoch, or at a step that was logged."""
        told = [
            item for item in self.findings if {"epoch", "lowest_epoch"} & set(item.measured) or item.code == "LD713"
        ]
        return [dataclasses.replace(item, at=dataclasses.replace(item.at, stage="train")) for item in told]


def page(runs: Sequence[RunCurves]) -> str:
    """All runs on one self-contained page."""
    return template("curves.html.jinja").render(runs=runs, columns=COLUMNS)


def table(runs: Sequence[RunCurves]) -> list[str]:
    r"""The table as lines of text.

    >>> print(*table([RunCurves("a", ("no warning", "3", "0.1", "0.2", "-", "2"))]), sep="\n")
    run  verdict     epochs  train loss  val loss  metric  keep epoch
    a    no warning  3       0.1         0.2       -       2
    """
    rows = [COLUMNS, *((run.name, *run.cells) for run in runs)]
    widths = [max(len(row[index]) for row in rows) for index in range(len(COLUMNS))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
