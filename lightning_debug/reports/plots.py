"""Charts as SVG text that takes its colours from the page it stands in, and as pixels for where there is no page."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightning_debug.finding import Finding
from lightning_debug.reports._curves import Chart, Curve
from lightning_debug.reports._drawing import drawing, label_rows
from lightning_debug.reports._frame import LOG_SPAN

LIGHT = ("#1d5fa8", "#d1600f", "#1a7f37", "#8250df", "#a8326e", "#5c6670")
"""The curve colours on white."""

VERDICTS = "LD7"
"""Findings on the curves as a whole: they tell the epoch or step that they are about."""

MARKS = 12
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9.0,
    "text.color": "#24292f",
    "axes.edgecolor": "#d9dde1",
    "axes.labelcolor": "#24292f",
    "xtick.color": "#24292f",
    "ytick.color": "#24292f",
    "grid.color": "#d9dde1",
    "legend.frameon": False,
    "axes.unicode_minus": False,
}


@dataclass(frozen=True)
class Plot:
    """A chart ready to be shown.

    Args:
        title: What it shows.
        svg: The drawing, an ``<svg>`` element.
        note: What a reader must know of it: curves and values left out.
    """

    title: str
    svg: str
    note: str = ""


def marks(findings: Iterable[Finding], epochs: Mapping[int, int] | None = None) -> tuple[tuple[int, str], ...]:
    """Step and codes of what was found during training or validation, earliest first.

    A verdict on the curves stands where what it tells of happened, not at the end of the run where it was reached.

    Args:
        findings: What was found.
        epochs: The step at which each epoch ended, where known.

    >>> marks([])
    ()
    """
    codes: dict[int, list[str]] = {}
    for finding in findings:
        if finding.at.stage in ("train", "validate"):
            step, label = _place(finding, epochs or {})
            if label not in codes.setdefault(step, []):
                codes[step].append(label)
    told = ((step, f"{', '.join(here[:2])}{' …' if len(here) > 2 else ''}") for step, here in sorted(codes.items()))
    return tuple(told)[:MARKS]


def _place(finding: Finding, epochs: Mapping[int, int]) -> tuple[int, str]:
    if finding.code.startswith(VERDICTS):
        for name in ("lowest_epoch", "epoch"):
            epoch = finding.measured.get(name)
            if isinstance(epoch, int) and epoch in epochs:
                return epochs[epoch], f"{finding.code}: epoch {epoch}"
        for name in ("lowest_step", "settled_step", "step"):
            step = finding.measured.get(name)
            if isinstance(step, int):
                return step, f"{finding.code}: step {step}"
    return finding.at.step, finding.code


def draw(chart: Chart, marked: Sequence[tuple[int, str]] = ()) -> Plot:
    """Draws a chart.

    Args:
        chart: The curves.
        marked: Steps to mark with a label (see :func:`marks`).
    """
    return Plot(chart.title, drawing(chart, marked), _note(chart))


def picture(chart: Chart, marked: Sequence[tuple[int, str]] = (), title: str = "") -> Any:
    """The same as pixels on white, ``(height, width, 3)`` of bytes: for where no page gives the colours.

    Args:
        chart: The curves.
        marked: Steps to mark with a label.
        title: What stands above.
    """
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with _style(_STYLE):
        figure = _figure(chart, marked, LIGHT, "#b42318")
        if title:
            figure.suptitle(title, fontsize=9, x=0.01, ha="left", wrap=True)
        figure.set_dpi(144)
        canvas: Any = FigureCanvasAgg(figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()


@contextlib.contextmanager
def _style(style: Mapping[str, Any]) -> Iterator[None]:
    import matplotlib as mpl

    with mpl.rc_context(style), warnings.catch_warnings():  # type: ignore[arg-type]
        warnings.simplefilter("ignore")  # matplotlib's remarks are no news of the user's program
        yield


def _figure(chart: Chart, marked: Sequence[tuple[int, str]], colours: Sequence[str], mark: str) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 2.7), layout="constrained", dpi=72)
    axes = figure.add_subplot()
    for index, curve in enumerate(chart.curves):
        _draw_curve(axes, curve, colours[index % len(colours)], dotted=not chart.linear)
    _dress(axes, chart, marked, mark)
    return figure


def _draw_curve(axes: Any, curve: Curve, colour: str, *, dotted: bool) -> None:
    steps = [math.nan if step < 0 else step for step, _ in curve.points]
    values = [value if math.isfinite(value) else math.nan for _, value in curve.points]
    dots = "." if dotted and sum(math.isfinite(value) for value in values) < 30 else None
    style = {"linestyle": (0, (4, 2))} if curve.dashed else {"marker": dots, "markersize": 5}
    axes.plot(steps, values, color=colour, linewidth=1.6, label=curve.tag, **style)
    broken = [step for step, value in curve.points if step >= 0 and not math.isfinite(value)]
    if broken:  # on the upper edge, whatever the scale
        edge = axes.get_xaxis_transform()
        axes.plot(broken, [0.97] * len(broken), "x", color=colour, markersize=6, transform=edge, clip_on=False)


def _dress(axes: Any, chart: Chart, marked: Sequence[tuple[int, str]], mark: str) -> None:
    finite = [value for curve in chart.curves for _, value in curve.points if math.isfinite(value)]
    if finite and not chart.linear and min(finite) > 0 and max(finite) / min(finite) > LOG_SPAN:
        axes.set_yscale("log")
    axes.margins(x=0.02)
    for step, _ in marked:
        axes.axvline(step, color=mark, linewidth=1.0, linestyle=(0, (4, 3)))
    lowest, highest = axes.get_xlim()
    for (step, label), row in zip(
        marked, label_rows([step for step, _ in marked], (highest - lowest) / 6), strict=True
    ):
        axes.annotate(
            label,
            (step, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(-1, 2 + 9 * row),
            textcoords="offset points",
            color=mark,
            fontsize=8,
        )
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel(chart.axis, loc="right")  # the left is for the values read
    axes.grid(visible=True, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)


def _note(chart: Chart) -> str:
    notes = []
    if chart.left_out:
        notes.append(f"{chart.left_out} more curves of this family are in report.json.")
    if any(step < 0 for curve in chart.curves for step, _ in curve.points):
        notes.append("The middle of the run is not kept: the line is broken there.")
    if any(step >= 0 and not math.isfinite(value) for curve in chart.curves for step, value in curve.points):
        notes.append("A cross on the upper edge is a value that is NaN or infinite.")
    return " ".join(notes)
