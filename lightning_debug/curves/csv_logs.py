"""Curves out of CSVLogger's ``metrics.csv`` and tables like it, a few megabytes in memory at a time.

Read are also what Weights & Biases exports (columns ``run - val/loss``, with ``__MIN`` and ``__MAX`` beside them, or a
run's history with ``_step``) and Keras's log by epoch. Fields may be parted by commas, semicolons or tabs.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightning_debug.curves.event_files import Chunk
from lightning_debug.curves.noise import Array

BLOCK = 2**22
EMPTY = -9e307
"""Stands for a field without a value, which is not one whose value is NaN."""
STEPS = ("step", "_step", "global_step", "trainer/global_step", "iteration", "iter", "epoch")
"""Columns that say when a row was written, the first that is there counts."""

_BOUNDS = ("__MIN", "__MAX")


def chunks(path: Path, notes: list[str]) -> Iterator[Chunk]:
    """The values of a file, in its order; an ``epoch`` column is a name like any other.

    Args:
        path: A CSV file with a column ``step`` (or another of :data:`STEPS`).
        notes: Where it is told what could not be read.

    Raises:
        ValueError: If there is no such column.
    """
    with path.open("rb") as file:
        header = file.readline()
        parted = _delimiter(header)
        names, others = _named(_fields(header))
        step = _step_of(names)
        if step is None:
            raise ValueError("there is no column named step")
        if others:
            notes.append(f"{path.name} holds several runs; the first is read, and {', '.join(others[:5])} left out")
        kept, bad = b"", 0
        while True:
            block = file.read(BLOCK)
            data = kept + block
            cut = data.rfind(b"\n") + 1 if block else len(data)
            lines, kept = _with_commas(data[:cut], parted), data[cut:]
            if lines.strip():
                table = _at_once(lines, len(names))
                if table is None:
                    table, wrong = _one_by_one(lines, names, step)
                    bad += wrong
                yield _by_name(table, names, step)
            if not block:
                break
    if bad:
        notes.append(
            f"{path.name}: {bad} lines are not as the header says (cut off?) and are left out; the rest is read"
        )


def columns(path: Path) -> list[str]:
    """The names of a table's curves; none where no column says when a row was written, or it cannot be read."""
    try:
        with path.open("rb") as file:
            names, _ = _named(_fields(file.readline(2**16)))
    except (OSError, csv.Error):
        return []
    return [name for name in names if name] if _step_of(names) is not None else []


def _fields(header: bytes) -> list[str]:
    return next(csv.reader([_text(header)], delimiter=_delimiter(header).decode()), [])


def _delimiter(header: bytes) -> bytes:
    """What parts the fields of a table: the most frequent in its header of comma, semicolon and tab."""
    return max((b",", b";", b"\t"), key=header.count)


def _with_commas(lines: bytes, delimiter: bytes) -> bytes:
    """Lines whose fields are parted by commas; a comma of theirs is a decimal point.

    >>> _with_commas(b"1;0,5", b";")
    b'1,0.5'
    """
    return lines if delimiter == b"," else lines.replace(b",", b".").replace(delimiter, b",")


def _named(header: list[str]) -> tuple[list[str], list[str]]:
    """The header without what an export adds to its names, ``""`` for what is no curve; and runs that are left out.

    >>> _named(["Step", "sun-12 - val/loss", "sun-12 - val/loss__MIN"])
    (['Step', 'val/loss', ''], [])
    """
    parted = [name.strip().partition(" - ") for name in header]
    runs = list(dict.fromkeys(run for run, dash, _ in parted if dash))
    names = []
    for run, dash, rest in parted:
        name = rest.strip() if dash else run
        kept = not name.endswith(_BOUNDS) and (not dash or run == runs[0])
        names.append(name if kept else "")
    return names, runs[1:]


def _step_of(names: list[str]) -> int | None:
    low = [name.lower() for name in names]
    return next((low.index(name) for name in STEPS if name in low), None)


def _text(line: bytes) -> str:
    return line.decode("utf-8-sig", "replace").replace("\0", "")


def _at_once(lines: bytes, width: int) -> Array | None:
    """The numbers of well-formed lines; ``None`` where a line is not."""
    if b'"' in lines or b"\0" in lines:
        return None
    text = lines.replace(b"\r\n", b"\n").strip(b"\n") + b"\n"
    empty = repr(EMPTY).encode()
    for _ in range(2):
        text = text.replace(b",,", b"," + empty + b",")
    text = text.replace(b",\n", b"," + empty + b"\n").replace(b"\n,", b"\n" + empty + b",")
    if text.startswith(b","):
        text = empty + text
    rows = text.count(b"\n")
    if text.count(b",") != rows * (width - 1):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it warns where something is no number
        try:
            numbers = np.fromstring(text.replace(b"\n", b",")[:-1].decode("ascii"), dtype=np.float64, sep=",")
        except (DeprecationWarning, ValueError):  # a UnicodeDecodeError is a ValueError
            return None
    return numbers.reshape(rows, width) if len(numbers) == rows * width else None


def _one_by_one(lines: bytes, names: list[str], step: int) -> tuple[Array, int]:
    """The numbers of lines of which some are not well-formed, and how many those are."""
    rows, bad = [], 0
    for row in csv.reader(_text(line) for line in lines.splitlines()):
        if not row:
            continue
        numbers = [_number(field) for field in row[: len(names)]]
        if len(numbers) <= step or not np.isfinite(numbers[step]) or numbers[step] == EMPTY:
            bad += 1
            continue
        bad += len(row) != len(names)
        rows.append(numbers + [EMPTY] * (len(names) - len(numbers)))
    return np.array(rows, dtype=np.float64).reshape(-1, len(names)), bad


def _number(field: str) -> float:
    try:
        return float(field)
    except ValueError:
        return EMPTY


def _by_name(table: Array, names: list[str], step: int) -> Chunk:
    column = table[:, step]
    there = np.isfinite(column) & (column != EMPTY)
    steps: NDArray[np.int64] = np.where(there, column, 0).astype(np.int64)
    found: Chunk = {}
    for index, name in enumerate(names):
        kept = there & (table[:, index] != EMPTY)
        if name and (index != step or name == "epoch") and kept.any():
            found[name] = steps[kept], table[kept, index]
    return found
