"""Which units of a model's activations act, and which still react, in one forward pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_debug.probes.model_chain import LINEAR
from lightning_debug.probes.model_trace import ModelTrace
from lightning_debug.probes.trace import Call, Op
from lightning_debug.probes.vocabulary import RESHAPES

BY_HAND = frozenset({"matmul", "mm", "addmm"})
"""Products that a linear layer is written as by hand."""
SILENT = frozenset({"relu", "relu6", "threshold", "clamp_min", "clamp", "hardtanh"})
"""Functions that are flat, with derivative 0, where they give 0."""
BOUNDED = frozenset({"sigmoid", "tanh"})
FLAT = 1e-3
"""A derivative below this passes nothing on."""
MOSTLY = 0.9
"""Share of a unit's values that must be flat."""
PASSED = RESHAPES | {
    *("dropout", "max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d"),
    *("batch_norm", "layer_norm", "mean", "boolean_dispatch", "adaptive_max_pool2d", "max_pool2d_with_indices"),
}
MOST_LAYERS = 128


@dataclass
class Layer:
    """One activation in one pass.

    Args:
        op: The call.
        silent: By unit: whether it was 0 everywhere.
        flat: By unit: whether its derivative was next to 0 nearly everywhere.
        values: Values a unit.
    """

    op: Op
    silent: Tensor
    flat: Tensor
    values: int


class UnitTrace(ModelTrace):
    """Records a step, and the units of its activations."""

    def __init__(self, root: nn.Module, batch: Any) -> None:
        super().__init__(root, batch)
        self.layers: list[Layer] = []

    def _keep_output(self, call: Call) -> None:
        name, output = call.op.name, call.output
        if name not in SILENT | BOUNDED or not isinstance(output, Tensor) or len(self.layers) >= MOST_LAYERS:
            return
        if not self.note(call.op).model or output.ndim < 2 or not output.is_floating_point() or not output.numel():
            return
        # Channels of a feature map are in dimension 1, as convolutions leave them; else features come last.
        from_map = output.ndim > 2 and self._is_map(call.op)
        by_unit = (
            (output.movedim(1, -1) if from_map else output).detach().reshape(-1, output.shape[1 if from_map else -1])
        )
        if name in BOUNDED:
            derivative = by_unit * (1 - by_unit) if name == "sigmoid" else 1 - by_unit.square()
            flat = (derivative < FLAT).float().mean(dim=0) >= MOSTLY
            silent = torch.zeros_like(flat)
        else:
            silent = (by_unit == 0).all(dim=0)
            flat = torch.zeros_like(silent)
        self.layers.append(Layer(call.op, silent.cpu(), flat.cpu(), len(by_unit)))

    def _is_map(self, op: Op) -> bool:
        before = self.origin(op.inputs[0] if op.inputs else None, RESHAPES | {"batch_norm", "dropout", "group_norm"})
        return before is not None and (before.name.startswith("conv") or "pool" in before.name or before.name == "add")


def users(trace: ModelTrace, op: Op) -> list[Op]:
    """The calls that take an output, past those that reshape, pool or normalise it."""
    found: list[Op] = []
    queue, seen = [op], set()
    while queue:
        here = queue.pop()
        for later in trace.ops[here.index + 1 :]:
            if later.index in seen or all(item is not here for item in later.inputs):
                continue
            seen.add(later.index)
            if later.name in PASSED:
                queue.append(later)
            else:
                found.append(later)
    return found


def is_gate(trace: ModelTrace, op: Op) -> bool:
    """Whether an output is multiplied by another activation."""
    return any(later.name in ("mul", "lerp", "where", "bmm", "einsum") for later in users(trace, op))


def feeds_layer(trace: ModelTrace, op: Op) -> bool:
    """Whether a linear layer or convolution takes an output, or a product with a parameter."""
    return any(
        (later.name in LINEAR or later.name in BY_HAND) and trace.note(later).layer for later in users(trace, op)
    )
