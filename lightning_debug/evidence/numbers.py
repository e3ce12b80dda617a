"""Evidence about numbers: losses and gradient norms over steps, and where something stopped being finite."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

from lightning_debug.evidence._base import Evidence


@dataclass(frozen=True, kw_only=True)
class StepWindow(Evidence):
    """Losses and gradient norms of a run of batches, as the user knows them (unscaled, not divided).

    Args:
        steps: Batches trained on so far in the fit, from 0, one entry for each batch of the window.
        losses: By name (``"loss"``; ``"loss_0"``, ``"loss_1"`` where a batch has several backward passes):
            one loss a batch, in the order of ``steps``; ``None`` where there was none or it was not read.
        gradient_norms: By name (``"gradient_norm"``; with an index where there are several optimizers): the
            norm before clipping of each optimizer step of the window; ``None`` where it was not taken (of large
            models on a CPU it is taken of one step in ten).
        norm_type: Order of the norms.
        local: Whether a norm covers only this rank's shard.
        clip_norm: The threshold in force on the norm; ``None`` when none is.
        clipped_by: Where the threshold was set: ``"NonFiniteGuard(max_norm)"`` or ``"Trainer(gradient_clip_val)"``.
        optimizer_steps: Optimizer steps in the window whose norm was read.
        clipped: How many of them had a norm above the threshold.
        not_finite: Batches of the window whose loss or gradient was not finite.
        skipped: Optimizer steps that the guard left out.
        skipped_by_scaler: Optimizer steps that the gradient scaler left out.
    """

    steps: tuple[int, ...] = ()
    losses: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    gradient_norms: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    norm_type: float = 2.0
    local: bool = False
    clip_norm: float | None = None
    clipped_by: str = ""
    optimizer_steps: int = 0
    clipped: int = 0
    not_finite: int = 0
    skipped: int = 0
    skipped_by_scaler: int = 0

    def scalars(self) -> Mapping[str, float]:
        """The mean loss and the median gradient norm of the window, of what is finite.

        >>> StepWindow(steps=(0, 1), losses={"loss": (1.0, 3.0)}).scalars()
        {'loss': 2.0}
        """
        result: dict[str, float] = {}
        for name, values in self.losses.items():
            finite = [value for value in values if value is not None and math.isfinite(value)]
            if finite:
                result[name] = statistics.fmean(finite)
        for name, norms in self.gradient_norms.items():
            finite = [value for value in norms if value is not None and math.isfinite(value)]
            if finite:
                result[name] = statistics.median(finite)
        return result


@dataclass(frozen=True, kw_only=True)
class NonFiniteTensor:
    """What is not finite in one tensor.

    Args:
        name: As the user writes it: ``batch["image"]``, or a parameter's path such as ``net.0.weight``.
        kind: ``"field"``, ``"parameter"`` or ``"buffer"``.
        shape: Its shape.
        dtype: Its dtype, without ``torch.``.
        numel: Its number of values.
        nan: How many are NaN.
        positive: How many are +Inf.
        negative: How many are -Inf.
        rows: Indices along the first dimension that hold one, the first few.
        row_count: How many rows hold one.
        columns: Indices along the last dimension that hold one, the first few (tensors of 2 dimensions or more).
        column_count: How many columns hold one.
        minimum: Smallest finite value; ``None`` when there is none.
        maximum: Largest finite value.
        module: Class name of the module that owns a parameter or buffer.
        trainable: Whether it is a parameter that requires a gradient.
    """

    name: str
    kind: str = "field"
    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    numel: int = 0
    nan: int = 0
    positive: int = 0
    negative: int = 0
    rows: tuple[int, ...] = ()
    row_count: int = 0
    columns: tuple[int, ...] = ()
    column_count: int = 0
    minimum: float | None = None
    maximum: float | None = None
    module: str = ""
    trainable: bool = False


@dataclass(frozen=True, kw_only=True)
class Operand:
    """The range of one tensor that an operation met or made.

    Args:
        source: What it is: ``batch["x"]``, a parameter's path, or the operation that made it (``"linear (net.0)"``).
        shape: Its shape.
        dtype: Its dtype, without ``torch.``.
        numel: Its number of values.
        minimum: Smallest finite value; ``None`` when there is none.
        maximum: Largest finite value.
        smallest: Smallest magnitude that is not zero, of the finite values.
        zeros: How many are 0.
        negatives: How many are below 0 (finite).
        nan: How many are NaN.
        positive: How many are +Inf.
        negative: How many are -Inf.
        kind: ``"input"``, ``"parameter"`` or ``"buffer"`` where it was there before the step; else empty.
    """

    source: str = ""
    kind: str = ""
    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    numel: int = 0
    minimum: float | None = None
    maximum: float | None = None
    smallest: float | None = None
    zeros: int = 0
    negatives: int = 0
    nan: int = 0
    positive: int = 0
    negative: int = 0


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where the first value that is not finite came from.

    Args:
        kind: ``"forward"`` (an operation made it from finite operands), ``"backward"`` (its derivative did),
            ``"input"``, ``"parameter"``, ``"buffer"`` or ``"constant"`` (it was there before the step).
        name: The batch field, parameter or buffer.
        operation: Name of torch's call, such as ``"log"``.
        module: Path of the module in whose ``forward`` it ran; ``""`` outside any.
        module_type: Class name of that module.
        line: ``file.py:31`` in the user's code.
        operands: The operation's tensor arguments, as they were before it.
        output: What it made: the output, or in ``"backward"`` the gradient.
        result: In ``"backward"``: what the operation had made in the forward pass.
        upstream: In ``"backward"``: largest magnitude of the gradient that arrived.
        numbers: Plain numbers among its arguments, by name or position, and counts that tell causes apart:
            ``masked_rows`` (softmax rows that are -Inf throughout), ``kept`` (labels that are not ignored),
            ``masked_labels`` (labels whose score is -Inf), ``reduced`` (values a reduction takes together).
        masked: Operations on the way that write infinite values on purpose (``masked_fill``).
    """

    kind: str
    name: str = ""
    operation: str = ""
    module: str = ""
    module_type: str = ""
    line: str = ""
    operands: tuple[Operand, ...] = ()
    output: Operand | None = None
    result: Operand | None = None
    upstream: float | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)
    masked: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class NonFiniteStep(Evidence):
    """A training step whose loss or gradient is not finite, or that raised over such a value, and its re-run.

    Args:
        loss: The loss; ``None`` when it was not seen.
        error: Type and text of the exception that the step raised over such a value; empty for none.
        gradients: Parameters whose gradient is not finite, in backward order, the first few.
        gradient_count: How many parameters that are.
        gradient_total: How many parameters had a gradient.
        fields: Batch fields that hold values that are not finite.
        causes: Names of those fields without whose bad values loss and gradients are finite.
        proved: Whether ``causes`` was established by a re-run; else the field's values are bad in this batch and
            not in the others at hand.
        weights: Parameters and buffers that were not finite before the step.
        origin: Where it began; ``None`` when not known.
        unknown: Why the origin is not known.
        action: What the guard did: ``"warn"``, ``"skip"``, ``"stop"``, ``"raise"``, or ``"scaler"`` where the
            gradient scaler left the step out.
        cannot_skip: Why the step was applied although it should have been skipped; empty otherwise.
        scale: The gradient scaler's scale; ``None`` without one.
        scaler_skips: Steps in a row that the scaler has left out, this one included.
        unscaled_finite: Under a scaler: whether the gradients are finite at scale 1; ``None`` when not tried.
        optimizer: Class name of the optimizer.
        learning_rate: Its (first group's) learning rate; ``None`` when not a plain number.
        epsilon: Its ``eps``, where it has one.
        saved: The script that replays the step, where it was saved; or why it was not.
    """

    loss: float | None = None
    error: str = ""
    gradients: tuple[str, ...] = ()
    gradient_count: int = 0
    gradient_total: int = 0
    fields: tuple[NonFiniteTensor, ...] = ()
    causes: tuple[str, ...] = ()
    proved: bool = False
    weights: tuple[NonFiniteTensor, ...] = ()
    origin: Origin | None = None
    unknown: str = ""
    action: str = "warn"
    cannot_skip: str = ""
    scale: float | None = None
    scaler_skips: int = 0
    unscaled_finite: bool | None = None
    optimizer: str = ""
    learning_rate: float | None = None
    epsilon: float | None = None
    saved: str = ""


@dataclass(frozen=True, kw_only=True)
class SkipBudget(Evidence):
    """More steps were left out than was allowed, and training stops.

    Args:
        skipped: Steps left out.
        allowed: How many were allowed.
        action: ``"skip"`` or ``"rollback"``.
    """

    skipped: int = 0
    allowed: int = 0
    action: str = "skip"


@dataclass(frozen=True, kw_only=True)
class WeightsCheck(Evidence):
    """One look at all parameters and buffers.

    Args:
        when: ``"start"`` (before the first step), ``"step"`` (after a bad step), ``"epoch"`` or ``"end"``.
        checked: How many floating-point parameters and buffers were looked at.
        bad: Those that are not finite (buffers: hold NaN or +Inf), the first few.
        bad_count: How many that are.
    """

    when: str = "start"
    checked: int = 0
    bad: tuple[NonFiniteTensor, ...] = ()
    bad_count: int = 0
