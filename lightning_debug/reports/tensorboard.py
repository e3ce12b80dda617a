"""The report in TensorBoard: a text for each finding, the report as text, curves, and one merged layout.

Everything stands under ``lightning_debug/`` beside what the user's own code logs:

| tab | tag |
|---|---|
| Text | ``lightning_debug/LD201 softmax-before-cross-entropy`` for each code found, ``lightning_debug/report`` |
| Text | ``lightning_debug/shapes``: the table of shapes, where one was asked for |
| Scalars | ``lightning_debug/<tag>`` for each value that evidence offers |
| Images | ``lightning_debug/curves``: training and validation loss, with the epochs that the verdicts tell of marked |
| Images | ``lightning_debug/learning_rate_of_<scheduler>``: the rate that will happen, beside the one that was meant |
| Custom Scalars | training and validation loss on one chart, each family of our curves on one |
"""

from __future__ import annotations

from typing import Any

from lightning_debug.evidence import Evidence
from lightning_debug.evidence.errors import ShapeTable
from lightning_debug.evidence.schedules import ScheduleForecast
from lightning_debug.finding import Finding, Report
from lightning_debug.record import Record
from lightning_debug.reports import markdown, shapes
from lightning_debug.reports._curves import PREFIX, charts, curves, ends_of_epochs, family
from lightning_debug.reports._layout import Layout, merged, ours, written
from lightning_debug.reports._schedules import schedule_charts
from lightning_debug.reports._text import clean
from lightning_debug.reports.plots import VERDICTS, marks, picture

MOST_FAMILIES = 20
MOST_TAGS = 8
EPOCH_LOSS, FEWEST_EPOCHS = "epoch_loss/", 2
"""The tags of the losses by epoch, and from how many epochs on a picture of them is drawn."""
LAYOUT_FROM_STEP = 1
"""The layout is written at the first evidence from this step on: by then the user's own code has written its own."""


class TensorBoardSink:
    """Writes to one TensorBoard writer.

    Args:
        writer: A ``SummaryWriter``, or anything with its methods.
    """

    def __init__(self, writer: Any) -> None:
        self._writer = writer
        self._step = 0
        self._findings: dict[str, list[Finding]] = {}
        self._families: dict[str, dict[str, None]] = {}
        self._layout: Layout | None = None
        self._layout_note = ""
        self._forecasts: list[ScheduleForecast] = []

    def on_evidence(self, evidence: Evidence) -> None:
        """Draws what it offers for drawing."""
        self._step = max(self._step, evidence.at.step)
        for tag, value in evidence.scalars().items():
            name = tag.removeprefix(PREFIX)
            self._writer.add_scalar(f"{PREFIX}{name}", value, evidence.at.step)
            self._remember(name)
        if isinstance(evidence, ShapeTable):
            table = "\n".join(f"    {line}" for line in shapes.lines(evidence))  # indented: code, in Markdown
            self._write_text("shapes", table, evidence.at.step)
        if isinstance(evidence, ScheduleForecast):
            self._forecasts.append(evidence)
        elif self._forecasts and self._step:  # by the first step what is found before it has been found
            self._draw_rates()
        if self._layout is None and not self._layout_note and self._step >= LAYOUT_FROM_STEP:
            self._lay_out()

    def on_finding(self, finding: Finding) -> None:
        """Writes all findings of that code: of several texts under one tag only the last is sure to be shown."""
        self._step = max(self._step, finding.at.step)
        told = self._findings.setdefault(finding.code, [])
        told.append(finding)
        step = max(item.at.step for item in told)  # a tag whose steps go back loses what was there
        self._write_text(f"{finding.code} {finding.name}", markdown.findings(told), step)
        self._writer.flush()

    def on_report(self, report: Report, record: Record) -> None:
        """Writes the report, and the layout again if the user's own code has replaced it since."""
        self._lay_out()
        if self._forecasts:
            self._draw_rates()
        text = markdown.report(report)
        self._write_text("report", f"{text}\n{self._layout_note}" if self._layout_note else text, self._step)
        self._writer.flush()  # after an exception nobody else may come to do it
        self._draw(report, record)

    def _draw(self, report: Report, record: Record) -> None:
        """One picture of the losses by epoch, with what was found marked where it happened."""
        epochs = ends_of_epochs(record)
        drawn = [curve for curve in curves(record) if curve.tag.startswith(EPOCH_LOSS)]
        if len(epochs) < FEWEST_EPOCHS or not drawn:
            return
        (chart, *_) = charts(drawn)
        told = [item for item in report.findings if item.code.startswith(VERDICTS)]
        title = " · ".join(f"{item.code} {item.name}" for item in told) or "training and validation loss"
        pixels = picture(chart, marks(told, epochs), title)
        self._writer.add_image(f"{PREFIX}curves", pixels, self._step, dataformats="HWC")
        self._writer.flush()

    def _draw_rates(self) -> None:
        """The learning rates to come, beside those that were meant."""
        told = [item for items in self._findings.values() for item in items]
        forecasts, self._forecasts = self._forecasts, []
        if not hasattr(self._writer, "add_image"):
            return
        for chart in schedule_charts(forecasts, told):
            name = clean(chart.title.replace(" ", "_"))
            self._writer.add_image(f"{PREFIX}{name}", picture(chart, (), chart.title), 0, dataformats="HWC")
        self._writer.flush()

    def _remember(self, name: str) -> None:
        title = family(name)
        if title in self._families or len(self._families) < MOST_FAMILIES:
            tags = self._families.setdefault(title, {})
            if len(tags) < MOST_TAGS:
                tags.setdefault(f"{PREFIX}{name}")

    def _write_text(self, name: str, text: str, step: int) -> None:
        self._writer.add_text(f"{PREFIX}{clean(name)}", clean(text), step)

    def _lay_out(self) -> None:
        folder = getattr(self._writer, "log_dir", None) or getattr(self._writer, "logdir", None)
        present = self._layout
        if isinstance(folder, str):
            self._writer.flush()
            try:
                present = written(folder)
            except (OSError, ValueError) as error:  # theirs may be there: ours must not replace it
                self._layout_note = f"The custom-scalars layout is left as it is: {markdown.escape(error)}."
                return
        self._layout = merged(present, ours(self._families))
        if self._layout != present:
            self._writer.add_custom_scalars(self._layout)
