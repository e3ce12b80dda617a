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
from lightning_debug.reports._text import clean

MOST_STRIPS = 150
"""More steps than this share a strip; it shows the value of each curve that is nearest to its middle."""

SIZE = 9


def strips(figure: Any, axes: Any, curves: Sequence[Curve], colours: Sequence[str]) -> str:
    """SVG elements to be put at the end of a drawing.

    Args:
        figure: The figure, drawn with 72 dots an inch, so that its pixels are the drawing's units.
        axes: Its axes.
        curves: What was drawn.
        colours: Colour of each curve.
    """
    steps, places = _steps(axes, curves)
    if not len(steps):
        return ""
    height = float(figure.bbox.height)
    box = axes.get_window_extent()
    ends = np.concatenate([[box.x0], (places[1:] + places[:-1]) / 2, [box.x1]])
    values = [_values(curve, steps) for curve in curves]
    parts = []
    for index, (step, place) in enumerate(zip(steps, places, strict=True)):
        known = [
            (curve.tag, value, colour)
            for curve, column, colour in zip(curves, values, colours, strict=True)
            if (value := column[index]) is not None
        ]
        told = "".join(f"\n{_text(tag)} {value:.6g}" for tag, value, _ in known)
        dots = "".join(_dot(axes, height, step, value, colour) for _, value, colour in known)
        numbers = "".join(f'<tspan dx="8" fill="{colour}">{value:.4g}</tspan>' for _, value, colour in known)
        left, right = float(ends[index]), float(ends[index + 1])
        top, bottom = height - box.y1, height - box.y0
        parts.append(
            f'<g class="read"><rect x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" '
            f'height="{bottom - top:.1f}"/><title>step {step:g}{told}</title>'
            f'<line x1="{place:.1f}" x2="{place:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>{dots}'
            f'<text x="{box.x0:.1f}" y="{height - 5:.1f}" font-size="{SIZE}">step {step:g}{numbers}</text></g>'
        )
    return "".join(parts)


def _steps(axes: Any, curves: Sequence[Curve]) -> tuple[Any, Any]:
    """The steps that have a strip, and their places in the drawing."""
    found = sorted({step for curve in curves for step, value in curve.points if step >= 0 and math.isfinite(value)})
    chosen = np.array(found, dtype=np.float64)
    if len(chosen) > MOST_STRIPS:
        chosen = chosen[np.unique(np.linspace(0, len(chosen) - 1, MOST_STRIPS).round().astype(int))]
    if not len(chosen):
        return chosen, chosen
    level = axes.get_ylim()[0]
    places = axes.transData.transform([(step, level) for step in chosen])[:, 0]
    kept = np.isfinite(places)
    return chosen[kept], places[kept]


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


def _dot(axes: Any, height: float, step: float, value: float, colour: str) -> str:
    across, up = axes.transData.transform((step, value))
    if not (math.isfinite(across) and math.isfinite(up)):
        return ""
    return f'<circle cx="{across:.1f}" cy="{height - up:.1f}" r="3" fill="{colour}"/>'


def _text(tag: str) -> str:
    return clean(tag).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
