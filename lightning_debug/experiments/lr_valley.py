"""The arithmetic of an LR range test: several sweeps in, the range in which the loss falls out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sweep:
    """One sweep: the learning rates tried and the loss at each; the last may be non-finite."""

    lrs: tuple[float, ...]
    losses: tuple[float, ...]


@dataclass(frozen=True)
class Range:
    """What the pooled sweeps say.

    Args:
        lr_min: Where the loss begins to drop steeply.
        lr_max: Where it slows down, wiggles or rises.
        blow_up: The last learning rate that was reached.
        clear: Whether the fall stands out of the noise.
        lrs: Learning rates of the pooled curve.
        losses: The pooled, smoothed loss at each.
    """

    lr_min: float
    lr_max: float
    blow_up: float
    clear: bool
    lrs: tuple[float, ...]
    losses: tuple[float, ...]


def pool(sweeps: Sequence[Sweep]) -> Range:
    """The range in which the loss falls, from the median of several sweeps, smoothed over log learning rate."""
    length = min(len(one.losses) - (not math.isfinite(one.losses[-1])) for one in sweeps)
    lrs = np.array(sweeps[0].lrs[:length])
    stacked = np.array([one.losses[:length] for one in sweeps])
    curve = smooth(np.median(stacked, axis=0))
    flat = max(3, length // 7)
    base = float(np.median(curve[:flat]))
    bottom = int(np.argmin(curve))
    drop = base - float(curve[bottom])
    noise = float(np.median(np.abs(np.diff(stacked, axis=1)))) / 1.35 if length > 1 else 0.0  # robust, of one loss
    falling = np.flatnonzero(base - curve[: bottom + 1] < 0.1 * drop)
    start = int(falling[-1]) + 1 if falling.size else 0
    start = min(start, bottom)
    blow_up = max(one.lrs[-1] for one in sweeps)
    clear = drop > 3 * noise / math.sqrt(len(sweeps)) and bottom > start
    return Range(float(lrs[start]), float(lrs[bottom]), blow_up, clear, tuple(lrs.tolist()), tuple(curve.tolist()))


def smooth(values: Floats, width: float = 2.0) -> Floats:
    """Gaussian smoothing by ``width`` points, without a shift and with shrinking windows at the ends."""
    reach = int(4 * width)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    weights = np.convolve(np.ones(len(values)), kernel)[reach:-reach]
    result: Floats = np.convolve(values, kernel)[reach:-reach] / weights
    return result
