"""Weights of a sum over positions that a softmax over a single unit made: they are all 1."""

from __future__ import annotations

from lightning_debug.evidence.loss import Operation
from lightning_debug.probes.loss_origins import origin
from lightning_debug.probes.loss_trace import LossTrace
from lightning_debug.probes.loss_vocabulary import SOFTMAX, THROUGH
from lightning_debug.probes.trace import Op


def weights_of_one(trace: LossTrace, reached: set[int]) -> tuple[Operation, ...]:
    """The softmaxes over the one unit of a linear layer whose outputs then weigh the positions that are added up.

    A gate among one expert, or a mixture of one component, weighs no positions.

    Args:
        trace: A step, with its tensors alive or not.
        reached: Indices of the calls that the loss depends on.
    """
    found = []
    for op in trace.ops:
        if op.name not in SOFTMAX or op.index not in reached or len(op.shape) < 3 or op.shape[-1] != 1:
            continue
        history = origin(trace, op)
        made, layer = history[0], history[-1]
        if made.dim != len(op.shape) - 1 or not layer.layer or layer.name != "linear" or layer.shape[-1:] != (1,):
            continue
        if any(_adds_up(trace, op, user) for user in trace.ops[op.index + 1 :]):
            found.append(made)
    return tuple(found)


def _adds_up(trace: LossTrace, weights: Op, user: Op) -> bool:
    """Whether a call adds up vectors under these weights, along their positions."""
    own = [trace.origin(item, THROUGH) is weights for item in user.inputs]
    if user.name in ("matmul", "bmm") and own == [True, False]:
        positions = user.shapes[0][-1]
        return positions > 1 and positions in weights.shape[1:-1]
    if user.name not in ("sum", "mean") or not user.inputs:
        return False
    product, dim = user.inputs[0], trace.note(user).dim
    if product is None or product.name != "mul" or dim is None or len(product.shape) != len(weights.shape):
        return False
    weighed = [trace.origin(item, THROUGH) is weights for item in product.inputs]
    if sorted(weighed) != [False, True] or product.shape[-1] == 1:
        return False
    return dim < len(weights.shape) - 1 and weights.shape[dim] > 1
