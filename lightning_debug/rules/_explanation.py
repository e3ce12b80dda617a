"""The words in which the cause of a NaN is told."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lightning_debug.evidence.numbers import Operand, Origin


@dataclass(frozen=True)
class Explanation:
    """Why an operation made a value that is not finite.

    Args:
        reason: A word for it: ``"log-of-zero"``.
        what: Half a sentence with the numbers.
        fix: The edit.
    """

    reason: str
    what: str
    fix: str


def number(value: float | None) -> str:
    """A number as a person would write it.

    >>> number(65504.0), number(3.2e38), number(0.0), number(None)
    ('65504', '3.2e+38', '0', 'none')
    """
    if value is None:
        return "none"
    if math.isfinite(value) and value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.4g}"


def span(operand: Operand) -> str:
    """The range of an operand and where it comes from."""
    source = f" of {operand.source}" if operand.source else ""
    if operand.minimum is None:
        return f"the {operand.numel} values{source}"
    return f"the {operand.numel} values{source} between {number(operand.minimum)} and {number(operand.maximum)}"


def first(origin: Origin) -> Operand:
    """The first operand; an empty one where there is none."""
    return origin.operands[0] if origin.operands else Operand()


def counted(many: int, what: str) -> str:
    """``"3 values equal to 0"``."""
    return f"{many} value{'s' if many != 1 else ''} {what}"


def kinds(x: Operand) -> tuple[tuple[str, int], ...]:
    """How many values of each kind are not finite."""
    return (("NaN", x.nan), ("+Inf", x.positive), ("-Inf", x.negative))
