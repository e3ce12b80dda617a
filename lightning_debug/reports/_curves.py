"""Curves out of a record: what evidence offers through ``Evidence.scalars()``, over steps."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from lightning_debug.evidence.curves import EpochValues
from lightning_debug.record import Record

PREFIX = "lightning_debug/"
"""What our tags begin with where they stand beside a user's own."""

STEPS = "step (batches trained on)"
"""What the steps of a curve count, if nothing else is said."""

_STAGES = frozenset("train training val valid validation eval dev test step epoch".split())
_WORDS = re.compile(r"[_.\-\s]+")


@dataclass(frozen=True)
class Curve:
    """One value over steps.

    Args:
        tag: Its name.
        points: Step and value, in the order seen. Where the record forgot the middle of a long run stands one
            point of value NaN and step -1.
        dashed: Whether it is of something that does not happen.
    """

    tag: str
    points: tuple[tuple[int, float], ...]
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """Curves that belong on one chart.

    Args:
        title: What they show.
        curves: The curves drawn.
        left_out: How many more there are.
        axis: What its steps count.
        linear: Whether its values stay on a linear axis, and its lines without dots, whatever they are.
    """

    title: str
    curves: tuple[Curve, ...]
    left_out: int = 0
    axis: str = STEPS
    linear: bool = False


GAP = (-1, math.nan)


def curves(record: Record) -> tuple[Curve, ...]:
    """Every tag that the record's evidence offers, in the order seen.

    >>> curves(Record())
    ()
    """
    found: dict[str, list[tuple[int, float]]] = {}
    for kind in record.kinds:
        items = record.of(kind)
        gap = 0
        if record.seen(kind) > len(items) > 1:  # what is kept is the head and the tail: the hole is the longest jump
            gap = max(range(1, len(items)), key=lambda index: items[index].at.step - items[index - 1].at.step)
        for index, item in enumerate(items):
            if gap and index == gap:
                for points in found.values():
                    points.append(GAP)
            rank = f" (rank {item.at.rank})" if item.at.rank else ""
            for tag, value in item.scalars().items():
                found.setdefault(f"{tag.removeprefix(PREFIX)}{rank}", []).append((item.at.step, float(value)))
    return tuple(Curve(tag, _trimmed(points)) for tag, points in found.items())


def ends_of_epochs(record: Record) -> dict[int, int]:
    """The step at which the curves have the value of each epoch.

    >>> ends_of_epochs(Record())
    {}
    """
    return {item.at.epoch: item.at.step for item in record.of(EpochValues)}


def _trimmed(points: list[tuple[int, float]]) -> tuple[tuple[int, float], ...]:
    kept = [point for index, point in enumerate(points) if point is not GAP or 0 < index < len(points) - 1]
    return tuple(kept)


def family(tag: str) -> str:
    """What a tag measures, without the stage it was measured in: tags of one family share a chart.

    >>> family("loss/train"), family("train_loss_step"), family("gradient_norm/net.0.weight")
    ('loss', 'loss', 'gradient norm')
    """
    for part in tag.split("/"):
        words = [word for word in _WORDS.split(part) if word and word.lower() not in _STAGES]
        if words:
            return " ".join(words)
    return tag


def charts(found: Iterable[Curve], most: int = 6) -> tuple[Chart, ...]:
    """Curves by family, losses first; at most ``most`` curves on a chart.

    >>> [(chart.title, len(chart.curves)) for chart in charts([Curve("loss/train", ()), Curve("loss/val", ())])]
    [('loss', 2)]
    """
    groups: dict[str, list[Curve]] = {}
    for curve in found:
        groups.setdefault(family(curve.tag), []).append(curve)
    titles = sorted(groups, key=lambda title: "loss" not in title.lower())
    return tuple(Chart(title, tuple(groups[title][:most]), max(0, len(groups[title]) - most)) for title in titles)
