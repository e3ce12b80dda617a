"""Which epoch to keep: the choice from validation metric and validation loss together, noise considered.

The rule: care for the validation metric. Where it has stopped increasing, all epochs whose metric is as good as the
best, as far as noise lets one tell, are candidates. Where the loss has meanwhile risen by more than its noise, of the
candidates only those are left at which it is lowest, or not yet significantly higher. Of what is left, the best
metric (smoothed) decides; without a metric the smoothed loss does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lightning_debug.curves.noise import SIGMAS, Array, Values, change, residual_noise, rise, smooth, width_for

Mode = Literal["min", "max"]


@dataclass(frozen=True)
class Choice:
    """The epoch chosen.

    Args:
        index: Index into the curves.
        reason: Why, as a sentence without a full stop.
        rule: ``"metric"``, ``"loss"`` (there is no metric), ``"metric and loss"`` (the loss decided among epochs
            whose metric cannot be told apart) or ``"metric over loss"`` (the metric went on improving while the
            loss rose).
        candidates: Indices that noise does not tell apart from the chosen one.
        metric_noise: Noise of one value of the metric.
        loss_noise: Noise of one value of the loss.
    """

    index: int
    reason: str
    rule: str
    candidates: tuple[int, ...] = ()
    metric_noise: float = math.nan
    loss_noise: float = math.nan


def choose_epoch(
    loss: Values | None = None,
    metric: Values | None = None,
    *,
    mode: Mode = "max",
    loss_noise: float | None = None,
    metric_noise: float | None = None,
    sigmas: float = 1.0,
) -> Choice:
    """Chooses the epoch by the rule above.

    Args:
        loss: Validation loss by epoch; NaN where it is missing. At least one of ``loss`` and ``metric`` is given.
        metric: Validation metric by epoch, aligned with ``loss``.
        mode: Whether a larger metric is better (``"max"``) or a smaller.
        loss_noise: Noise of one value of the loss; by default from its residuals.
        metric_noise: Noise of one value of the metric, likewise.
        sigmas: Within how many standard errors of the best smoothed value an epoch counts as equally good.

    Raises:
        ValueError: If there is no finite value, or the curves differ in length.

    >>> loss = [3, 2, 1, 1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6]
    >>> accuracy = [0.1, 0.5, 0.8, 0.90, 0.91, 0.90, 0.91, 0.90, 0.91, 0.90]
    >>> chosen = choose_epoch(loss, accuracy, loss_noise=0.1, metric_noise=0.02)
    >>> chosen.index, chosen.rule
    (5, 'metric and loss')
    """
    losses = _curve(loss)
    metrics = _curve(metric)
    if losses is not None and metrics is not None and len(losses) != len(metrics):
        raise ValueError(f"loss has {len(losses)} values and metric {len(metrics)}; they must be aligned")
    noises = {
        "loss_noise": _noise(losses, loss_noise),
        "metric_noise": _noise(metrics, metric_noise),
    }
    if metrics is None:
        if losses is None:
            raise ValueError("loss and metric hold no finite value")
        equal, course = _as_good(-losses, noises["loss_noise"], sigmas)
        index = int(np.nanargmax(course))
        return Choice(index, "the smoothed validation loss is lowest there", "loss", _tuple(equal), **noises)
    better = metrics if mode == "max" else -metrics
    equal, course = _as_good(better, noises["metric_noise"], sigmas)
    best = int(np.nanargmax(np.where(equal, course, -np.inf)))
    if losses is None:
        return Choice(best, "the smoothed validation metric is best there", "metric", _tuple(equal), **noises)
    up = rise(losses, noise=noises["loss_noise"])
    if up.sigmas < SIGMAS:
        reason = "the smoothed validation metric is best there, and the loss has not risen significantly"
        return Choice(best, reason, "metric", _tuple(equal), **noises)
    low, _ = _as_good(-losses, noises["loss_noise"], SIGMAS)
    both = equal & low
    if both.any():
        index = int(np.nanargmax(np.where(both, course, -np.inf)))
        reason = (
            f"the metric there is as good as its best (epoch index {best}), as far as noise lets one tell, "
            "and the loss has not degraded yet"
        )
        return Choice(index, reason, "metric and loss", _tuple(both), **noises)
    smoothed = smooth(losses, width_for(len(losses)))
    index = int(np.nanargmin(np.where(equal, smoothed, np.inf)))
    reason = "the metric went on improving while the loss rose; among its best epochs the loss is lowest there"
    return Choice(index, reason, "metric over loss", _tuple(equal), **noises)


def improvement(values: Values, since: int, *, mode: Mode = "min", noise: float | None = None) -> float:
    """By how many standard errors the part after an index is better than the best part up to it; may be negative.

    For stopping: a curve whose last ``n`` epochs do not improve on what was before is at rest.

    Args:
        values: The curve.
        since: Index; values from there on are the later part.
        mode: Whether smaller or larger is better.
        noise: Noise of one value; by default from the residuals of the whole curve.

    >>> improvement([5, 4, 3, 2, 2, 2, 2, 2.0], since=6) < SIGMAS
    True
    """
    array = _curve(values)
    if array is None or not 0 < since < len(array):
        return 0.0
    better = array if mode == "max" else -array
    width = width_for(len(array))
    before, after = smooth(better[:since], width), smooth(better[since:], width)
    if not (np.isfinite(before).any() and np.isfinite(after).any()):
        return 0.0
    start, end = int(np.nanargmax(before)), since + int(np.nanargmax(after))
    return change(better, start, end, width=width, noise=noise).sigmas


def _curve(values: Values | None) -> Array | None:
    if values is None:
        return None
    array = np.asarray(values, dtype=np.float64)
    array = np.where(np.isfinite(array), array, np.nan)
    return array if np.isfinite(array).any() else None


def _noise(values: Array | None, given: float | None) -> float:
    if given is not None or values is None:
        return math.nan if given is None else given
    found = residual_noise(values)
    return found if math.isfinite(found) else 0.0  # too few epochs to tell: take the values as they are


def _as_good(better: Array, noise: float, sigmas: float) -> tuple[np.ndarray[tuple[int], np.dtype[np.bool_]], Array]:
    """Which epochs are as good as the best (larger is better), and the smoothed course."""
    width = width_for(len(better)) if noise > 0 else 1
    course = smooth(better, width)
    course = np.where(np.isfinite(better), course, np.nan)  # an epoch without a value is no choice
    error = noise / math.sqrt(width) * math.sqrt(2)
    return course >= np.nanmax(course) - sigmas * error - 1e-12, course


def _tuple(chosen: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> tuple[int, ...]:
    return tuple(int(item) for item in np.flatnonzero(chosen))
