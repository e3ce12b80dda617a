"""Words for an exception: shapes, operands, places, the table of shapes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lightning_debug.evidence.errors import ErrorOperand, ErrorRaised, ShapeRow

Shape = tuple[int, ...]
ROWS = 24


_UNNAMED = re.compile(r"(the output of \w+)(?=\.\w+\()")


@dataclass(frozen=True)
class Diagnosis:
    """What an exception comes from.

    Args:
        code: The rule that tells it.
        cause: The cause in kebab case.
        message: One sentence.
        fix: The edit.
        subject: What the user would change, where that is not the line that raised.
        measured: Numbers beyond the operands.
    """

    code: str
    cause: str
    message: str
    fix: str
    subject: str = ""
    measured: Mapping[str, Any] = field(default_factory=dict)


def shape_text(shape: Iterable[int]) -> str:
    """A shape as it is written."""
    return str(tuple(shape))


def described(operand: ErrorOperand) -> str:
    """Name, shape, dtype and device of an operand."""
    otherwise = {"input": "an input", "target": "a target"}.get(operand.argument, "a tensor")
    name = operand.name or otherwise
    made = f", made by {operand.made_by} at {operand.made_at}" if operand.made_by and operand.made_at else ""
    device = "" if operand.device == "cpu" else f" on {operand.device}"
    return " ".join(filter(None, (name, shape_text(operand.shape), operand.dtype))) + device + made


def edit(fix: str) -> str:
    """A fix whose code is code where a tensor has no name of its own.

    >>> edit("Drop the dimension of size 1: the output of stack.squeeze(1).")
    'Drop the dimension of size 1: (the output of stack).squeeze(1).'
    """
    return _UNNAMED.sub(r"(\1)", fix)


def named(operand: ErrorOperand, otherwise: str = "the input") -> str:
    """The operand's name, or what it is."""
    return operand.name or otherwise


def place(error: ErrorRaised) -> str:
    """The module that raised, with its class, or the line."""
    if error.module:
        return f"{error.module} ({error.module_type})"
    return error.line or error.module_type or "the step"


def layer(error: ErrorRaised) -> str:
    """The module as it prints, without the names of its first arguments."""
    text = error.module_about or error.module_type
    return re.sub(r"^(\w+)\(in_features=(\d+), out_features=(\d+).*", r"\1(\2, \3)", text)


def call_of(error: ErrorRaised) -> str:
    """The operation that refused, with its place."""
    operation = error.operation or error.module_type or "the step"
    return (
        f"{operation} in {place(error)}"
        if error.module
        else f"{operation} at {error.line}"
        if error.line
        else operation
    )


def inputs_of(error: ErrorRaised) -> list[ErrorOperand]:
    """Operands that are no parameters."""
    return [item for item in error.operands if item.kind not in ("parameter", "buffer")]


def weights_of(error: ErrorRaised) -> list[ErrorOperand]:
    """Operands that are parameters."""
    return [item for item in error.operands if item.kind in ("parameter", "buffer")]


def setting(error: ErrorRaised, name: str) -> int | None:
    """A whole number among the module's settings."""
    text = error.settings.get(name, "")
    return int(text) if re.fullmatch(r"-?\d+", text) else None


def integers(text: str) -> tuple[int, ...]:
    """The whole numbers in a text.

    >>> integers("shape '[32, -1]' is invalid")
    (32, -1)
    """
    return tuple(int(item) for item in re.findall(r"-?\d+", text))


def numel(shape: Sequence[int]) -> int:
    """How many values a shape holds."""
    return math.prod(shape)


def marked(shape: Shape, batch: Shape) -> str:
    """A shape with its batch dimension marked: ``(B, 10)``, ``(2B, 10)``.

    >>> marked((64, 10), (2, 0))
    '(2B, 10)'
    """
    if len(batch) != len(shape):
        return shape_text(shape)
    parts = [
        ("B" if times == 1 else f"{times}B") if times else str(size) for size, times in zip(shape, batch, strict=True)
    ]
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"


def table(rows: Sequence[ShapeRow], most: int = ROWS) -> tuple[str, ...]:
    """The table of shapes, one line a module or operation."""
    told = []
    for row in rows[-most:]:
        who = f"{row.module} {row.module_type}" if row.grouped else row.operation
        where = "" if row.grouped else f"  # {row.line}" if row.line else ""
        marks = row.given if len(row.given) == len(row.inputs) else ((),) * len(row.inputs)
        given = ", ".join(marked(one, two) for one, two in zip(row.inputs[:3], marks, strict=False))
        told.append(f"{who}: {given} -> {marked(row.output, row.batch)}{where}")
    return tuple(told)


def size_text(count: int) -> str:
    """Bytes in a unit that people read.

    >>> size_text(3 * 2**30)
    '3.0 GiB'
    """
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(count) >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
