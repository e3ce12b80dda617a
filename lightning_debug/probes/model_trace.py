"""ModelTrace: one forward pass with its layers' outputs and its predictions, to be compared with another pass."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_debug.evidence.model import Place
from lightning_debug.probes.loss_seen import Seen
from lightning_debug.probes.loss_trace import LossTrace
from lightning_debug.probes.plain_shape import plain_shape
from lightning_debug.probes.trace import Call, Op, tensors

LAYERS = frozenset(
    """
    addmm baddbmm bilinear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d gru linear lstm
    matmul mm multi_head_attention_forward rnn_relu rnn_tanh transformer_encoder_layer_fwd
    """.split()
)
"""Calls whose output is a layer's, where a parameter is among the arguments."""

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_OURS = tuple(os.path.join(_PACKAGE, name, "") for name in ("callbacks", "experiments", "probes"))

MASKED = 1e6
"""Values from which on a score is taken for masked: -1e9 where a softmax is to give 0."""
MOST_PREDICTIONS = 8
MOST_BYTES = 2**28
"""Outputs beyond this many bytes are not kept."""


@dataclass
class Prediction:
    """What a loss was given.

    Args:
        op: The loss call.
        kind: As :attr:`~lightning_debug.evidence.loss.LossCall.function`.
        scores: What the model gives it.
        made: The call that made the scores.
        target: What that is compared with; ``None`` if that is not of the batch.
        ignore: A target's value that the loss leaves out.
    """

    op: Op
    kind: str
    scores: Tensor
    made: Op | None
    target: Tensor | None
    ignore: int | None = None

    @property
    def is_classes(self) -> bool:
        """Whether scores have a class dimension and targets hold class indices."""
        return self.kind in ("cross_entropy", "nll_loss") and self.target is not None and self._indexed()

    def _indexed(self) -> bool:
        assert self.target is not None
        return not self.target.is_floating_point() and self.scores.ndim == self.target.ndim + 1


class ModelTrace(LossTrace):
    """Records one step.

    Args:
        root: The model.
        batch: What the step is given.
        every: Whether to keep the output of every call, rather than of layers only.

    Attributes:
        outputs: Outputs of layers (or of every call) by index of the call.
        whole: Outputs of whole numbers, where every call's is kept.
        predictions: What losses were given, in order.
        input_sizes: Root mean square of what each layer was given.
        norm_inputs: Class, and shape of the first input, of each normalisation by module.
        batch_statistics: Whether a normalisation used the batch's own statistics although in eval mode.
    """

    def __init__(self, root: nn.Module, batch: Any, *, every: bool = False) -> None:
        super().__init__(root, batch)
        self.outputs: dict[int, Tensor] = {}
        self.whole: dict[int, Tensor] = {}
        self.predictions: list[Prediction] = []
        self.batch_statistics = False
        self.norm_inputs: dict[str, tuple[str, tuple[int, ...]]] = {}
        self.input_sizes: dict[int, Tensor] = {}
        self._every, self._bytes = every, 0

    def __enter__(self) -> ModelTrace:
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Records the call, unless it is one of this package's own, around the step."""
        caller = sys._getframe(1)  # noqa: SLF001 - the documented way to the stack
        if caller.f_code.co_filename.startswith(_OURS):
            return func(*args, **(kwargs or {}))
        return super().__torch_function__(func, types, args, kwargs)

    def signature(self) -> tuple[tuple[str, str], ...]:
        """What was called, in order: two passes with equal signatures can be compared call by call."""
        return tuple((op.name, op.line) for op in self.ops)

    def release(self) -> None:
        """Lets go of every tensor."""
        super().release()
        self.outputs.clear()
        self.whole.clear()
        self.predictions.clear()

    def _guarded(self, call: Call) -> None:
        super()._guarded(call)
        try:
            self._keep_output(call)
        except Exception as error:  # as in the class above
            self.errors.append(error)

    def _keep_output(self, call: Call) -> None:
        name = call.op.name
        if name in ("batch_norm", "instance_norm") and isinstance(call.argument(0, "input"), Tensor):
            if name == "batch_norm" and call.argument(5, "training") is True:
                self.batch_statistics = True
            self.norm_inputs.setdefault(call.op.module, (call.op.module_type, plain_shape(call.argument(0, "input"))))
        if not (self._every or (name in LAYERS and self.note(call.op).layer)):
            return
        output = next(tensors(call.output), None)
        if output is None or output.is_complex() or not output.numel():
            return
        if not output.is_floating_point() and not self._every:
            return
        self._bytes += output.numel() * output.element_size()
        if self._bytes > MOST_BYTES:
            return
        if not output.is_floating_point():
            self.whole[call.op.index] = output.detach().clone()
        else:
            self.outputs[call.op.index] = output.detach().clone()
            given = call.argument(0, "input")
            if isinstance(given, Tensor) and given.is_floating_point() and not self._every:
                self.input_sizes[call.op.index] = given.detach().double().square().mean().sqrt()

    def _add(self, seen: Seen) -> None:
        """Keeps what a loss is given as it is, where the class above sums it up."""
        scores = seen.scores.tensor
        if len(self.predictions) >= MOST_PREDICTIONS or scores is None or seen.kind in ("argmax", "broadcast"):
            return
        target = None if seen.target is None else seen.target.tensor
        own = target is not None and seen.target is not None and seen.target.known.get("from_batch")
        ignore = seen.facts.get("ignore_index")
        self.predictions.append(
            Prediction(
                seen.op,
                seen.kind,
                scores.detach().clone(),
                seen.scores.made,
                target.detach().clone() if own and target is not None else None,
                ignore,
            )
        )


def place(op: Op | None) -> Place:
    """A call as evidence."""
    if op is None:
        return Place()
    return Place(name=op.name, module=op.module, module_type=op.module_type, line=op.line, shape=op.shape, dim=op.dim)


def tolerance(tensor: Tensor) -> float:
    """The share of a tensor's largest value below which a change is rounding."""
    return 2e-2 if tensor.dtype in (torch.float16, torch.bfloat16) else 1e-4


def not_masked(values: Tensor) -> Tensor:
    """Where values are finite, and no huge numbers that stand for a mask."""
    return torch.isfinite(values) & (values.abs() < MASKED)


def changed(before: Tensor, after: Tensor) -> Tensor | None:
    """Which elements differ by more than rounding; ``None`` where the two cannot be compared."""
    if before.shape != after.shape or not before.numel():
        return None
    difference = (before.double() - after.double()).abs() if before.device.type != "mps" else (before - after).abs()
    if not before.is_floating_point():
        return difference > 0
    if not bool(torch.isfinite(difference).all()):
        both = torch.isfinite(before) & torch.isfinite(after)  # masked scores are -inf in both
        difference = torch.where(both, difference, (torch.isfinite(before) != torch.isfinite(after)) * 1.0)
    counted = before[not_masked(before)]
    scale = float(counted.abs().max()) if counted.numel() else 0.0
    return difference > tolerance(before) * scale


def comparable(one: ModelTrace, other: ModelTrace) -> Iterator[tuple[Op, Tensor, Tensor]]:
    """Outputs of the same call in two passes, as long as the passes make the same calls."""
    for op, twin in zip(one.ops, other.ops, strict=False):
        if (op.name, op.line) != (twin.name, twin.line):
            return
        if op.index in one.outputs and twin.index in other.outputs:
            yield op, one.outputs[op.index], other.outputs[twin.index]
