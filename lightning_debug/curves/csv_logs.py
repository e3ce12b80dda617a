"""Curves out of CSVLogger's ``metrics.csv``, read line by line."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

Scalar = tuple[str, int, float]
"""Name, step, value."""


def scalars(path: Path) -> Iterator[Scalar]:
    """The values of a file, in its order; an ``epoch`` column is a name like any other.

    Args:
        path: A CSV file with a column ``step``.

    Raises:
        ValueError: If there is no column ``step``.
    """
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = csv.DictReader(line.replace("\0", "") for line in file)
        if "step" not in (rows.fieldnames or ()):
            raise ValueError("there is no column named step")
        for row in rows:
            try:
                step = int(float(row["step"] or ""))
            except (TypeError, ValueError):
                continue  # a line that was cut off
            for name, text in row.items():
                if name is None or name == "step" or not isinstance(text, str) or not text:
                    continue
                try:
                    yield name, step, float(text)
                except ValueError:
                    continue
