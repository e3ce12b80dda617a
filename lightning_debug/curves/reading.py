"""A reading of the curves: what the rules about learning curves judge, from plain series."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from lightning_debug.curves.series import Series
from lightning_debug.curves.training import training_course
from lightning_debug.curves.validation import Validations, best_epoch, validation_course
from lightning_debug.evidence import Moment
from lightning_debug.evidence.curves import CurveReading


def read_curves(
    train: Series,
    validations: Validations,
    *,
    epochs: int,
    final: bool,
    at: Moment | None = None,
    assumed: bool = False,
    baseline: float | None = None,
    learning_rates: Sequence[float] = (),
    batch_size: int = 0,
    partial: Collection[int] = (),
) -> CurveReading:
    """Reads training and validation curves.

    Args:
        train: Training loss by step.
        validations: The validations.
        epochs: Epochs trained.
        final: Whether the run is over.
        at: The moment, if known.
        assumed: Whether to take the losses for those of supervised learning without having seen them computed.
        baseline: Loss of predicting without looking, if known.
        learning_rates: Learning rate over the run, in order; first, highest and last are kept.
        batch_size: Samples of a full batch; 0 where unknown.
        partial: Steps whose batch may hold fewer.
    """
    rates = (learning_rates[0], max(learning_rates), learning_rates[-1]) if learning_rates else ()
    course = validation_course(validations, train)
    return CurveReading(
        at=at or Moment(),
        final=final,
        epochs=epochs,
        assumed=assumed,
        baseline=baseline,
        training=training_course(train, partial),
        validation=course,
        best=best_epoch(validations, moving=course is not None and course.objective_moves()),
        learning_rates=rates,
        batch_size=batch_size,
    )
