"""Evidence about learning curves: the values of an epoch, and what arithmetic says of the curves so far."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from lightning_debug.evidence._base import Evidence


@dataclass(frozen=True, kw_only=True)
class EpochValues(Evidence):
    """What one epoch, or one stretch between validations, was worth.

    Args:
        train_loss: Mean training loss over its batches; ``None`` where none was returned.
        train_error: Standard error of that mean, from the batches' spread.
        batches: How many batches.
        val_loss: Validation loss logged after it; ``None`` without.
        metrics: Validation metrics logged after it, by name.
    """

    train_loss: float | None = None
    train_error: float | None = None
    batches: int = 0
    val_loss: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)

    def scalars(self) -> Mapping[str, float]:
        """Training and validation loss for one chart: ``epoch_loss/train`` and ``epoch_loss/val``."""
        found = {"epoch_loss/train": self.train_loss, "epoch_loss/val": self.val_loss}
        return {tag: value for tag, value in found.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Shift:
    """A difference between two parts of a curve.

    Args:
        amount: Later part less earlier part.
        error: Its standard error; infinite where the noise is not known.
    """

    amount: float = 0.0
    error: float = math.inf

    @property
    def sigmas(self) -> float:
        """The amount in standard errors, with its sign (-2 for -1.0 ± 0.5); 0 where the noise is not known."""
        known = self.amount if math.isfinite(self.error) else 0.0
        return known and (known / self.error if self.error > 0 else math.copysign(math.inf, known))


@dataclass(frozen=True, kw_only=True)
class Spike:
    """A jump of the training loss far out of its noise.

    Args:
        step: First step of it.
        value: Highest loss in it.
        before: Median loss just before.
        noise: Robust standard deviation of the loss just before.
        length: Steps until the loss was back half-way; ``1`` for a single batch.
        recovered: Whether it came back before the run ended.
    """

    step: int
    value: float
    before: float
    noise: float
    length: int = 1
    recovered: bool = True


@dataclass(frozen=True, kw_only=True)
class TrainingCourse:
    """The course of the training loss. Shares are of the run's steps, losses in the loss's own units.

    Args:
        steps: Values of the loss: batches trained on, unless a log holds some of them only.
        first_step: Step of the first value.
        span: Steps from the first to the last value, both counted; 0 where as many as values.
        start: Mean of the first few steps.
        start_error: Standard error of it.
        end: Mean of the last tenth.
        end_error: Standard error of it.
        end_quartiles: Lower quartile and median of the last tenth; empty for too few values.
        lowest: Lowest mean of a twentieth of the run.
        lowest_at: Share of the run at which that is.
        above_since: Share of the run that remains when the loss was last nearer to ``lowest`` than to ``start``.
        late: Last quarter less the quarter before.
        slope: Change per whole run, of a line through all of it.
        first_slope: Likewise, of a line through the first half.
        second_slope: Of a line through the second half.
        settled_at: Share of the run after which all twentieths lie within a tenth of the whole fall from ``end``.
        batch_noise: Standard deviation of one batch's loss around the course.
        nonfinite: Share of steps whose loss was NaN or infinite.
        spikes: The largest spikes, at most 32.
    """

    steps: int = 0
    first_step: int = 0
    span: int = 0
    start: float = 0.0
    start_error: float = math.inf
    end: float = 0.0
    end_error: float = math.inf
    end_quartiles: tuple[float, ...] = ()
    lowest: float = 0.0
    lowest_at: float = 0.0
    above_since: float = 0.0
    late: Shift = Shift()
    slope: Shift = Shift()
    first_slope: Shift = Shift()
    second_slope: Shift = Shift()
    settled_at: float = 1.0
    batch_noise: float = math.inf
    nonfinite: float = 0.0
    spikes: tuple[Spike, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ValidationCourse:
    """The course of the validation loss and metric, over validations.

    Args:
        name: Name of the loss; ``""`` where none is known, and the losses below are meaningless.
        count: How many validations had a finite loss.
        epochs: Epoch of each validation that ``lowest_at`` and the like refer to (first, last).
        first: Its first value.
        end: Mean of the last (up to 3) values.
        lowest: Smoothed lowest value.
        lowest_epoch: Epoch of that.
        lowest_between: First and last epoch that noise does not tell apart from it.
        lowest_share: Share of the run at which it is.
        noise: Standard deviation of one value around the smooth course; infinite where it cannot be known.
        rise: From the lowest part to the end.
        all_above: Whether each of the last three values is above the lowest part.
        late: Last quarter less the quarter before.
        train_since: Change of the training loss since the lowest part.
        train_at_lowest: Training loss over the epoch of the lowest part; ``None`` where unknown.
        train_end: Training loss over the last epochs (up to 3); ``None`` where unknown.
        below_training: Share of the last half's validations whose loss is below the training loss of their epoch.
        metric: Name of the metric; ``""`` where none is known.
        mode: ``"max"`` or ``"min"``: which values are better.
        metric_end: Mean of the last (up to 3) values.
        metric_best: Best smoothed value.
        metric_since: Change of the metric from the loss's lowest part to the end.
        metric_late: Last quarter less the quarter before.
        metric_samples: How many samples the metric counts, where its values are shares of so many; else 0.
    """

    name: str = ""
    count: int = 0
    epochs: tuple[int, int] = (0, 0)
    first: float = 0.0
    end: float = 0.0
    lowest: float = 0.0
    lowest_epoch: int = 0
    lowest_between: tuple[int, int] = (0, 0)
    lowest_share: float = 1.0
    noise: float = math.inf
    rise: Shift = Shift()
    all_above: bool = False
    late: Shift = Shift()
    train_since: Shift = Shift()
    train_at_lowest: float | None = None
    train_end: float | None = None
    below_training: float = 0.0
    metric: str = ""
    mode: str = "max"
    metric_end: float = 0.0
    metric_best: float = 0.0
    metric_since: Shift = Shift()
    metric_late: Shift = Shift()
    metric_samples: int = 0

    def objective_moves(self, sigmas: float = 3.0) -> bool:
        """Whether the training loss has risen along with that of validation: its terms, or their weights, change."""
        return self.train_since.sigmas > sigmas and 2 * self.train_since.amount > self.rise.amount


@dataclass(frozen=True, kw_only=True)
class BestEpoch:
    """The epoch chosen by metric and loss together.

    Args:
        epoch: The epoch, from 0.
        reason: Why.
        rule: ``"metric"``, ``"loss"`` or ``"metric and loss"``: which of them decided.
        loss, metric: Validation loss and metric there.
        names: Under which these two were logged.
    """

    epoch: int
    reason: str
    rule: str
    loss: float | None = None
    metric: float | None = None
    names: tuple[str, str] = ("", "")


@dataclass(frozen=True, kw_only=True)
class CurveReading(Evidence):
    """What the curves say so far; the newest reading holds for the whole run.

    Args:
        final: Whether the run is over.
        epochs: Epochs trained.
        assumed: Whether losses are taken for supervised because the user says so, or asks about logs alone.
        training: Course of the training loss; ``None`` where it is not known.
        validation: Course of the validation; ``None`` without.
        best: The epoch to keep; ``None`` with fewer than 3 validations.
        learning_rates: First, highest and last learning rate of the first parameter group; empty where unknown.
        baseline: Loss of predicting without looking, where the user or the logs tell; ``None`` otherwise.
        batch_size: Samples of a full batch; 0 where unknown.
    """

    final: bool = False
    epochs: int = 0
    assumed: bool = False
    training: TrainingCourse | None = None
    validation: ValidationCourse | None = None
    best: BestEpoch | None = None
    learning_rates: tuple[float, ...] = ()
    baseline: float | None = None
    batch_size: int = 0


@dataclass(frozen=True, kw_only=True)
class LossKind(Evidence):
    """What the training loss is, as far as its rise and fall have a meaning.

    Args:
        supervised: Whether it is the mean of one loss function of predictions and targets: lower is always better.
        function: That function's name; ``""`` where it is none.
        reason: Why it is not, as half a sentence that can follow "not judged, because".
        plain: Whether neither weights, smoothing nor ignored targets are in it, so that a baseline can be computed.
        target: Name of the targets' batch field; ``""`` where they are computed.
        share: What part of the loss the value followed is, where steps made by hand divide it.
    """

    supervised: bool = False
    function: str = ""
    reason: str = ""
    plain: bool = False
    target: str = ""
    share: float = 1.0


@dataclass(frozen=True, kw_only=True)
class ReferenceLoss(Evidence):
    """What a simple method makes of the same training data: the k nearest neighbours, each sample left out in turn.

    Args:
        function: The loss's function: ``"cross_entropy"``, ``"mse_loss"`` …
        samples: Training samples used.
        baseline: Loss of predicting the label distribution (or the mean) of these samples for each.
        neighbours: Loss of predicting from the neighbours.
        error: Standard error of the difference between the two.
        inputs: Name of the batch field that was taken for the inputs; ``target:`` of that for the target.
    """

    function: str
    samples: int
    baseline: float
    neighbours: float
    error: float = math.inf
    inputs: str = ""
    target: str = ""


@dataclass(frozen=True, kw_only=True)
class TrainingLossInEval(Evidence):
    """A few training batches measured again: by training_step in train and eval mode, and by validation_step.

    Args:
        epoch: Epoch at whose end.
        batches: How many batches.
        train_mode: Mean loss in train mode.
        eval_mode: Mean loss of training_step in eval mode.
        by_validation: Mean of the loss that validation_step logs for them; ``None`` if it logs none, or takes none.
        error: Standard error of these means, from the batches' spread.
        val_batches: How many batches of the size of a training batch a validation is worth; 0 where not known.
        augmented: Whether the data set gives another sample when one is read twice; ``None`` where not known.
        drawn: Share by which a batch's loss changes in eval mode when training_step is given it twice: its own draws.
        other_sizes: Whether a validation batch's sizes, samples aside, lie far outside of training's (long sequences).
    """

    epoch: int
    batches: int
    train_mode: float
    eval_mode: float
    by_validation: float | None = None
    error: float = math.inf
    val_batches: int = 0
    augmented: bool | None = None
    drawn: float = 0.0
    other_sizes: bool = False
