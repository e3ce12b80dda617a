"""Evidence about the loss: what reached it in one audited step, from where, and with which values."""

from __future__ import annotations

from dataclasses import dataclass

from lightning_debug.evidence._base import Evidence

QUANTILES = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 1.0)
"""The levels of :attr:`Operand.quantiles`."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One call that made an operand, with the calls that only reshape or convert left out.

    Args:
        name: Canonical name: ``"softmax"``, ``"sigmoid"``, ``"linear"``. A softmax, log-softmax or sigmoid
            written out by hand has the same name.
        module: Path of the innermost module whose ``forward`` ran; ``""`` for the root.
        module_type: Class name of that module.
        line: The user's line, ``train.py:31``.
        shape: Shape of its output.
        dim: The dimension it works along, counted from the front; ``None`` if it has none.
        size: Size of its input along ``dim``.
        amount: The number it adds, subtracts or multiplies by, where that is one number.
        lowest: The least value it can give where its arguments say so: the lower limit of a clamp.
        highest: The greatest value, likewise.
        layer: Whether parameters are among its arguments: a linear layer, a convolution.
        merges: Whether several tensors of the model meet in it, so that what is said of one is not said of it.
    """

    name: str
    module: str = ""
    module_type: str = ""
    line: str = ""
    shape: tuple[int, ...] = ()
    dim: int | None = None
    size: int | None = None
    amount: float | None = None
    lowest: float | None = None
    highest: float | None = None
    layer: bool = False
    merges: bool = False


@dataclass(frozen=True, kw_only=True)
class Operand:
    """A tensor that a loss was given, summarised.

    Numbers are of a sample of the tensor: rows along ``dim``, evenly spread, all of them where there are few.
    A list by dimension has one entry for each dimension of ``shape``, ``None`` where it was not measured
    (size 1, or too few values).

    Args:
        shape: Its shape.
        dtype: Its dtype, such as ``"float32"``.
        field: The batch field it is, or is a view or cast of, such as ``"batch['label']"``; ``""`` if none.
        from_batch: Whether it depends on the batch, and on no parameter.
        from_model: Whether a parameter had a part in it.
        carries_gradient: Whether the loss can send a gradient through it.
        joined: The batch fields that meet it behind the last layer: masks, and labels that lower a score by a margin.
        dim: The dimension along which its rows lie: that of the classes, where the loss has one.
        rows: How many rows were sampled.
        count: How many values were sampled.
        integral: Whether all values are whole numbers.
        finite: Whether all values are finite; the numbers below leave out the others.
        minimum: Least value; ``None``, like all that follow, for an empty tensor or one that was not read.
        maximum: Greatest value.
        mean: Mean.
        deviation: Standard deviation.
        quantiles: Values at the levels :data:`QUANTILES`.
        share_negative: Share of values below 0.
        share_zero: Share of values that are 0.
        share_in_unit: Share of values from 0 to 1.
        share_at_minimum: Share of values equal to the least one.
        distinct: How many distinct values, if at most 1000.
        entropy: Of the distribution of values in nats, if ``integral`` and ``distinct`` is known.
        row_spread: Median over rows of the greatest less the least value.
        row_sum_lowest: Least sum of a row.
        row_sum_highest: Greatest sum of a row.
        log_sum_lowest: Least log-sum-exp of a row.
        log_sum_median: Median log-sum-exp.
        log_sum_highest: Greatest log-sum-exp.
        sum_errors: By dimension: how far the sum along it is from 1 at most (from -1 where no value is positive);
            infinite where signs are mixed, ``None`` where a NaN hides it (as below).
        log_sum_errors: By dimension: how far the log-sum-exp along it is from 0 at most.
        rows_hold: ``"one-hot"``, ``"multi-hot"`` (zeros and ones), ``"soft"`` (a distribution) or ``""``.
    """

    shape: tuple[int, ...] = ()
    dtype: str = ""
    field: str = ""
    from_batch: bool = False
    from_model: bool = False
    carries_gradient: bool = False
    joined: tuple[str, ...] = ()
    dim: int | None = None
    rows: int = 0
    count: int = 0
    integral: bool = False
    finite: bool = True
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    deviation: float | None = None
    quantiles: tuple[float, ...] = ()
    share_negative: float | None = None
    share_zero: float | None = None
    share_in_unit: float | None = None
    share_at_minimum: float | None = None
    distinct: int | None = None
    entropy: float | None = None
    row_spread: float | None = None
    row_sum_lowest: float | None = None
    row_sum_highest: float | None = None
    log_sum_lowest: float | None = None
    log_sum_median: float | None = None
    log_sum_highest: float | None = None
    sum_errors: tuple[float | None, ...] = ()
    log_sum_errors: tuple[float | None, ...] = ()
    rows_hold: str = ""


@dataclass(frozen=True, kw_only=True)
class LossCall:
    """One place where predictions become a loss (or a metric).

    Args:
        function: ``"cross_entropy"``, ``"mse_loss"`` … for torch's loss functions, however they are spelled. Of
            a loss written out by hand: ``"log_softmax"`` (the scores it normalises), ``"logsigmoid"``,
            ``"selection"`` (log-probabilities picked by label: gather or indexing), ``"product"`` (with
            targets), ``"difference"`` (from targets, then squared or made absolute). Of a metric:
            ``"argmax"`` (compared with labels of the batch).
        line: The user's line, ``train.py:31``.
        module: Path of the innermost module whose ``forward`` ran; ``""`` for the root.
        by_hand: Whether it is none of torch's loss functions.
        reaches_loss: Whether what the step returned (or called backward on) depends on it.
        scores: What the model gives it.
        target: What that is compared with, if anything.
        origin: The calls that made ``scores``, nearest first.
        value: Its value, averaged if it is not reduced; for a difference the mean square, for a product the mean.
        reduction: ``"mean"``, ``"sum"``, ``"none"`` …; ``""`` if it has none.
        weighted: Whether it was given class or element weights.
        label_smoothing: As given.
        ignore_index: As given; ``None`` if it has none.
        ignored: Share of targets that are ``ignore_index``.
        blanks: Of ``ctc_loss``: targets, padding aside, that are its blank.
        shape: Shape of its output, before any reduction where scores and targets are combined one by one.
        aligned_value: Its value with the scores in the target's shape, where both have as many values and
            different shapes.
        aligned_by: ``"unsqueeze"``, ``"reshape"`` … if an operand was given its shape on the line of the call
            itself, as for pairwise losses; else ``""``.
    """

    function: str
    line: str = ""
    module: str = ""
    by_hand: bool = False
    reaches_loss: bool = True
    scores: Operand = Operand()
    target: Operand | None = None
    origin: tuple[Operation, ...] = ()
    value: float | None = None
    reduction: str = ""
    weighted: bool = False
    label_smoothing: float = 0.0
    ignore_index: int | None = None
    ignored: float = 0.0
    blanks: int = 0
    shape: tuple[int, ...] = ()
    aligned_value: float | None = None
    aligned_by: str = ""


@dataclass(frozen=True, kw_only=True)
class LossGraph(Evidence):
    """What reached the loss of one step.

    Args:
        step: ``"training_step"`` or ``"validation_step"``.
        live: Whether the run's own step was watched, rather than one run again in isolation.
        loss: The value that was returned (automatic optimization) or first called backward on; ``None`` if
            there was none.
        losses: How many values were returned or called backward on.
        backward: The values that the step itself called backward on, in order, the first 64 of them: where the
            optimization is manual. ``None`` stands for one that is no number.
        traced: Whether the loss could be followed back to where it was made. If not, every loss
            function called with predictions counts as reaching it.
        batch_size: Leading size of the batch's tensors, if they agree.
        calls: The places where predictions become loss or metric, in the order in which they ran.
        unread: How many more there were that were not summarised.
        weights_of_one: The softmaxes over one unit inside the model whose outputs weigh a sum over positions.
    """

    step: str = "training_step"
    live: bool = True
    loss: float | None = None
    losses: int = 0
    backward: tuple[float | None, ...] = ()
    traced: bool = True
    batch_size: int | None = None
    calls: tuple[LossCall, ...] = ()
    unread: int = 0
    weights_of_one: tuple[Operation, ...] = ()

    @property
    def reaching(self) -> tuple[LossCall, ...]:
        """The calls that the loss depends on."""
        return tuple(call for call in self.calls if call.reaches_loss)
