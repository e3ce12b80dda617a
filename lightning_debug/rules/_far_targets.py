"""Regression targets that lie far from what the untrained model predicts: what a run may reach in time."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lightning_debug.evidence.curves import CurveReading
from lightning_debug.evidence.data_values import FitsOver, RegressionFit
from lightning_debug.record import Record

MAGNITUDE, RATIO = 10.0, 30.0
"""Root mean square of targets that are far, and how often it holds that of the untrained predictions."""


def fits_by_line(record: Record) -> dict[tuple[str, str], list[RegressionFit]]:
    """The looks at the regression losses of training, by function and line."""
    by_line: dict[tuple[str, str], list[RegressionFit]] = {}
    for fit in record.of(RegressionFit):
        if fit.stage == "train" and fit.aligned and fit.elements != 1:
            by_line.setdefault((fit.function, fit.line), []).append(fit)
    return by_line


def guess(first: RegressionFit) -> float:
    """Root mean square of the predictions at the first look."""
    return math.hypot(first.prediction_mean, first.prediction_deviation)


def begins_far(fits: Sequence[RegressionFit], magnitude: float = MAGNITUDE, ratio: float = RATIO) -> bool:
    """Whether the targets of one line were far away when training began."""
    first = fits[0]
    target = math.hypot(first.target_mean, first.target_deviation)
    return first.at.step <= 2 and math.isfinite(target) and target >= max(magnitude, ratio * guess(first))


def are_on_the_way(record: Record) -> bool:
    """Whether some targets began far away, and the run was not seen to its end, so that it may reach them."""
    if not any(map(begins_far, fits_by_line(record).values())):
        return False
    over, reading = record.last(FitsOver), record.last(CurveReading)
    return over is None or over.broken_off or (reading is not None and not reading.final)
