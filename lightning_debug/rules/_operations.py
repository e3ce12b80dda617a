"""What an operation that made NaN or Inf met, in words, and the edit that cures it."""

from __future__ import annotations

from lightning_debug.evidence.numbers import Operand, Origin
from lightning_debug.rules._explanation import Explanation, kinds, span
from lightning_debug.rules._operations_backward import BACKWARD
from lightning_debug.rules._operations_forward import FORWARD


def place(origin: Origin) -> str:
    """Where an operation ran: module path, class and line."""
    where = f"{origin.module} ({origin.module_type})" if origin.module else ""
    return ", ".join(part for part in (where, origin.line) if part)


def subject(origin: Origin | None, otherwise: str) -> str:
    """What the user would change: the line, else the module, else the operation."""
    if origin is None:
        return otherwise
    return origin.line or origin.module or origin.operation or origin.name or otherwise


def explain(origin: Origin) -> Explanation:
    """Why an operation made NaN or Inf of finite operands, forward or backward."""
    table = BACKWARD if origin.kind == "backward" else FORWARD
    for judge in table:
        for found in judge(origin):
            return found
    return _unknown(origin)


def _unknown(origin: Origin) -> Explanation:
    if origin.kind == "constant":
        what = f"{origin.operation} gets NaN from a tensor that no torch call of the step has made"
        return Explanation("constant", what, "look at where that tensor is made: in NumPy, or before the step")
    made = origin.output or Operand()
    if origin.kind == "backward" and origin.name == origin.operation:
        what = f"the backward pass of {origin.name} makes {', '.join(f'{n} {k}' for k, n in kinds(made) if n)}"
        return Explanation("own-backward", what, f"look at {origin.name}.backward: a gradient must be finite")
    bad = ", ".join(f"{count} {name}" for name, count in kinds(made) if count)
    ranges = "; ".join(span(x) for x in origin.operands[:3])
    side = "the derivative of " if origin.kind == "backward" else ""
    what = f"{side}{origin.operation or 'an operation'} makes {bad or 'NaN'}" + (f" from {ranges}" if ranges else "")
    return Explanation("unknown", what, "keep its operands inside its domain: clamp them, or add a small number")
