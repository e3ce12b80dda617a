"""Rules about learning curves, on plain evidence: jumps, plateaus and uneven batches."""

import dataclasses

import pytest
import torch

from lightning_debug.callbacks._curve_measures import _other_sizes
from lightning_debug.evidence.curves import (
    CurveReading,
    EpochValues,
    LossKind,
    ReferenceLoss,
    Shift,
    Spike,
    TrainingCourse,
    TrainingLossInEval,
    ValidationCourse,
)
from lightning_debug.evidence.metrics import BatchAverages, UnevenAverage
from lightning_debug.finding import Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rules.ld701_training_loss_increases import training_loss_increases
from lightning_debug.rules.ld702_training_loss_stalls_early import training_loss_stalls_early
from lightning_debug.rules.ld703_training_loss_plateaus import training_loss_plateaus
from lightning_debug.rules.ld705_underfitting import underfitting
from lightning_debug.rules.ld707_overfitting_from_epoch import overfitting_from_epoch
from lightning_debug.rules.ld710_validation_far_below_training import validation_far_below_training
from lightning_debug.rules.ld712_no_better_than_baseline import no_better_than_baseline


def _claims(found):
    return [item for item in found if isinstance(item, Claim)]


def _bounces(*, now=0.39, median=0.48, lowest=0.3, spikes=()):
    """A loss that jumps about at a third of what knowing nothing costs, and ``now`` happens to be low."""
    course = TrainingCourse(
        steps=1000, span=1000, start=1.4, start_error=0.1, end=0.52, end_error=0.01, end_quartiles=(0.42, median),
        lowest=lowest, second_slope=Shift(amount=-0.2, error=0.05), spikes=spikes,
    )  # fmt: skip
    seen = ValidationCourse(name="val_loss", count=10, end=0.53, noise=0.15)
    again = TrainingLossInEval(epoch=9, batches=16, train_mode=now, eval_mode=now, by_validation=now, error=0.02)
    reference = ReferenceLoss(function="cross_entropy", samples=768, baseline=1.39, neighbours=0.2, error=0.01)
    reading = CurveReading(final=True, epochs=10, training=course, validation=seen)
    return Record([LossKind(supervised=True), reference, again, reading])


def test_a_lucky_last_state_does_not_hide_a_loss_that_bounces():
    assert _claims(training_loss_stalls_early(_bounces()))
    assert not _claims(training_loss_stalls_early(_bounces(median=0.35))), "most batches cost little"
    assert not _claims(training_loss_stalls_early(_bounces(lowest=0.52))), "it still finds new lows"


def test_a_curve_that_bends_falls_though_no_line_fits_it():
    course = TrainingCourse(
        steps=150, span=150, start=0.81, start_error=0.01, end=0.0313, end_error=0.0015, end_quartiles=(0.0286, 0.0315),
        lowest=0.0308, lowest_at=1.0, second_slope=Shift(amount=-0.038, error=0.0174),
    )  # fmt: skip
    seen = ValidationCourse(name="valid_loss", count=6, end=0.0595, noise=0.0046)
    reference = ReferenceLoss(function="mse_loss", samples=256, baseline=0.0352, neighbours=0.0116, error=0.001)
    kind, reading = LossKind(supervised=True), CurveReading(final=True, epochs=6, training=course, validation=seen)
    assert not _claims(training_loss_stalls_early(Record([kind, reference, reading])))
    flat = dataclasses.replace(course, second_slope=Shift(amount=-0.004, error=0.0174))
    reading = dataclasses.replace(reading, training=flat)
    assert _claims(training_loss_stalls_early(Record([kind, reference, reading])))


def _jumps(steps):
    return tuple(Spike(step=step, value=300.0, before=0.3, noise=0.1) for step in steps)


@pytest.mark.parametrize(
    ("steps", "by_samples"), [([130, 255, 371, 402, 533, 640, 788, 833, 990], True), ([700, 720, 755, 810], False)]
)
def test_jumps_of_every_epoch_are_those_of_a_sample(steps, by_samples):
    record = _bounces(spikes=_jumps(steps))
    assert bool(_claims(training_loss_stalls_early(record))) is not by_samples
    course = TrainingCourse(
        steps=1000, span=1000, start=0.7, start_error=0.05, end=15.0, end_error=1.0, end_quartiles=(0.5, 1.4),
        lowest=0.2, lowest_at=0.2, above_since=0.3, spikes=_jumps(steps),
    )  # fmt: skip
    record = Record([LossKind(supervised=True), CurveReading(final=True, epochs=10, training=course)])
    assert bool(_claims(training_loss_increases(record))) is not by_samples


@pytest.mark.parametrize(("half", "stands"), [(-0.004, True), (-0.08, False)])
def test_a_loss_that_still_falls_slowly_does_not_stand_still(half, stands):
    course = TrainingCourse(
        steps=400, start=2.3, end=0.2, settled_at=0.4, late=Shift(amount=half / 4, error=0.01),
        second_slope=Shift(amount=half, error=0.01),
    )  # fmt: skip
    reading = CurveReading(final=True, epochs=10, training=course)
    assert bool(_claims(training_loss_plateaus(Record([LossKind(supervised=True), reading])))) is stands


@pytest.mark.parametrize(("weighted", "judged"), [(0.66, False), (0.64, False), (1.19, True)])
def test_the_mean_of_uneven_batches_does_not_overfit(weighted, judged):
    seen = ValidationCourse(
        name="val_loss", count=10, epochs=(0, 9), first=1.4, lowest=0.6, lowest_epoch=3, lowest_between=(3, 3), end=3.0,
        noise=0.02, rise=Shift(amount=2.4, error=0.02), all_above=True, train_since=Shift(amount=-0.3, error=0.01),
        train_at_lowest=0.5, train_end=0.2,
    )  # fmt: skip
    uneven = UnevenAverage(key="val_loss", value=1.198, weighted=weighted, source="self.losses")
    averages = BatchAverages(batches=2, largest=290, smallest=4, uneven=(uneven,))
    reading = CurveReading(epochs=10, training=TrainingCourse(steps=200, start=1.4, end=0.2), validation=seen)
    found = list(overfitting_from_epoch(Record([LossKind(supervised=True), averages, reading])))
    assert bool(_claims(found)) is judged
    assert judged or "4 to 290 rows" in next(item.reason for item in found if isinstance(item, Skip))


@pytest.mark.parametrize(
    ("lowest", "rise", "said"), [(0.47, 0.44, True), (0.47, 0.2, False), (0.05, 0.1, False), (0.9, 0.25, False)]
)
def test_a_loss_that_doubles_overfits_though_it_had_fallen_far(lowest, rise, said):
    seen = ValidationCourse(
        name="val_loss", count=30, epochs=(0, 29), first=2.05, lowest=lowest, lowest_epoch=9, lowest_between=(8, 10),
        end=lowest + rise, noise=0.01, rise=Shift(amount=rise, error=0.01), all_above=True,
        train_since=Shift(amount=-0.2, error=0.01), train_at_lowest=0.3, train_end=0.07,
    )  # fmt: skip
    reading = CurveReading(epochs=30, training=TrainingCourse(steps=1500, start=2.0, end=0.07), validation=seen)
    assert bool(_claims(overfitting_from_epoch(Record([LossKind(supervised=True), reading])))) is said


@pytest.mark.parametrize(
    ("again", "said"),
    [
        ({"by_validation": 0.2}, True),
        ({"by_validation": 1.4}, False),  # a term whose weight grows, or a bound that is maximised
        ({"by_validation": 1.4, "epoch": 4}, True),  # measured before the rise
        ({"by_validation": 1.4, "augmented": True}, True),
        ({"by_validation": None}, True),
    ],
)
def test_what_rises_on_training_batches_too_does_not_overfit(again, said):
    seen = ValidationCourse(
        name="val_loss", count=30, epochs=(0, 29), first=2.05, lowest=0.6, lowest_epoch=9, lowest_between=(8, 10),
        end=1.5, noise=0.01, rise=Shift(amount=0.9, error=0.01), all_above=True,
        train_since=Shift(amount=-0.2, error=0.01), train_at_lowest=0.3, train_end=0.07,
    )  # fmt: skip
    course = TrainingCourse(steps=1500, start=2.0, end=0.07)
    measured = TrainingLossInEval(**{"epoch": 29, "batches": 8, "train_mode": 0.1, "eval_mode": 0.1, **again})
    record = Record([LossKind(supervised=True), measured, CurveReading(epochs=30, training=course, validation=seen)])
    assert bool(_claims(overfitting_from_epoch(record))) is said


@pytest.mark.parametrize(("samples", "said"), [(300, True), (30_000, False), (0, False)])
def test_what_a_metric_gains_must_exceed_the_error_of_the_samples_it_counts(samples, said):
    seen = ValidationCourse(
        name="val_loss", count=30, epochs=(0, 29), first=2.05, lowest=0.6, lowest_epoch=9, lowest_between=(8, 10),
        end=1.5, noise=0.01, rise=Shift(amount=0.9, error=0.01), all_above=True, metric="val_acc", metric_end=0.68,
        metric_since=Shift(amount=0.044, error=0.005), metric_samples=samples,
        train_since=Shift(amount=-0.2, error=0.01), train_at_lowest=0.3, train_end=0.07,
    )  # fmt: skip
    course = TrainingCourse(steps=1500, start=2.0, end=0.07)
    reading = CurveReading(epochs=30, assumed=True, training=course, validation=seen)
    assert bool(_claims(overfitting_from_epoch(Record([reading])))) is said


@pytest.mark.parametrize(
    ("median", "function", "error", "said"),
    [
        (1.42, "cross_entropy", 0.006, True),  # a constant answer would cost 1.38: the steps overshoot it
        (1.39, "cross_entropy", 0.006, False),  # at rest there, and no word of the rate (LD712)
        (1.42, "cross_entropy", 0.02, False),
        (1.42, "mse_loss", 0.006, False),  # a few large targets may be missing from the sample
    ],
)
def test_a_loss_that_stays_above_a_constant_answer_has_too_long_steps(median, function, error, said):
    course = TrainingCourse(
        steps=750, span=750, start=1.8, end=1.425, end_error=error, end_quartiles=(1.37, median), lowest=1.376,
        second_slope=Shift(amount=0.02, error=0.025),
    )  # fmt: skip
    seen = ValidationCourse(name="val_loss", count=15, end=1.416, noise=0.029)
    reference = ReferenceLoss(function=function, samples=768, baseline=1.381, neighbours=0.187, error=0.0093)
    reading = CurveReading(final=True, epochs=15, training=course, validation=seen)
    record = Record([LossKind(supervised=True, function=function), reference, reading])
    claims = _claims(training_loss_stalls_early(record))
    assert bool(claims) is said
    assert not said or "a constant answer would cost 1.38" in claims[0].message
    assert bool(_claims(no_better_than_baseline(record))) is not said


def test_what_validation_has_gained_no_dropout_hides():
    course = TrainingCourse(
        steps=125, span=125, start=1.0, start_error=0.08, end=0.38, end_error=0.04, end_quartiles=(0.3, 0.384),
        lowest=0.256, lowest_at=0.9, second_slope=Shift(amount=-0.1, error=0.1),
    )  # fmt: skip
    again = TrainingLossInEval(epoch=5, batches=16, train_mode=0.286, eval_mode=0.204, by_validation=0.204, error=0.02)
    reference = ReferenceLoss(function="mse_loss", samples=768, baseline=0.987, neighbours=0.094, error=0.049)
    for end, said in ((0.212, False), (0.4, True)):
        seen = ValidationCourse(name="val_loss", count=5, end=end, noise=0.05)
        reading = CurveReading(final=True, epochs=5, training=course, validation=seen)
        record = Record([LossKind(supervised=True), reference, again, reading])
        assert bool(_claims(training_loss_stalls_early(record))) is said


@pytest.mark.parametrize(
    ("start", "late", "said"), [(1.4, 0.0, True), (1.4, -0.07, False), (0.89, 0.0, False), (1.2, -0.01, True)]
)
def test_what_was_trained_before_or_still_falls_has_not_settled(start, late, said):
    course = TrainingCourse(
        steps=76, span=76, start=start, start_error=0.02, end=0.7, end_error=0.01, lowest=0.69, settled_at=0.5,
        first_slope=Shift(amount=-0.5, error=0.1), second_slope=Shift(amount=0.01, error=0.05),
    )  # fmt: skip
    seen = ValidationCourse(name="val_loss", count=5, end=0.72, noise=0.02, late=Shift(amount=late, error=0.036))
    reference = ReferenceLoss(function="cross_entropy", samples=768, baseline=1.38, neighbours=0.3, error=0.01)
    reading = CurveReading(final=True, epochs=5, training=course, validation=seen)
    assert bool(_claims(underfitting(Record([LossKind(supervised=True), reference, reading])))) is said


@pytest.mark.parametrize(("train", "sizes", "said"), [(0.9, False, True), (0.9, True, False), (430.0, False, False)])
def test_where_nothing_was_learned_or_samples_are_longer_no_split_is_blamed(train, sizes, said):
    course = TrainingCourse(steps=290, span=290, start=2.3, end=train)
    seen = ValidationCourse(name="val_loss", count=8, end=train / 3, noise=0.01)
    again = TrainingLossInEval(
        epoch=8, batches=16, train_mode=train, eval_mode=train, by_validation=train, error=0.02 * train, val_batches=16,
        augmented=False, other_sizes=sizes,
    )  # fmt: skip
    record = Record(
        [LossKind(supervised=True), again, CurveReading(final=True, epochs=8, training=course, validation=seen)]
    )
    assert bool(_claims(validation_far_below_training(record))) is said


@pytest.mark.parametrize(("now", "said"), [(0.3, True), (0.88, False)])
def test_a_validation_loss_that_swings_is_compared_with_the_same_weights(now, said):
    seen = ValidationCourse(name="val_loss", count=8, end=0.3, noise=0.01)
    again = TrainingLossInEval(
        epoch=8, batches=16, train_mode=0.9, eval_mode=0.9, by_validation=0.9, error=0.01, val_batches=16,
        augmented=False,
    )  # fmt: skip
    course = TrainingCourse(steps=290, span=290, start=2.3, end=0.9)
    reading = CurveReading(final=True, epochs=8, training=course, validation=seen)
    record = Record([LossKind(supervised=True), EpochValues(train_loss=0.9, val_loss=now), again, reading])
    assert bool(_claims(validation_far_below_training(record))) is said


@pytest.mark.parametrize(("length", "other"), [(20, False), (26, False), (60, True), (10, True)])
def test_longer_samples_are_told_by_the_range_of_training(length, other):
    batches = [{"x": torch.zeros(4, size, 3), "y": torch.zeros(4)} for size in (18, 22)]
    assert _other_sizes(batches, {"x": torch.zeros(9, length, 3), "y": torch.zeros(9)}) is other


@pytest.mark.parametrize(("steps", "epochs", "told"), [(600, 1, True), (150, 1, False), (150, 2, True)])
def test_one_long_epoch_counts_as_several(steps, epochs, told):
    course = TrainingCourse(steps=steps, start=1.4, end=1.38, lowest=1.37)
    reading = CurveReading(final=True, epochs=epochs, training=course)
    reference = ReferenceLoss(function="cross_entropy", samples=256, baseline=1.39, neighbours=0.4, error=0.02)
    found = [*no_better_than_baseline(Record([LossKind(supervised=True), reference, reading]))]
    assert [isinstance(item, Claim) for item in found] == [told]
