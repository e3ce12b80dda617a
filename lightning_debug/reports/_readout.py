"""Reading values off a chart without a script: strips over the drawing that show their values under the pointer.

A strip is a transparent rectangle with a tooltip; a line, dots and the values are hidden until the pointer (or a
finger) is over it. The page's style sheet does that, by the class ``read`` (see ``page.css``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lightning_debug.reports._curves import Curve
from lightning_debug.reports._frame import HEIGHT, Frame
from lightning_debug.reports._text import clean

MOST_STRIPS = 150
"""More steps than this share a strip; it shows the value of each curve that is nearest to its middle."""

SIZE = 9


def strips(frame: Frame, curves: Sequence[Curve], colours: Sequence[str]) -> str:
    """SVG elements to be put at the end of a drawing.

    Args:
        frame: Where things stand.
        curves: What was drawn.
        colours: Colour of each curve.
    """
    steps = _steps(curves)
    if not len(steps):
        return ""
    places = np.array([frame.across(step) for step in steps])
    ends = np.concatenate([[frame.left], (places[1:] + places[:-1]) / 2, [frame.right]])
    values = [_values(curve, steps) for curve in curves]
    parts = []
    for index, (step, place) in enumerate(zip(steps, places, strict=True)):
        known = [
            (curve.tag, value, colour)
            for curve, column, colour in zip(curves, values, colours, strict=True)
            if (value := column[index]) is not None
        ]
        told = "".join(f"\n{escaped(tag)} {value:.6g}" for tag, value, _ in known)
        dots = "".join(_dot(frame, step, value, colour) for _, value, colour in known)
        numbers = "".join(f'<tspan dx="8" fill="{colour}">{value:.4g}</tspan>' for _, value, colour in known)
        left, right = float(ends[index]), float(ends[index + 1])
        top, bottom = frame.top, frame.bottom
        parts.append(
            f'<g class="read"><rect x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" '
            f'height="{bottom - top:.1f}"/><title>step {step:g}{told}</title>'
            f'<line x1="{place:.1f}" x2="{place:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>{dots}'
            f'<text x="{frame.left:.1f}" y="{HEIGHT - 6:.1f}" font-size="{SIZE}">step {step:g}{numbers}</text></g>'
        )
    return "".join(parts)


def _steps(curves: Sequence[Curve]) -> Any:
    """The steps that have a strip."""
    found = sorted({step for curve in curves for step, value in curve.points if step >= 0 and math.isfinite(value)})
    chosen = np.array(found, dtype=np.float64)
    if len(chosen) > MOST_STRIPS:
        chosen = chosen[np.unique(np.linspace(0, len(chosen) - 1, MOST_STRIPS).round().astype(int))]
    return chosen


def _values(curve: Curve, steps: Any) -> list[float | None]:
    """The value nearest to each step, where one is nearer to it than to the steps beside it."""
    points = sorted((step, value) for step, value in curve.points if step >= 0 and math.isfinite(value))
    if not points:
        return [None] * len(steps)
    known = np.array([step for step, _ in points], dtype=np.float64)
    middles = (steps[1:] + steps[:-1]) / 2
    owner = np.searchsorted(middles, known)
    found: list[float | None] = [None] * len(steps)
    near = np.full(len(steps), np.inf)
    for index, (step, value) in zip(owner, points, strict=True):
        if abs(step - steps[index]) < near[index]:
            found[index], near[index] = value, abs(step - steps[index])
    return found


def _dot(frame: Frame, step: float, value: float, colour: str) -> str:
    across, down = frame.across(step), frame.down(value)
    if not (math.isfinite(across) and math.isfinite(down)):
        return ""
    return f'<circle cx="{across:.1f}" cy="{down:.1f}" r="3" fill="{colour}"/>'


def escaped(text: str) -> str:
    """A text as it stands in an element."""
    return clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
