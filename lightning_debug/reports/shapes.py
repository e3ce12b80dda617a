"""A table of shapes as text: one line for each layer and operation, the batch dimension marked."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_debug.evidence.errors import ErrorOperand, ShapeRow, ShapeTable


def shape(sizes: Sequence[int], batch: Sequence[int] = ()) -> str:
    """A shape, its batch dimension written ``B`` (``2B`` where it is twice as long).

    >>> shape((64, 10), (2, 0))
    '(2B, 10)'
    """
    marks = batch if len(batch) == len(sizes) else [0] * len(sizes)
    parts = [
        f"{times}B".removeprefix("1") if times == 1 else f"{times}B" if times else str(size)
        for size, times in zip(sizes, marks, strict=True)
    ]
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"


def lines(table: ShapeTable) -> list[str]:
    r"""The table, aligned.

    >>> row = ShapeRow(module="net", module_type="Linear", inputs=((8, 4),), output=(8, 2), batch=(1, 0), grouped=True,
    ...                given=((1, 0),))
    >>> print("\n".join(lines(ShapeTable(rows=(row,), batch_size=8))))
    shapes of a training step (B = 8)
      net Linear  (B, 4) -> (B, 2)
    """
    rows = [*map(_field, table.fields), *map(_row, table.rows)]
    width = min(max((len(name) for name, _ in rows), default=0), 48)
    told = f" (B = {table.batch_size})" if table.batch_size else ""
    return [f"shapes of a training step{told}", *(f"  {name:<{width}}  {text}" for name, text in rows)]


def _field(field: ErrorOperand) -> tuple[str, str]:
    return field.name, f"{shape(field.shape)} {field.dtype}"


def _row(row: ShapeRow) -> tuple[str, str]:
    name = f"{row.module} {row.module_type}" if row.grouped else row.operation
    marks = row.given if len(row.given) == len(row.inputs) else ((),) * len(row.inputs)
    given = ", ".join(shape(item, mark) for item, mark in zip(row.inputs[:3], marks, strict=False))
    where = "" if row.grouped or not row.line else f"  # {row.line}"
    return name, f"{given} -> {shape(row.output, row.batch)}{where}"
