"""Which epoch to keep and when to stop, decided epoch by epoch from validation metric and validation loss together.

One validation set is small, so a metric's best epoch is in good part luck: both curves are smoothed first, in the
logarithm of the epoch, since curves change over ten times as long after ten times as many epochs. Of the epochs at
which the smoothed loss has not degraded by more than its noise, the one with the best smoothed metric is kept. Where
the metric is a share (accuracy and the like), the loss has a say among those epochs, too: it is the steadier of the
two, and one hundredth above its lowest value costs as much as a fifth of a point of the metric.
Better still where it is known: the loss of scores divided by the temperature that suits them (Guo et al., 2017), which
does not rise with the confidence in wrong answers; it takes the place of the loss then (Berta et al., 2025).
Training stops when neither that choice nor the lowest loss has moved for a while, a while that grows with the run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lightning_debug.curves.noise import Array, Values, finite, residual_noise

Mode = Literal["min", "max"]

LOSS_WIDTH = 0.1
"""Width of the smoothing of the loss: the kernel's standard deviation, in the logarithm of the epoch."""
METRIC_WIDTH = 0.2
"""Likewise for the metric, which is the noisier."""
SHARE_WIDTHS = 0.05, 0.3
"""Both widths where the metric is a share."""
PRICE = 0.2
"""What of a share a loss costs that lies above its lowest value by a factor of e."""
REFINED_WIDTHS = 0.05, 0.3
"""Both widths where the loss is that of tempered scores."""
REFINED_PRICE = 0.75
"""What such a loss costs."""
MOST = 1024
"""A longer curve is smoothed by cells."""
TOLERANCE = 4.0
"""How many times its noise the smoothed loss may lie above its lowest value."""


@dataclass(frozen=True)
class Kept:
    """The epoch to keep, as far as the curves go.

    Args:
        index: Index into the curves.
        lowest: Index of the lowest smoothed loss; of the best smoothed metric where there is no loss.
        rule: ``"metric and loss"``, ``"metric"`` or ``"loss"``: which of them decided.
        tolerance: How far above its lowest value the smoothed loss was allowed to lie; NaN without a loss, or
            where it is that of tempered scores.
        scores: What was compared, larger is better: the smoothed metric, less what the loss costs; below all of it,
            the worse the lower, where the loss has degraded; ``-inf`` where there is no value.
    """

    index: int
    lowest: int
    rule: str
    tolerance: float
    scores: tuple[float, ...]


def smooth_in_log(values: Values, width: float) -> Array:
    """Smooths a curve by a Gaussian kernel in the logarithm of the index; NaN where a value is missing.

    >>> smooth_in_log([1.0, 1.0, 1.0], 0.1).round(6).tolist()
    [1.0, 1.0, 1.0]
    """
    array = np.asarray(values, dtype=np.float64)
    known = np.isfinite(array)
    place = np.log(np.arange(len(array)) + 2.0)
    if len(array) > MOST:
        return _smooth_long(array, known, place, width)
    kernel = np.exp(-0.5 * ((place[:, None] - place[None, :]) / width) ** 2) * known[None, :]
    with np.errstate(invalid="ignore", divide="ignore"):
        course = kernel @ np.where(known, array, 0.0) / kernel.sum(axis=1)
    return np.where(known, course, np.nan)


def _smooth_long(array: Array, known: NDArray[np.bool_], place: Array, width: float) -> Array:
    """The same of a long curve, whose later values lie so near to each other that they can be taken together."""
    cells = np.floor(place / (width / 10)).astype(np.int64)
    _, cells = np.unique(cells, return_inverse=True)
    counts = np.bincount(cells, known)
    sums = np.bincount(cells, np.where(known, array, 0.0))
    middles = np.bincount(cells, place) / np.bincount(cells)
    kernel = np.exp(-0.5 * ((middles[:, None] - middles[None, :]) / width) ** 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        course = kernel @ sums / (kernel @ counts)
    return np.where(known, np.interp(place, middles, course), np.nan)


def keep_epoch(
    loss: Values | None = None, metric: Values | None = None, *, mode: Mode = "max", refined: Values | None = None
) -> Kept:
    """Chooses the epoch to keep.

    Args:
        loss: Validation loss by epoch, NaN where missing; lower is better.
        metric: Validation metric by epoch, aligned with ``loss``.
        mode: Whether a larger metric is better, or a smaller.
        refined: Validation loss by epoch, of scores at their best temperature; used where it is known throughout and
            the metric is a share.

    Raises:
        ValueError: If there is no finite value in either, or their lengths differ.

    >>> loss = [2.0, 1.0, 0.6, 0.5, 0.5, 0.5, 0.6, 0.8, 1.1, 1.4]
    >>> keep_epoch(loss, [0.1, 0.5, 0.7, 0.8, 0.8, 0.81, 0.8, 0.81, 0.8, 0.82]).index
    5
    """
    if loss is not None and metric is not None and len(loss) != len(metric):
        raise ValueError(f"loss has {len(loss)} values and metric {len(metric)}; they must be aligned")
    share = loss is not None and metric is not None and mode == "max" and _are_shares(metric)
    tempered = share and refined is not None and len(refined) > 0 and bool(np.isfinite(refined).all())
    if tempered:
        loss = refined
    widths = REFINED_WIDTHS if tempered else SHARE_WIDTHS if share else (LOSS_WIDTH, METRIC_WIDTH)
    losses = None if loss is None else smooth_in_log(loss, widths[0])
    better = None
    if metric is not None:
        signed = np.asarray(metric, dtype=np.float64) * (1.0 if mode == "max" else -1.0)
        better = smooth_in_log(signed, widths[1])
    has_loss = losses is not None and bool(np.isfinite(losses).any())
    has_metric = better is not None and bool(np.isfinite(better).any())
    if not has_loss and not has_metric:
        raise ValueError("loss and metric hold no finite value")
    if not has_loss:
        assert better is not None
        best = int(np.nanargmax(better))
        return Kept(best, best, "metric", math.nan, _scores(better))
    assert losses is not None
    assert loss is not None
    lowest = int(np.nanargmin(losses))
    noise = residual_noise(loss)
    tolerance = math.nan if tempered else TOLERANCE * noise if math.isfinite(noise) else 0.0
    course = better if has_metric and better is not None else -losses
    if share and losses[lowest] > 0:
        course = course - (REFINED_PRICE if tempered else PRICE) * np.log(losses / losses[lowest])
    fine = course if tempered else np.where(losses <= losses[lowest] + tolerance, course, np.nan)
    if not np.isfinite(fine).any():  # the metric is missing at every such epoch
        return Kept(lowest, lowest, "loss", tolerance, _scores(-losses))
    index = int(np.nanargmax(fine))
    degraded = np.nanmin(course) - 1.0 - (losses - losses[lowest])
    scores = _scores(np.where(np.isfinite(fine), fine, degraded))
    return Kept(index, lowest, "metric and loss" if has_metric else "loss", tolerance, scores)


def _are_shares(metric: Values) -> bool:
    known = finite(metric)
    return len(known) > 0 and float(known.min()) >= 0.0 and float(known.max()) <= 1.0


def rest(kept: Kept, length: int) -> int:
    """How many epochs ago the choice, or the lowest loss, last moved.

    Args:
        kept: The choice after ``length`` epochs.
        length: Epochs so far.
    """
    return length - 1 - max(kept.index, kept.lowest)


def should_stop(kept: Kept, length: int, *, patience: int = 13, share: float = 0.25) -> bool:
    """Whether nothing has moved for ``patience`` epochs, nor for ``share`` of the epochs before.

    >>> kept = keep_epoch([1.0, 0.5, *[0.6 + 0.01 * epoch for epoch in range(20)]])
    >>> should_stop(kept, 10), should_stop(kept, 22)
    (False, True)
    """
    last = max(kept.index, kept.lowest)
    return length - 1 - last >= max(patience, share * (last + 1))


def _scores(course: Array) -> tuple[float, ...]:
    return tuple(float(item) for item in np.where(np.isfinite(course), course, -np.inf))
