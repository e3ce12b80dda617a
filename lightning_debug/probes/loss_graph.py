"""The loss graph of a traced step: which calls make its loss, from what, and with which values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from lightning_debug.evidence.loss import LossCall, LossGraph
from lightning_debug.probes.loss_operands import readable
from lightning_debug.probes.loss_origins import ancestors, arithmetic, head, is_copied, origin, shaped_on_line
from lightning_debug.probes.loss_seen import Seen
from lightning_debug.probes.loss_trace import LossTrace
from lightning_debug.probes.loss_vocabulary import LOSS_FUNCTIONS, SOFTMAX, SQUARES, THROUGH
from lightning_debug.probes.loss_weights import weights_of_one
from lightning_debug.probes.trace import Op

PROBABILISTIC = SOFTMAX | {"log_softmax", "sigmoid", "log_sigmoid"}
MOST_BACKWARD = 64
COMPARING = frozenset({"eq", "ne", "add", "sub"})
"""What metrics do with predicted and true labels."""


def loss_graph(trace: LossTrace, output: Any, **known: Any) -> LossGraph:
    """The loss graph of a step that ran under ``trace``.

    Args:
        trace: The trace, left by now. Its operands are read and let go.
        output: The loss that the step returned, or ``None``: then what was called backward on counts.
        known: Fields of the result that the trace does not tell.
    """
    trace.close()
    returned = [(output, trace.producer(output))] if isinstance(output, Tensor) else []
    losses = returned or trace.backward
    roots = [made for _, made in losses if made is not None]
    reached, near, used = ancestors(roots), head(trace, roots), arithmetic(roots)
    calls = []
    for seen in trace.seen:
        if seen.kind == "argmax":
            if _is_compared(trace, seen.op):
                calls.append(_call(trace, seen, reaches=False))
        elif seen.kind in LOSS_FUNCTIONS:
            reaches = seen.op.index in reached if roots else seen.scores.known["carries_gradient"]
            calls.append(_call(trace, seen, reaches=reaches))
        elif seen.kind == "broadcast":
            if seen.op.index in near:
                calls.append(_call(trace, seen, reaches=True))
        elif seen.op.index in used and _makes_a_loss(trace, seen, used[seen.op.index]):
            calls.append(_call(trace, seen, reaches=True))
    sizes = {tensor.shape[0] for tensor in trace.field_tensors if tensor.ndim}
    return LossGraph(
        **known,
        loss=_value(losses[0][0]) if losses else None,
        losses=len(losses),
        backward=tuple(_value(value) for value, _ in trace.backward[:MOST_BACKWARD]),
        traced=bool(roots),
        batch_size=sizes.pop() if len(sizes) == 1 else None,
        calls=tuple(calls),
        unread=trace.unread,
        weights_of_one=weights_of_one(trace, reached),
    )


def _call(trace: LossTrace, seen: Seen, *, reaches: bool) -> LossCall:
    op = seen.op
    made = [seen.scores.made, seen.target.made if seen.target is not None else None]
    shaped = [shaped_on_line(trace, item, op.line) for item in made]
    return LossCall(
        function=seen.kind,
        line=op.line,
        module=op.module,
        by_hand=seen.kind not in LOSS_FUNCTIONS,
        reaches_loss=reaches,
        scores=seen.scores.operand,
        target=None if seen.target is None else seen.target.operand,
        origin=origin(trace, seen.scores.made),
        aligned_by=next(filter(None, shaped), ""),
        **seen.facts,
    )


def _makes_a_loss(trace: LossTrace, seen: Seen, users: Iterable[str]) -> bool:
    """Whether a call between the model's output and the loss is one that compares predictions with targets."""
    if seen.kind == "difference":
        return not SQUARES.isdisjoint(users)
    if seen.kind in ("product", "selection"):
        if seen.kind == "selection" and seen.target is not None and is_copied(trace, seen.target.made):
            return False
        return _is_normalised(trace, seen.scores.made)
    return True


def _is_normalised(trace: LossTrace, made: Op | None) -> bool:
    """Whether an operand is probabilities or their logarithms, or is made of them one by one."""
    return any(item.name in PROBABILISTIC for item in origin(trace, made)[:4])


def _is_compared(trace: LossTrace, predicted: Op) -> bool:
    """Whether labels predicted by ``predicted`` meet labels of the batch later on."""
    for op in trace.ops[predicted.index + 1 :]:
        if op.name in COMPARING and len(op.inputs) == 2:
            mine = [trace.origin(item, THROUGH) is predicted for item in op.inputs]
            other = [bool(source.fields) and not source.model for source in trace.note(op).sources]
            if (mine[0] and other[1]) or (mine[1] and other[0]):
                return True
    return False


def _value(loss: Tensor) -> float | None:
    if loss.numel() != 1 or not readable(loss):
        return None
    with torch.no_grad():
        return float(loss.detach())
