"""Which calls predictions may become a loss in, and with which operands."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightning_debug.evidence.loss import Operand
from lightning_debug.probes.loss_blanks import blank_targets
from lightning_debug.probes.loss_operands import describe, readable
from lightning_debug.probes.loss_vocabulary import LOSS_FUNCTIONS, SOFTMAX, SYMMETRIC, bound
from lightning_debug.probes.plain_shape import plain_shape
from lightning_debug.probes.trace import Call, Op, tensors

if TYPE_CHECKING:
    from lightning_debug.probes.loss_trace import LossTrace


def _version(tensor: Tensor | None) -> int:
    """How often a tensor was overwritten; 0 where that is not counted."""
    return 0 if tensor is None or tensor.is_inference() else tensor._version  # noqa: SLF001 - what autograd goes by


@dataclass
class Kept:
    """An operand of a call.

    Args:
        tensor: The tensor, detached; ``None`` once it is read.
        made: The call that made it.
        dim: The dimension of its rows.
        ignore: A value that the loss leaves out.
        known: What is known of it besides its values.
    """

    tensor: Tensor | None
    made: Op | None
    dim: int | None = None
    ignore: int | None = None
    known: dict[str, Any] = field(default_factory=dict)
    operand: Operand = field(default_factory=Operand)

    def __post_init__(self) -> None:
        self._version = _version(self.tensor)

    def read(self) -> bool:
        """Summarises the tensor and lets go of it; False if its values were overwritten meanwhile."""
        if self.tensor is not None:
            if _version(self.tensor) != self._version:
                return False
            self.operand = describe(self.tensor, self.dim, ignore=self.ignore, **self.known)
            self.tensor = None
        return True


@dataclass
class Seen:
    """A call that may make a loss.

    Args:
        op: The call.
        kind: As :attr:`~lightning_debug.evidence.loss.LossCall.function`.
        scores: What the model gives it.
        target: What that is compared with, if anything.
        facts: Further fields of the evidence.
        measure: Gives further fields from the tensors, when they are read.
    """

    op: Op
    kind: str
    scores: Kept
    target: Kept | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    measure: Callable[[], dict[str, Any]] | None = None

    @property
    def size(self) -> int:
        """How many values are held for it."""
        held = (self.scores.tensor, None if self.target is None else self.target.tensor)
        return sum(0 if item is None else item.numel() for item in held)

    def read(self) -> bool:
        """Reads what is held; False if it was overwritten meanwhile."""
        if self.measure is not None:
            self.facts.update(self.measure())
            self.measure = None
        return self.scores.read() and (self.target is None or self.target.read())


def candidate(trace: LossTrace, call: Call) -> Seen | None:
    """The call as one that may make a loss, or ``None``."""
    name, note = call.op.name, trace.note(call.op)
    if name in LOSS_FUNCTIONS:
        return _loss_function(trace, call)
    if not note.model:
        return None
    total = by_logsumexp(trace, call.op)
    if name == "log_softmax" or total is not None:
        dim = note.dim if total is None else trace.note(total).dim
        return Seen(call.op, "log_softmax", trace.keep(call.argument(0, "input"), call.op.inputs[0], dim))
    if name == "log_sigmoid":
        return Seen(call.op, "logsigmoid", trace.keep(call.argument(0, "input"), call.op.inputs[0]))
    if name in ("add", "sub", "rsub", "mul", "div", "rdiv"):
        return _pair(trace, call)
    if name == "where":
        return _choice(trace, call)
    if name in ("gather", "getitem", "take_along_dim"):
        return _selection(trace, call)
    made = trace.origin(call.op.inputs[0]) if call.op.inputs else None
    if name in ("argmax", "max") and note.dim is not None and made is not None and made.name in (*SOFTMAX, "div"):
        return Seen(call.op, "argmax", trace.keep(call.argument(0, "input"), call.op.inputs[0], note.dim))
    return None


def by_logsumexp(trace: LossTrace, op: Op) -> Op | None:
    """The log-sum-exp of ``x - x.logsumexp(dim, keepdim=True)``, a log-softmax written out; ``None`` for others."""
    if op.name != "sub" or len(op.inputs) != 2 or op.inputs[0] is None:
        return None
    total = trace.origin(op.inputs[1])
    return total if total is not None and total.name == "logsumexp" and total.inputs[:1] == op.inputs[:1] else None


def _loss_function(trace: LossTrace, call: Call) -> Seen | None:
    name = call.op.name
    given = bound(call.function, call.arguments, call.keywords)
    scores, target = (given.get(key, call.argument(place, key)) for place, key in enumerate(LOSS_FUNCTIONS[name]))
    if not isinstance(scores, Tensor):
        return None
    target = target if isinstance(target, Tensor) else None
    if name in SYMMETRIC and target is not None:
        first, second = trace.depends(scores), trace.depends(target)
        rank, other = (first.gradient, first.model), (second.gradient, second.model)
        if other > rank or (other == rank == (True, True) and _is_made_of(trace, target, scores)):
            scores, target = target, scores
    dim = {"cross_entropy": min(1, scores.ndim - 1), "nll_loss": min(1, scores.ndim - 1), "ctc_loss": -1}.get(name)
    ignore = given["ignore_index"] if isinstance(given.get("ignore_index"), int) else None
    facts: dict[str, Any] = {
        "reduction": given["reduction"] if isinstance(given.get("reduction"), str) else "",
        "weighted": any(isinstance(given.get(key), Tensor) for key in ("weight", "pos_weight")),
        "label_smoothing": float(given.get("label_smoothing") or 0.0),
        "ignore_index": ignore,
        "shape": plain_shape(call.output),
    }
    kept_target = None
    if target is not None:
        soft = dim if target.is_floating_point() and target.shape == scores.shape else None
        kept_target = trace.keep(target, None, soft, ignore)
    again = (call.function, call.arguments, dict(call.keywords))

    def measure() -> dict[str, Any]:
        output = call.output
        found: dict[str, Any] = {"blanks": blank_targets(given)} if name == "ctc_loss" else {}
        if readable(output) and output.numel():
            found["value"] = float(output.detach().double().mean() if output.device.type != "mps" else output.mean())
        if ignore is not None and target is not None and readable(target):
            found["ignored"] = float((target == ignore).float().mean())
        if target is not None and scores.numel() == target.numel() and scores.shape != target.shape:
            found["aligned_value"] = _again(*again, scores, target)
        return found

    return Seen(call.op, name, trace.keep(scores, None, dim), kept_target, facts, measure)


def _is_made_of(trace: LossTrace, tensor: Tensor, part: Tensor) -> bool:
    """Whether one was computed from the other: a reconstruction from what a first layer has normalised."""
    made, waiting, met = trace.producer(part), [trace.producer(tensor)], set()
    while made is not None and waiting:
        op = waiting.pop()
        if op is made:
            return True
        if op is not None and op.index not in met and op.index > made.index:
            met.add(op.index)
            waiting += op.inputs
    return False


def _again(
    function: Callable[..., Tensor], arguments: tuple[Any, ...], keywords: dict[str, Any], old: Tensor, target: Tensor
) -> float | None:
    """The value of a loss with ``old`` in the shape of ``target``."""
    new = old.detach().reshape(target.shape)
    try:
        value = function(
            *(new if item is old else item for item in arguments),
            **{key: new if item is old else item for key, item in keywords.items()},
        )
    except (RuntimeError, ValueError):
        return None
    return float(value.mean())


def _pair(trace: LossTrace, call: Call) -> Seen | None:
    operands = list(tensors(call.arguments))
    if len(operands) != 2 or not isinstance(call.output, Tensor):
        return None
    if min(min(item.numel(), item.ndim) for item in operands) < 1 or any(item is call.output for item in operands):
        return None  # a number; or in place, where the operand is gone
    made = call.op.inputs
    notes = [trace.depends(item, source) for item, source in zip(operands, made, strict=True)]
    place = 0 if (notes[0].gradient, notes[0].model) >= (notes[1].gradient, notes[1].model) else 1
    other = 1 - place
    if not operands[place].is_floating_point() or not all(readable(item) for item in operands):
        return None
    apart = notes[place].model and bool(notes[other].fields) and not notes[other].gradient
    kind = {"sub": "difference", "rsub": "difference", "mul": "product"}.get(call.op.name, "")
    if outer(operands[place].shape, operands[other].shape):
        if not apart or (notes[other].model and getattr(trace.origin(made[place]), "name", "") != "gather"):
            return None  # but the value of each action is not compared with each target, which a net may have made
        kind = "broadcast"
    elif not (kind and apart and notes[place].gradient):
        return None
    scores, target = trace.keep(operands[place], made[place]), trace.keep(operands[other], made[other])
    facts = {"shape": plain_shape(call.output)}
    return Seen(call.op, kind, scores, target, facts, lambda: _pair_values(call.op.name, scores.tensor, target.tensor))


def _choice(trace: LossTrace, call: Call) -> Seen | None:
    """``where(labels == 1, 1 - p, p)`` with labels (N,) and p (N, 1), which chooses for each pair."""
    marks, made = call.argument(0, "condition"), call.op.inputs
    ways = [call.argument(1, "input"), call.argument(2, "other")]
    if not isinstance(marks, Tensor) or len(made) != 3 or not readable(marks):
        return None
    of_marks = trace.depends(marks, made[0])
    for way, source in zip(ways, made[1:], strict=True):
        apart = isinstance(way, Tensor) and readable(way) and bool(of_marks.fields) and not of_marks.model
        if apart and outer(way.shape, marks.shape) and trace.depends(way, source).gradient:
            facts = {"shape": plain_shape(call.output)}
            return Seen(call.op, "broadcast", trace.keep(way, source), trace.keep(marks, made[0]), facts)
    return None


def _pair_values(name: str, scores: Tensor | None, target: Tensor | None) -> dict[str, Any]:
    if scores is None or target is None or name not in ("sub", "rsub"):
        return {}
    if not outer(scores.shape, target.shape):  # what it becomes, if it is squared and averaged
        return {"value": float((scores.float() - target.float()).square().mean())}
    left, right = scores.double(), target.double()
    return {
        "value": float((left - right).square().mean()),
        "aligned_value": float((left.reshape(right.shape) - right).square().mean()),
    }


def outer(one: tuple[int, ...], two: tuple[int, ...]) -> bool:
    """Whether broadcasting forms pairs of what stands side by side: ``(N, 1)`` with ``(N,)``.

    >>> outer((8, 1), (8,)), outer((8,), (8, 1)), outer((8, 1), (1, 8)), outer((8, 3), (8, 1)), outer((1, 1), (1,))
    (True, True, False, False, False)
    """
    longer, shorter = sorted((tuple(one), tuple(two)), key=len, reverse=True)
    if len(longer) != len(shorter) + 1 or math.prod(longer) != math.prod(shorter):
        return False
    drops = any(
        size == 1 and longer[:place] + longer[place + 1 :] == shorter for place, size in enumerate(longer) if place
    )
    return drops and math.prod(map(max, longer, (1, *shorter))) > math.prod(longer)


def _selection(trace: LossTrace, call: Call) -> Seen | None:
    source = call.argument(0, "input")
    if not isinstance(source, Tensor) or not source.is_floating_point() or not trace.note(call.op).gradient:
        return None
    if call.op.name == "getitem":
        dim, index = _indexed(trace, call.argument(1, "index"), source.ndim)
    else:
        position = 2 if call.op.name == "gather" else 1
        dim, index = trace.note(call.op).dim, call.argument(position, "index" if position == 2 else "indices")
    if dim is None or not isinstance(index, Tensor) or not trace.depends(index).fields or trace.depends(index).model:
        return None
    if index.is_floating_point() or index.numel() != call.output.numel():
        return None
    return Seen(call.op, "selection", trace.keep(source, call.op.inputs[0], dim), trace.keep(index))


def _indexed(trace: LossTrace, index: Any, ndim: int) -> tuple[int | None, Tensor | None]:
    """The dimension that labels of the batch index, and the labels."""
    items = list(index) if isinstance(index, tuple) else [index]
    consumed = sum(_consumes(item) for item in items)
    found: list[tuple[int, Tensor]] = []
    dim = 0
    for item in items:
        if item is Ellipsis:
            dim += ndim - consumed
            continue
        if isinstance(item, Tensor) and item.dtype != torch.bool and item.ndim and trace.depends(item).fields:
            found.append((dim, item))
        dim += _consumes(item)
    return found[0] if len(found) == 1 else (None, None)


def _consumes(item: Any) -> int:
    if item is None or item is Ellipsis:
        return 0
    return item.ndim if isinstance(item, Tensor) and item.dtype == torch.bool else 1
