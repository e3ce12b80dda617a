"""Why the derivative of an operation made NaN or Inf of a finite gradient, and the edit that cures it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lightning_debug.evidence.numbers import Operand, Origin
from lightning_debug.rules._explanation import Explanation, counted, first, kinds, number, span
from lightning_debug.rules._operations_forward import division, logarithm, singular


def _hidden(origin: Origin) -> Iterator[Explanation]:
    """A value that the forward pass hides: the gradient there is 0 times infinity."""
    held = [x for x in (*origin.operands, origin.result) if x is not None and (x.nan or x.positive or x.negative)]
    if held:
        x = held[0]
        bad = ", ".join(f"{count} {name}" for name, count in kinds(x) if count)
        made = (
            f"makes {bad} of {span(_culprit(origin))}"
            if x is origin.result
            else f"meets {bad} of {x.source or 'an operand'}"
        )
        what = f"{origin.operation} {made}, masked out after it, and 0 * Inf is NaN backwards"
        fix = "make its input safe before it: x = torch.where(mask, x, 1.0), or select x[mask] instead of torch.where"
        yield Explanation("masked-branch", what, fix)


def _culprit(origin: Origin) -> Operand:
    """The operand to show: one that holds a 0, where there is one."""
    return next((x for x in origin.operands if x.zeros), first(origin))


def _edge(origin: Origin) -> Iterator[Explanation]:
    """Derivatives that are infinite at the edge of a domain."""
    x, name = first(origin), origin.operation
    if name in ("sqrt", "pow", "float_power", "norm", "linalg_norm", "linalg_vector_norm", "cdist", "hypot", "dist"):
        result = origin.result or Operand()
        if x.zeros or result.zeros:
            zeros = x.zeros or result.zeros
            what = f"the derivative of {name} is infinite at 0: it gets {counted(zeros, 'equal to 0')}, among {span(x)}"
            yield Explanation("sqrt-at-zero", what, f"add a small number inside: torch.{name}(x + 1e-8)")
    elif name in ("std", "var") and (origin.result or Operand()).zeros:
        what = f"the derivative of {name} is infinite where all values are equal, as in {span(x)}"
        yield Explanation("sqrt-at-zero", what, f"take torch.sqrt(x.var(...) + 1e-8) in place of {name}")
    elif name in ("acos", "asin", "arccos", "arcsin", "atanh", "acosh") and x.maximum is not None:
        fix = f"clamp before it: torch.{name}(x.clamp(-1 + 1e-6, 1 - 1e-6))"
        yield Explanation(
            "edge-of-domain", f"the derivative of {name} is infinite at -1 and 1, and it gets {span(x)}", fix
        )
    elif name in ("atan2", "arctan2") and x.zeros:
        what = f"the derivative of {name} does not exist at (0, 0), and it gets {counted(x.zeros, 'equal to 0')}"
        yield Explanation("edge-of-domain", what, "add a small number to the second argument: torch.atan2(y, x + 1e-8)")


def _large_gradient(origin: Origin) -> Iterator[Explanation]:
    largest = origin.upstream or 0.0
    made = origin.output or Operand()
    if made.dtype == "float16":
        what = f"the gradient of {origin.operation} passes float16's largest value, 65504"
        yield Explanation("half-overflow", what, "train with precision='bf16-mixed', or lower the loss's scale")
    elif largest > 1e15 and not made.nan:
        what = f"the gradient that reaches {origin.operation} is as large as {number(largest)} and overflows"
        yield Explanation("overflow", what, "clip the gradients and lower the learning rate")


BACKWARD: tuple[Callable[[Origin], Iterator[Explanation]], ...] = (
    _hidden,
    _edge,
    logarithm,
    division,
    singular,
    _large_gradient,
)
"""In this order; the first that has something to say is right."""
