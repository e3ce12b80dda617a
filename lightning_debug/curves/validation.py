"""The course of the validation loss and metric: lowest part, rise since, change of everything else since then."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from lightning_debug.curves.names import Mode
from lightning_debug.curves.noise import (
    FEWEST,
    SIGMAS,
    Array,
    Change,
    Values,
    change,
    finite,
    noise_of,
    residual_noise,
    smooth,
    width_for,
)
from lightning_debug.curves.series import Series
from lightning_debug.curves.stopping import keep_epoch
from lightning_debug.evidence.curves import BestEpoch, Shift, ValidationCourse

REASONS = {
    "metric and loss": "the smoothed validation metric (less a price for the loss) is best there among the epochs "
    "whose loss has not degraded beyond its noise",
    "metric": "the smoothed validation metric is best there",
    "loss": "the smoothed validation loss is lowest there",
}
"""Why an epoch is kept, by the rule that decided."""


MOST_SAMPLES = 10**5
"""Shares of more samples lie too near to each other to be told."""


@dataclass
class Validations:
    """The validations so far, aligned lists.

    Args:
        steps: Batches trained on before each.
        epochs: Epoch of each.
        losses: Validation loss; NaN where missing.
        metrics: Metric; NaN where missing.
        loss_name: Name of the loss.
        metric_name: Name of the metric; ``""`` for none.
        mode: Whether a larger metric is better.
    """

    steps: list[int] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    metrics: list[float] = field(default_factory=list)
    loss_name: str = ""
    metric_name: str = ""
    mode: Mode = "max"

    def __len__(self) -> int:
        return len(self.steps)


def validation_course(seen: Validations, train: Series) -> ValidationCourse | None:
    """Reads validation losses; ``None`` where there is none.

    >>> seen = Validations(steps=[1, 2, 3, 4, 5, 6], epochs=[0, 1, 2, 3, 4, 5], losses=[3, 2, 1, 2, 3, 4.0],
    ...                    metrics=[float("nan")] * 6, loss_name="val_loss")
    >>> validation_course(seen, Series()).lowest_epoch
    2
    """
    losses = np.asarray(seen.losses, dtype=np.float64)
    known = np.flatnonzero(np.isfinite(losses))
    if not len(known) or not seen.loss_name:
        return None
    losses = losses[known]
    epochs = [seen.epochs[index] for index in known]
    steps = [seen.steps[index] for index in known]
    metrics = np.asarray(seen.metrics, dtype=np.float64)[known]
    noise = residual_noise(losses)
    width = width_for(len(losses))
    course = smooth(losses, width)
    low = int(np.argmin(course))
    end = max(low, len(losses) - 1 - min(width // 2, 1))
    up = change(losses, low, end, width=width, noise=noise) if end > low else Change(0.0, math.inf, low, low)
    training, errors = _train_means(steps, train)
    train_noise = noise_of(training, errors)
    training = _filled(training)
    since = change(training, low, end, width=width, noise=train_noise) if end > low else None
    has_metric = bool(seen.metric_name) and bool(np.isfinite(metrics).any())
    metric_noise = residual_noise(metrics)
    moved = change(metrics, low, end, width=width, noise=metric_noise) if has_metric and end > low else None
    later = slice(len(losses) // 2, None)
    below = training[later] > losses[later]
    best = smooth(metrics, width) if has_metric else None
    return ValidationCourse(
        name=seen.loss_name,
        count=len(losses),
        epochs=(epochs[0], epochs[-1]),
        first=float(losses[0]),
        end=float(losses[-3:].mean()),
        lowest=float(course[low]),
        lowest_epoch=epochs[low],
        lowest_between=_between(course, low, epochs, noise / math.sqrt(width)),
        lowest_share=low / max(1, len(losses) - 1),
        noise=noise,
        rise=Shift(amount=up.amount, error=up.error),
        all_above=low < len(losses) - 3 and bool((losses[-3:] > course[low]).all()),
        late=_late(losses, noise),
        train_since=_shift(since),
        train_end=float(finite(training)[-3:].mean()) if len(finite(training)) else None,
        train_at_lowest=float(training[low]) if np.isfinite(training[low]) else None,
        below_training=float(below[np.isfinite(training[later])].mean()) if np.isfinite(training[later]).any() else 0.0,
        metric=seen.metric_name if has_metric else "",
        mode=seen.mode,
        metric_end=float(finite(metrics)[-3:].mean()) if has_metric else 0.0,
        metric_best=float(np.nanmax(best) if seen.mode == "max" else np.nanmin(best)) if best is not None else 0.0,
        metric_since=_shift(moved),
        metric_late=_late(metrics, metric_noise) if has_metric else Shift(),
        metric_samples=shares_of(metrics) if has_metric else 0,
    )


def shares_of(values: Values) -> int:
    """How many samples a curve counts, by the steps between its values; 0 where they are no shares of one number.

    >>> shares_of([0.5, 0.62, 0.64, 0.7, 0.71]), shares_of([0.5, 0.612, 0.6402, 0.71]), shares_of([1.0, 2.0, 3.0])
    (100, 0, 0)
    """
    known = np.unique(finite(values).round(6))
    if len(known) < 3 or known[0] < 0 or known[-1] > 1:
        return 0
    samples = round(1 / float(np.diff(known).min()))
    counted = known * samples
    return samples if samples < MOST_SAMPLES and np.abs(counted - counted.round()).max() < 0.05 else 0


def best_epoch(seen: Validations, fewest: int = 3, *, moving: bool = False) -> BestEpoch | None:
    """The epoch to keep (see :mod:`lightning_debug.curves.stopping`); ``None`` with too few validations, or all alike.

    Args:
        seen: The validations.
        fewest: Fewest values.
        moving: Whether losses of different epochs are different quantities, so that the metric decides alone.
    """
    losses, metrics = (np.asarray(values, dtype=np.float64) for values in (seen.losses, seen.metrics))
    has_loss, has_metric = (int(np.isfinite(values).sum()) >= fewest for values in (losses, metrics))
    curves = [values for values, has in ((losses, has_loss), (metrics, has_metric)) if has]
    if all(np.ptp(finite(values)) == 0 for values in curves):
        return None
    counts = has_loss and not (moving and has_metric)
    choice = keep_epoch(losses if counts else None, metrics if has_metric else None, mode=seen.mode)
    values = (losses[choice.index] if has_loss else math.nan, metrics[choice.index] if has_metric else math.nan)
    loss, metric = (float(value) if math.isfinite(value) else None for value in values)
    return BestEpoch(
        epoch=seen.epochs[choice.index],
        reason=REASONS[choice.rule],
        rule=choice.rule,
        loss=loss,
        metric=metric,
        names=(seen.loss_name, seen.metric_name),
    )


def _train_means(steps: Sequence[int], train: Series) -> tuple[Array, Array]:
    """Training loss over the steps since the validation before, for each validation."""
    found = [train.between(before, step)[:2] for before, step in zip([-1, *steps[:-1]], steps, strict=True)]
    return np.array([mean for mean, _ in found]), np.array([error for _, error in found])


def _filled(values: Array) -> Array:
    """Values, with those between filled in where a log holds fewer of training than there are validations."""
    known = np.flatnonzero(np.isfinite(values))
    return np.interp(np.arange(len(values)), known, values[known]) if len(known) >= FEWEST else values


def _between(course: Array, low: int, epochs: Sequence[int], error: float) -> tuple[int, int]:
    if not math.isfinite(error):
        return epochs[low], epochs[low]
    near = course <= course[low] + SIGMAS * error
    first = last = low
    while first > 0 and near[first - 1]:
        first -= 1
    while last < len(near) - 1 and near[last + 1]:
        last += 1
    return epochs[first], epochs[last]


def _late(values: Array, noise: float) -> Shift:
    kept = finite(values)
    quarter = max(1, len(kept) // 4)
    if len(kept) < 4 or not math.isfinite(noise):
        return Shift()
    amount = float(kept[-quarter:].mean() - kept[-2 * quarter : -quarter].mean())
    return Shift(amount=amount, error=noise * math.sqrt(2 / quarter))


def _shift(found: Change | None) -> Shift:
    return Shift() if found is None else Shift(amount=found.amount, error=found.error)
