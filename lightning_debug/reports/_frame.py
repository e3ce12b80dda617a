"""Where things stand on a chart: axes, scales and their ticks, in units of the drawing."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lightning_debug.reports._curves import Chart

WIDTH, HEIGHT = 518.0, 194.0
"""Of a drawing."""

LINE = 9.0
"""Height of a line of text."""

LETTER = 4.5
"""Width of a letter of the legend, about."""

LOG_SPAN = 100.0
"""A chart whose positive values span more than this is drawn on a logarithmic axis."""

MOST = 1e300
"""Values beyond are drawn as this."""


@dataclass(frozen=True)
class Frame:
    """The axes of a chart.

    Args:
        left: Of the axes, from the left of the drawing.
        right: Likewise.
        top: From the top of the drawing.
        bottom: Likewise.
        steps: First and last step shown.
        values: Lowest and highest value shown; their logarithms on a logarithmic axis.
        logarithmic: Whether the values' axis is.
    """

    left: float
    right: float
    top: float
    bottom: float
    steps: tuple[float, float]
    values: tuple[float, float]
    logarithmic: bool

    def across(self, step: float) -> float:
        """How far from the left a step is."""
        low, high = self.steps
        return self.left + (step - low) / (high - low) * (self.right - self.left)

    def down(self, value: float) -> float:
        """How far from the top a value is; NaN where it has no place."""
        if self.logarithmic:
            value = math.log10(value) if value > 0 else math.nan
        low, high = self.values
        value = min(max(value, -MOST), MOST)
        return self.bottom - (value / 2 - low / 2) / (high / 2 - low / 2) * (self.bottom - self.top)

    def step_ticks(self) -> list[tuple[float, str]]:
        """Whole steps to be written below the axis, with their place."""
        return [(self.across(step), f"{step:.0f}") for step in ticks(*self.steps, 8, whole=True)]

    def value_ticks(self) -> list[tuple[float, str]]:
        """Values to be written beside the axis, with their place."""
        low, high = self.values
        if not self.logarithmic:
            found = ticks(low, high, 5)
            return [(self.down(value), f"{value:.6g}") for value in found]
        powers = ticks(low, high, 5, whole=True)
        return [(self.down(10.0**power), f"{10.0**power:g}") for power in powers if abs(power) < 300]


def frame_of(chart: Chart, marked: list[float], lines: int) -> Frame:
    """Axes for a chart.

    Args:
        chart: The curves.
        marked: Steps that are marked.
        lines: How many lines the marks' labels take above the axes.
    """
    points = [point for curve in chart.curves for point in curve.points if point[0] >= 0]
    values = [value for _, value in points if math.isfinite(value)]
    logarithmic = bool(values) and not chart.linear and min(values) > 0 and max(values) / min(values) > LOG_SPAN
    shown = [math.log10(value) if logarithmic else min(max(value, -MOST), MOST) for value in values]
    widest = max((len(curve.tag) for curve in chart.curves), default=0)
    legend = min(0.45 * WIDTH, 34 + LETTER * widest)
    return Frame(
        left=54,
        right=WIDTH - legend,
        top=10 + LINE * lines,
        bottom=HEIGHT - 34,
        steps=_span([*marked, *(float(step) for step, _ in points)], 0.02),
        values=_span(shown, 0.05),
        logarithmic=logarithmic,
    )


def _span(values: list[float], margin: float) -> tuple[float, float]:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    room = margin * (high / 2 - low / 2) * 2 if high > low else 0.05 * abs(high) or 0.5
    return low - room, high + room


def ticks(low: float, high: float, most: int, *, whole: bool = False) -> list[float]:
    """Round numbers in a range, ``most`` and one at most.

    >>> ticks(0, 10, 5)
    [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    >>> ticks(-0.2, 1.1, 8, whole=True)
    [0.0, 1.0]
    """
    least = (high / most - low / most) or 1.0
    unit = 10.0 ** math.floor(math.log10(least))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10, 20) if unit * factor >= least * (1 - 1e-9))
    if whole:
        step = max(1.0, math.ceil(step))
    first = math.ceil(low / step - 1e-9)
    found = [step * (first + index) for index in range(most + 2)]
    return [0.0 if abs(value) < step * 1e-9 else value for value in found if value <= high + step * 1e-9]
