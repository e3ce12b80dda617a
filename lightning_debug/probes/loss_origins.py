"""Where an operand comes from, and which calls stand between the model's output and the loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

from lightning_debug.evidence.loss import Operation
from lightning_debug.probes.loss_seen import by_logsumexp
from lightning_debug.probes.loss_trace import LossTrace, Note
from lightning_debug.probes.loss_vocabulary import ARITHMETIC, LOSS_FUNCTIONS, RANGES, THROUGH
from lightning_debug.probes.trace import Op

DEPTH = 8
"""How many calls of an operand's history are recorded."""

LOGARITHMIC = frozenset({"cross_entropy", "ctc_loss", "kl_div", "nll_loss"})
"""Loss functions that are, or may be, given log-probabilities that were made just before."""

SHAPING = frozenset({"unsqueeze", "view", "reshape", "expand", "expand_as", "view_as", "reshape_as"})
COPYING = frozenset({"expand", "expand_as", "repeat", "tile", "broadcast_to", "repeat_interleave"})


def origin(trace: LossTrace, made: Op | None) -> tuple[Operation, ...]:
    """The calls that made an operand, nearest first, without those that only reshape or convert.

    It ends at a layer and where several tensors of the model meet.
    """
    found: list[Operation] = []
    while made is not None and len(found) < DEPTH:
        if made.name in THROUGH:
            made = _main(trace, made)
            continue
        name, note, before = _by_hand(trace, made) or (made.name, trace.note(made), _main(trace, made))
        met = sum(source.gradient for source in note.sources) or sum(source.model for source in note.sources)
        sized = note.dim is not None and made.shapes and note.dim < len(made.shapes[0])
        layer = trace.note(made).layer
        lowest, highest = RANGES.get(name, (None, None)) if name != made.name else (note.lowest, note.highest)
        found.append(
            Operation(
                name=name,
                module=made.module,
                module_type=made.module_type,
                line=made.line,
                shape=made.shape,
                dim=note.dim,
                size=made.shapes[0][note.dim] if sized and note.dim is not None else None,
                amount=note.amount if name == made.name else None,
                lowest=lowest,
                highest=highest,
                layer=layer,
                merges=met > 1 and name == made.name and not layer,
            )
        )
        if layer or found[-1].merges:
            break
        made = before
    return tuple(found)


def _main(trace: LossTrace, op: Op) -> Op | None:
    """The argument that carries the model's output on."""
    sources = trace.note(op).sources
    for wanted in ("gradient", "model"):
        for made, source in zip(op.inputs, sources, strict=False):
            if getattr(source, wanted):
                return made
    return op.inputs[0] if op.inputs else None


def _by_hand(trace: LossTrace, op: Op) -> tuple[str, Note, Op | None] | None:
    """A softmax, log-softmax or sigmoid written out: its name, a note with its dimension, and what it is of."""
    total = by_logsumexp(trace, op)
    if total is not None:
        return "log_softmax", trace.note(total), op.inputs[0]
    if op.name == "div" and len(op.inputs) == 2:
        above, below = trace.origin(op.inputs[0], THROUGH), trace.origin(op.inputs[1], THROUGH)
        if above is not None and below is not None and above.name == "exp":
            summed = trace.origin(below.inputs[0], THROUGH) if below.name == "sum" and below.inputs else None
            if summed is above or _same_exp(summed, above):
                return "softmax", trace.note(below), _exponent(trace, above)
            if _one_more_than_exp(trace, below):
                return "sigmoid", Note(), _exponent(trace, above)
    inverse = op.name == "reciprocal" or (op.name, trace.note(op).amount) in (("rdiv", 1.0), ("pow", -1.0))
    if inverse and op.inputs:
        below = trace.origin(op.inputs[0], THROUGH)
        exponential = _one_more_than_exp(trace, below)
        if exponential is not None:
            return "sigmoid", Note(), _exponent(trace, exponential)
    return None


def _same_exp(one: Op | None, other: Op) -> bool:
    """Whether two exponentials are of the same output: ``exp(x) / exp(x).sum(1, keepdim=True)``."""
    known = one is not None and one.name == "exp" and other.inputs and other.inputs[0] is not None
    return bool(known) and one is not None and one.inputs[:1] == other.inputs[:1]


def _one_more_than_exp(trace: LossTrace, op: Op | None) -> Op | None:
    if op is None or op.name != "add" or trace.note(op).amount != 1.0:
        return None
    exponential = trace.origin(op.inputs[0] if op.inputs else None, THROUGH)
    return exponential if exponential is not None and exponential.name == "exp" else None


def _exponent(trace: LossTrace, exponential: Op) -> Op | None:
    """What stands in the exponent, without a sign or the maximum that is subtracted for stability."""
    op = exponential.inputs[0] if exponential.inputs else None
    while op is not None and (
        op.name == "neg"
        or (
            op.name == "sub"
            and len(op.inputs) == 2
            and (getattr(trace.origin(op.inputs[1], THROUGH), "name", "")) in ("max", "amax")
        )
    ):
        op = op.inputs[0]
    return op


def ancestors(roots: Iterable[Op | None]) -> set[int]:
    """Indices of every recorded call that ``roots`` depend on, and of themselves."""
    return {op.index for op, _ in _walk(roots, lambda _: True)}


def head(trace: LossTrace, roots: Iterable[Op | None]) -> set[int]:
    """Indices of the calls after the last layer: those that a layer's output goes through to ``roots``."""
    outside = ARITHMETIC | LOSS_FUNCTIONS.keys()
    return {op.index for op, _ in _walk(roots, lambda op: not trace.note(op).layer or op.name in outside)}


def arithmetic(roots: Iterable[Op | None]) -> dict[int, set[str]]:
    """The calls a hand-written loss is made of: by index, the names of the calls that use their output."""
    found: dict[int, set[str]] = {}
    for op, user in _walk(roots, lambda op: op.name in ARITHMETIC or op.name in LOGARITHMIC):
        found.setdefault(op.index, set()).add(user)
    return found


def _walk(roots: Iterable[Op | None], crosses: Callable[[Op], bool]) -> Iterator[tuple[Op, str]]:
    """Every call reached from ``roots`` with the name of the call that uses it, through those that ``crosses``."""
    queue: list[tuple[Op, str]] = [(op, "") for op in roots if op is not None]
    crossed: set[int] = set()
    told: set[tuple[int, str]] = set()
    while queue:
        op, user = queue.pop()
        if (op.index, user) not in told:
            told.add((op.index, user))
            yield op, user
        if op.index in crossed or not crosses(op):
            continue
        crossed.add(op.index)
        name = user if op.name in THROUGH else op.name
        queue += [(item, name) for item in op.inputs if item is not None]


def shaped_on_line(trace: LossTrace, made: Op | None, line: str) -> str:
    """The name of a reshape on the way to an operand that stands on the line of the call that uses it."""
    while made is not None and made.name in THROUGH:
        if made.line == line and (made.name in SHAPING or trace.note(made).widens):
            return made.name
        made = _main(trace, made)
    return ""


def is_copied(trace: LossTrace, made: Op | None) -> bool:
    """Whether an operand repeats the values of a smaller tensor."""
    while made is not None and (made.name in THROUGH or made.name in COPYING):
        if made.name in COPYING or any(math.prod(shape) < math.prod(made.shape) for shape in made.shapes[:1]):
            return True
        made = _main(trace, made)
    return False
