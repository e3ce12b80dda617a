"""A chart as an ``<svg>`` element that takes its colours from the page it stands in, written line by line.

A plotting library takes a tenth of a second of a processor for a chart, which every run would pay for several times.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from lightning_debug.reports._curves import Chart, Curve
from lightning_debug.reports._frame import HEIGHT, LINE, WIDTH, Frame, frame_of
from lightning_debug.reports._readout import escaped, strips

COLOURS = 6
"""How many curve colours the page defines: ``--curve-0`` to ``--curve-5``."""

DOTTED = 30
"""A curve of fewer points has dots."""

MOST_POINTS = 1000
"""Of a curve of more, the lowest and the highest of neighbours are drawn."""

LONGEST = 44
"""Letters of a curve's name in the legend."""


def drawing(chart: Chart, marked: Sequence[tuple[int, str]]) -> str:
    """The element.

    Args:
        chart: The curves.
        marked: Steps to mark with a label.
    """
    frame = frame_of(chart, [float(step) for step, _ in marked], 0)
    low, high = frame.steps
    rows = label_rows([step for step, _ in marked], (high - low) / 6)
    frame = frame_of(chart, [float(step) for step, _ in marked], max(rows, default=-1) + 1)
    colours = [f"var(--curve-{index % COLOURS})" for index in range(len(chart.curves))]
    title = "".join(letter for letter in chart.title if letter.isalnum() or letter in " .-")
    size = f'viewBox="0 0 {WIDTH:g} {HEIGHT:g}" xmlns="http://www.w3.org/2000/svg"'
    parts = [
        f'<svg role="img" aria-label="{title}" {size} font-family="sans-serif" font-size="9" fill="var(--ink)">',
        *_axes(frame, chart.axis),
        *_marks(frame, marked, rows),
    ]
    for index, (curve, colour) in enumerate(zip(chart.curves, colours, strict=True)):
        parts += _curve(frame, curve, colour, dotted=not chart.linear)
        parts += _legend(frame, curve, colour, index)
    return "\n".join([*parts, strips(frame, chart.curves, colours), "</svg>"])


def label_rows(steps: Sequence[int], room: float) -> list[int]:
    """For each label the row it is written in, so that neighbours do not run into each other.

    >>> label_rows([0, 1, 50], room=10)
    [0, 1, 0]
    """
    ends: list[float] = []
    rows = []
    for step in steps:
        row = next((index for index, end in enumerate(ends) if end <= step), len(ends))
        ends[row : row + 1] = [step + room]
        rows.append(row)
    return rows


def _axes(frame: Frame, axis: str) -> Iterator[str]:
    left, right, top, bottom = frame.left, frame.right, frame.top, frame.bottom
    lines, texts = [], []
    for across, text in frame.step_ticks():
        lines.append(f"M{across:.1f} {top:.1f}V{bottom + 3:.1f}")
        texts.append(f'<text x="{across:.1f}" y="{bottom + 13:.1f}" text-anchor="middle">{text}</text>')
    for down, text in frame.value_ticks():
        lines.append(f"M{left - 3:.1f} {down:.1f}H{right:.1f}")
        texts.append(f'<text x="{left - 6:.1f}" y="{down + 3:.1f}" text-anchor="end">{text}</text>')
    yield f'<path d="{"".join(lines)}" stroke="var(--grid)" stroke-width=".6" fill="none"/>'
    yield f'<path d="M{left:.1f} {top:.1f}V{bottom:.1f}H{right:.1f}" stroke="var(--grid)" fill="none"/>'
    yield from texts
    yield f'<text x="{right:.1f}" y="{HEIGHT - 6:.1f}" text-anchor="end">{escaped(axis)}</text>'


def _marks(frame: Frame, marked: Sequence[tuple[int, str]], rows: Sequence[int]) -> Iterator[str]:
    for (step, label), row in zip(marked, rows, strict=True):
        across = frame.across(step)
        yield (
            f'<path d="M{across:.1f} {frame.top:.1f}V{frame.bottom:.1f}" stroke="var(--error)" stroke-dasharray="4 3"/>'
            f'<text x="{across - 1:.1f}" y="{frame.top - 2 - LINE * row:.1f}" font-size="8" fill="var(--error)">'
            f"{escaped(label)}</text>"
        )


def _curve(frame: Frame, curve: Curve, colour: str, *, dotted: bool) -> Iterator[str]:
    points = [(step, value if step >= 0 else math.nan) for step, value in curve.points]
    placed = [(frame.across(step), frame.down(value)) for step, value in _thinned(points)]
    path, pen = [], "M"
    for across, down in placed:
        if math.isfinite(down):
            path.append(f"{pen}{across:.1f} {down:.1f}")
        pen = "L" if math.isfinite(down) else "M"
    dashes = ' stroke-dasharray="4 2"' if curve.dashed else ""
    if path:
        yield (
            f'<path d="{"".join(path)}" stroke="{colour}" stroke-width="1.6" stroke-linejoin="round" '
            f'fill="none"{dashes}/>'
        )
    seen = [(across, down) for across, down in placed if math.isfinite(down)]
    if (dotted and not curve.dashed and len(seen) < DOTTED) or len(seen) == 1:
        yield "".join(f'<circle cx="{across:.1f}" cy="{down:.1f}" r="2" fill="{colour}"/>' for across, down in seen)
    broken = [frame.across(step) for step, value in curve.points if step >= 0 and not math.isfinite(value)]
    edge = frame.top + 4  # on the upper edge, whatever the scale
    crosses = "".join(f"M{x - 3:.1f} {edge - 3:.1f}l6 6m-6 0l6 -6" for x in broken[:MOST_POINTS])
    if crosses:
        yield f'<path d="{crosses}" stroke="{colour}" fill="none"/>'


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    if len(points) <= MOST_POINTS:
        return points
    each = 2 * len(points) // MOST_POINTS + 1
    found: list[tuple[int, float]] = []
    for start in range(0, len(points), each):
        part = points[start : start + each]
        finite = [point for point in part if math.isfinite(point[1])]
        gap = [point for point in part if not math.isfinite(point[1])][:1]
        ends = {min(finite, key=lambda one: one[1]), max(finite, key=lambda one: one[1])} if finite else set()
        found += sorted([*ends, *gap], key=part.index)
    return found


def _legend(frame: Frame, curve: Curve, colour: str, index: int) -> Iterator[str]:
    left, middle = frame.right + 8, frame.top + 6 + 12 * index
    tag = curve.tag if len(curve.tag) <= LONGEST else f"{curve.tag[: LONGEST // 2]}…{curve.tag[-LONGEST // 2 + 1 :]}"
    dashes = ' stroke-dasharray="4 2"' if curve.dashed else ""
    yield (
        f'<path d="M{left:.1f} {middle:.1f}h14" stroke="{colour}" stroke-width="1.6"{dashes}/>'
        f'<text x="{left + 18:.1f}" y="{middle + 3:.1f}" font-size="8">{escaped(tag)}</text>'
    )
