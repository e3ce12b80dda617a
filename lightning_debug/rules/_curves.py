"""What the rules about learning curves share: the newest reading, what may be said of it, and what was measured."""

from __future__ import annotations

import math

from lightning_debug.evidence import RunContext
from lightning_debug.evidence.curves import (
    CurveReading,
    LossKind,
    ReferenceLoss,
    TrainingCourse,
    TrainingLossInEval,
    ValidationCourse,
)
from lightning_debug.evidence.data import DeliveredSamples, LabelCounts
from lightning_debug.evidence.metrics import BatchAverages
from lightning_debug.evidence.run import TrainedPart
from lightning_debug.finding import Skip
from lightning_debug.record import Record

LOSS = "training loss"
MOST_SPIKES = 32
"""No more than these, the largest, are told."""


def newest(record: Record) -> CurveReading:
    """The reading that holds for the run as far as it is known; rules need one."""
    found = record.last(CurveReading)
    assert found is not None
    return found


def training(record: Record, *, steps: int, final: bool, whole: bool = False) -> TrainingCourse | Skip:
    """The course of a training loss for which lower is better, or why there is none to judge.

    Args:
        record: The evidence.
        steps: Fewest steps.
        final: Whether to wait for the end of the run.
        whole: Whether its course is compared from the first step to the last, which says nothing across phases.
    """
    reading, kind = newest(record), record.last(LossKind)
    course = reading.training
    judged = reading.assumed or (kind is not None and kind.supervised)
    if not judged and kind is not None and kind.reason:
        return Skip(kind.reason)
    if course is None:
        where = "the log holds" if reading.assumed else "the training steps return"
        return Skip(f"{where} too few losses, or none")
    if not judged:
        return Skip("it is not known what the loss means")
    if course.steps < steps:
        return Skip(f"the training loss has {course.steps} values; from {steps} on its course is judged")
    if final and not reading.final:
        return Skip("the run is not over")
    if course.nonfinite > 0:
        return Skip("the loss is not finite all through")
    phase = next((item for item in reversed(record.of(TrainedPart)) if item.left), None)
    if whole and phase is not None:
        return Skip(f"from step {phase.step} on another part of the model is trained, which may have another loss")
    return course


def validation(record: Record, *, count: int, final: bool = False) -> ValidationCourse | Skip:
    """The course of the validation loss, or why there is none to judge."""
    reading = newest(record)
    course = reading.validation
    if course is None:
        return Skip("no validation loss was recognised among the logged names")
    if course.count < count:
        return Skip(f"{course.count} validations are too few; from {count} on their course is judged")
    if final and not reading.final:
        return Skip("the run is not over")
    return course


def baseline(record: Record) -> float | None:
    """Loss of predicting without looking at the input, if it is known."""
    reference = record.last(ReferenceLoss)
    return reference.baseline if reference is not None else newest(record).baseline


def measured_again(record: Record) -> TrainingLossInEval | None:
    """The last measurement of the fixed training batches."""
    return record.last(TrainingLossInEval)


def level(record: Record, course: TrainingCourse) -> float:
    """The training loss at the end, without what dropout adds to it.

    Nor what the training step itself adds: mixed samples, noise, smoothed labels. The validation step tells on the
    same batches; where it takes another loss that is lower, nothing is claimed by it.
    """
    again = measured_again(record)
    if again is None:
        return course.end
    return min(course.end, again.eval_mode, *([] if again.by_validation is None else [again.by_validation]))


def at_baseline(record: Record, course: TrainingCourse, *, margin: float) -> tuple[float, float] | None:
    """What knowing nothing costs, and the level at the end, of a loss that never got clearly below the former."""
    price, now = baseline(record), level(record, course)
    if price is None or now < (1 - margin) * price or course.lowest < (1 - 2 * margin) * price:
        return None
    return price, now


def plateau(record: Record, course: TrainingCourse) -> float:
    """What most batches of the last tenth of a run cost, without what dropout and the training step add.

    Where the weights jump about, what a few batches cost at the very last step is luck.
    """
    again = measured_again(record)
    end = course.end_quartiles[1] if course.end_quartiles else course.end
    if again is None:
        return end
    bare = min(again.eval_mode, *([] if again.by_validation is None else [again.by_validation]), again.train_mode)
    return end - (again.train_mode - bare)


def comes_each_epoch(record: Record, course: TrainingCourse, *, share: float = 0.6, epochs: int = 4) -> bool:
    """Whether jumps of single steps come once or twice in most epochs, from the beginning: what samples do.

    Jumps that weights make gather where the steps are too long, and show in the next batch, too.
    """
    many = newest(record).epochs
    single = [spike for spike in course.spikes if spike.length == 1]
    if many < epochs or 3 * len(single) < 2 * len(course.spikes):
        return False
    hit = [int((spike.step - course.first_step) * many / length(course)) for spike in single]
    wanted = share * min(many - 1, len(single) / 2 if len(course.spikes) >= MOST_SPIKES else many)
    return len(set(hit)) >= max(wanted, epochs - 1) and min(hit) < many / 3 and len(hit) < 2.5 * len(set(hit))


def learnable(record: Record, below: float, *, share: float, sigmas: float = 4.0) -> ReferenceLoss | Skip:
    """The neighbours' loss, where it proves that the inputs tell more of the targets than the model has learned.

    Args:
        record: The evidence.
        below: What the neighbours have to be clearly better than.
        share: The neighbours' loss is at most this share of it.
        sigmas: And better than the baseline by so many standard errors.
    """
    reference = record.last(ReferenceLoss)
    if reference is None:
        return Skip("it is not known how well a simple method does on these data")
    gain = reference.baseline - reference.neighbours
    if gain < sigmas * reference.error or reference.neighbours > share * below:
        return Skip("no simple method does clearly better, so the data may hold no more")
    return reference


def draws_first(record: Record, fix: str, *, share: float = 0.01) -> str:
    """The fix of a loss that stays high, after what the training step changes by draws of its own, where it does."""
    again = measured_again(record)
    if again is None or again.drawn < share:
        return fix
    moves = f"it changes one batch's loss by {again.drawn:.0%}"
    labels = "samples that are mixed or mirrored need labels that are mixed or changed with them"
    return f"See what training_step draws at random ({moves}): {labels}. Where that is so, {fix[0].lower()}{fix[1:]}"


def warming_up(record: Record) -> bool:
    """Whether the learning rate had only just reached its highest value when the run ended."""
    rates = newest(record).learning_rates
    return len(rates) == 3 and rates[2] >= 0.99 * rates[1] and rates[0] < 0.5 * rates[1]


def resumed(record: Record) -> bool:
    """Whether training continued from a checkpoint."""
    context = record.last(RunContext)
    return context is not None and context.resumed


def error_of(*errors: float) -> float:
    """Standard error of a sum or difference.

    >>> error_of(3.0, 4.0)
    5.0
    """
    return math.sqrt(sum(error**2 for error in errors))


def length(course: TrainingCourse) -> int:
    """Steps of a course, those between the values of a log included."""
    return course.span or course.steps


def step_at(course: TrainingCourse, share: float) -> int:
    """The step after a share of a course.

    >>> step_at(TrainingCourse(steps=10, first_step=49, span=500), 0.5)
    299
    """
    return course.first_step + round(share * length(course))


def unrest(record: Record) -> float | None:
    """How far the validation loss jumps between validations, as a share of it: the data are the same each time."""
    course = newest(record).validation
    if course is None or not math.isfinite(course.noise) or course.end <= 0:
        return None
    return course.noise / course.end


def diverges(course: ValidationCourse, *, sigmas: float, worse: float, price: float) -> bool:
    """Whether the validation loss rises from its lowest part by much of what it had fallen, and stays up.

    Half as much will do where that is half of its lowest value, too, or where a metric that counts samples falls.
    """
    fell, lowest = max(price - course.lowest, 0.0), abs(course.lowest)
    least = 0.2 if worsens(course, sigmas=sigmas) else 0.5
    enough = max(min(worse * fell, least * lowest), 0.5 * worse * fell, 0.1 * lowest)
    return course.rise.sigmas >= sigmas and course.rise.amount >= enough and course.all_above


def worsens(course: ValidationCourse, *, sigmas: float) -> bool:
    """Whether a metric that counts samples, and so is no other name of the loss, has fallen since the loss was lowest.

    By its own noise, and by one sample in a hundred.
    """
    counts = course.metric_samples > 0 and course.mode == "max"
    return counts and course.metric_since.sigmas <= -sigmas and course.metric_since.amount <= -0.01


def tracked(course: ValidationCourse, *, price: float) -> bool:
    """Whether the validation loss fell with training before its lowest part."""
    return price - course.lowest > 0.12 * abs(price)


def improves(course: ValidationCourse, *, sigmas: float, share: float = 0.1, samples: int = 0) -> bool:
    """Whether the metric has become clearly better since the loss was lowest.

    A smooth curve has little noise of its own, though its validation set is small: the metric must also have made up
    a share of what was missing to 1, or of itself where it is no share; and, where it is a share of so many samples,
    more than twice the error that their number leaves.
    """
    sign = 1.0 if course.mode == "max" else -1.0
    before = course.metric_end - course.metric_since.amount
    room = 1.0 - before if course.mode == "max" and 0.0 <= before < 1.0 else abs(before)
    gain = sign * course.metric_since.amount
    samples = samples or course.metric_samples
    if samples and course.mode == "max" and 0.0 <= before <= 1.0 and 0.0 <= course.metric_end <= 1.0:
        room = max(room, 2.0 * math.sqrt(course.metric_end * (1.0 - course.metric_end) / samples) / share)
    return bool(course.metric) and sign * course.metric_since.sigmas >= sigmas and gain >= share * room


def judged_samples(record: Record) -> int:
    """How many labelled samples validation has; 0 where that is not known."""
    counts = [item for item in record.of(LabelCounts) if item.stage == "validate" and item.loader == 0]
    known = [sum(item.counts) for item in counts if item.complete and not item.more]
    if known or all(item.more or item.counts for item in counts):
        return max(known, default=0)
    seen = [item for item in record.of(DeliveredSamples) if item.stage == "validate" and item.loader == 0]
    return seen[-1].delivered if seen else 0  # labels of several numbers each


def distorted(record: Record, course: ValidationCourse, *, share: float = 0.1) -> Skip | None:
    """Why the validation loss is no mean over the validation set: a few rows of a small batch weigh far too much."""
    for seen in record.of(BatchAverages):
        for uneven in seen.uneven:
            far = abs(uneven.value - uneven.weighted) > share * abs(uneven.weighted)
            if uneven.key == course.name and far and not uneven.summed:
                rows = f"{seen.smallest} to {seen.largest} rows"
                return Skip(f"{course.name!r} is the plain mean of batches of {rows}")
    return None


def too_long_steps(record: Record, course: TrainingCourse, *, jitter: float) -> bool:
    """Whether the learning rate is the likely cause.

    Validation jumps, or the first steps drove the loss far up, or it stays above what a constant answer costs.
    """
    price = baseline(record)
    driven_up = price is not None and course.start > 2 * price
    return (unrest(record) or 0.0) >= jitter or driven_up or stays_above(record, course)


def stays_above(record: Record, course: TrainingCourse, *, share: float = 0.02, sigmas: float = 4.0) -> bool:
    """Whether the loss stays above what a constant answer costs, which the last layer's bias alone could give.

    Short steps come to rest there; long ones overshoot it again and again.
    """
    reference = record.last(ReferenceLoss)
    if reference is None:
        return False
    error = course.end_error
    if reference.function in ("mse_loss", "l1_loss"):  # of few large targets a sample's mean says little
        error = error_of(error, reference.error)
    return plateau(record, course) - reference.baseline > max(share * reference.baseline, sigmas * error)


def still_falls(record: Record, course: TrainingCourse) -> bool:
    """Whether the loss was still falling at the end: in training, or in validation, whose data do not change."""
    training_falls = course.slope.sigmas < -4 and course.second_slope.amount < 0.3 * course.slope.amount
    seen = newest(record).validation
    validation_falls = seen is not None and seen.late.sigmas < -3 and seen.rise.amount <= 0
    return training_falls or (validation_falls and course.slope.amount < 0)
