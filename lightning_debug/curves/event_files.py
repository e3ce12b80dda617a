"""Scalars out of TensorBoard's event files, a few megabytes in memory at a time.

A file is a row of records: eight bytes of length, four of checksum, an ``Event``, four of checksum. The events of one
tag are alike byte for byte but for time, step and value, so that one of each kind is taken apart and the others are
read by their places, many at once.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightning_debug.curves.noise import Array
from lightning_debug.curves.wire import (
    BYTES,
    DOUBLE,
    FLOAT,
    VARINT,
    Field,
    fields,
    length_in,
    scalar_in_tensor,
    scalars_of,
)

Chunk = dict[str, tuple[NDArray[np.int64], Array]]
"""Steps and values by name, each in the order of the file."""

BLOCK = 2**23
MOST_KINDS = 64
HEADER, FOOTER = 12, 4


@dataclass(frozen=True)
class Kind:
    """Events that are alike.

    Args:
        tag: Their tag.
        like: One of them, as bytes.
        fixed: Which bits all of them share.
        step: Where the step's bytes are; empty for step 0, which is not written.
        value: Where the value's four bytes begin.
    """

    tag: str
    like: NDArray[np.uint8]
    fixed: NDArray[np.uint8]
    step: slice
    value: int


@dataclass
class _Found:
    places: dict[str, list[NDArray[np.int64]]] = field(default_factory=dict)
    steps: dict[str, list[NDArray[np.int64]]] = field(default_factory=dict)
    values: dict[str, list[Array]] = field(default_factory=dict)

    def add(self, tag: str, places: NDArray[np.int64], steps: NDArray[np.int64], values: Array) -> None:
        self.places.setdefault(tag, []).append(places)
        self.steps.setdefault(tag, []).append(steps)
        self.values.setdefault(tag, []).append(values)

    def chunk(self) -> Chunk:
        found: Chunk = {}
        for tag, places in self.places.items():
            order = np.argsort(np.concatenate(places), kind="stable")
            found[tag] = np.concatenate(self.steps[tag])[order], np.concatenate(self.values[tag])[order]
        return found


def chunks(path: Path, notes: list[str]) -> Iterator[Chunk]:
    """The scalars of a file; what is damaged is passed over, and told in ``notes``."""
    headers: dict[bytes, int] = {}
    kinds: dict[int, list[Kind]] = {}
    kept, begins, lost, damages = b"", 0, 0, 0
    with path.open("rb") as file:
        while True:
            block = file.read(BLOCK)
            data, at = kept + block, 0
            starts: list[int] = []
            lengths: list[int] = []
            while True:
                at, whole = _records(data, at, headers, starts, lengths)
                if whole:
                    break
                after = _next_record(data, at + 1)
                if not lost:
                    notes.append(f"{path.name} is damaged at byte {begins + at}")
                damages += 1
                lost += after - at
                at = after
            unread = _decoded(data, starts, lengths, kinds, found := _Found())
            if unread:
                notes.append(f"{path.name}: {unread} events could not be read")
            if found.places:
                yield found.chunk()
            kept, begins = data[at:], begins + at
            if not block:
                break
    if lost:
        notes.append(f"{path.name}: {lost} bytes in {damages} places were passed over; the rest is read")
    if kept:
        notes.append(f"{path.name} ends within an event (cut off, or still being written); what came before is read")


def _records(
    data: bytes, at: int, headers: dict[bytes, int], starts: list[int], lengths: list[int]
) -> tuple[int, bool]:
    """Finds whole records; returns where they end, and whether only more bytes are missing there."""
    end, before = len(data), -1
    while at + HEADER <= end:
        header = data[at : at + HEADER]
        length = headers.get(header, -1)
        if length < 0:
            length = length_in(header)
            if length < 0:
                return at, False
            headers[header] = length
        size = HEADER + length + FOOTER
        if at + size > end:
            return at, True
        if length == before:
            many = _alike(data, at, size)
            starts += range(at + HEADER, at + many * size, size)
            lengths += [length] * many
            at, before = at + many * size, -1
            continue
        starts.append(at + HEADER)
        lengths.append(length)
        at, before = at + size, length
    return at, True


def _alike(data: bytes, at: int, size: int, most: int = 1 << 16) -> int:
    """How many records of the same length follow each other."""
    many = min((len(data) - at) // size, most)
    rows = np.frombuffer(data, np.uint8, many * size, at).reshape(many, size)[:, :HEADER]
    other = np.flatnonzero((rows != rows[0]).any(axis=1))
    return int(other[0]) if len(other) else many


def _next_record(data: bytes, at: int) -> int:
    """Where the next record begins after a damage: the next bytes that are a length and its checksum."""
    while at + HEADER <= len(data):
        zeros = data.find(b"\0\0\0\0\0", at + 3)  # lengths below 16 MiB have five zeros at their end
        if zeros < 0:
            break
        for place in range(max(at, zeros - 3), zeros + 1):
            header = data[place : place + HEADER]
            if len(header) == HEADER and struct.unpack_from("<Q", header)[0] and length_in(header) > 0:
                return place
        at = max(at + 1, zeros - 2)
    return max(at, len(data) - HEADER + 1)


def _decoded(data: bytes, starts: list[int], lengths: list[int], kinds: dict[int, list[Kind]], found: _Found) -> int:
    """Reads the events at given places; returns how many could not be."""
    unread = 0
    array, sizes = np.frombuffer(data, np.uint8), np.array(lengths, np.int64)
    places = np.array(starts, np.int64)
    for length in np.unique(sizes):
        left = places[sizes == length]
        rows = array[left[:, None] + np.arange(length)]
        known = kinds.setdefault(int(length), [])
        for kind in known:
            left, rows = _taken(kind, left, rows, found)
        while len(left):
            kind_or_none = _kind(bytes(rows[0])) if len(known) < MOST_KINDS else None
            if kind_or_none is None:
                unread += not _alone(bytes(rows[0]), left[:1], found)
                left, rows = left[1:], rows[1:]
                continue
            known.append(kind_or_none)
            left, rows = _taken(kind_or_none, left, rows, found)
    return unread


def _taken(
    kind: Kind, places: NDArray[np.int64], rows: NDArray[np.uint8], found: _Found
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Reads the events of one kind; returns the others."""
    if not len(rows):
        return places, rows
    same = ((rows & kind.fixed) == (kind.like & kind.fixed)).all(axis=1)
    if not same.any():
        return places, rows
    chosen = rows if same.all() else rows[same]
    steps = np.zeros(len(chosen), np.int64)
    for power, column in enumerate(range(kind.step.start, kind.step.stop)):
        steps |= (chosen[:, column] & 0x7F).astype(np.int64) << (7 * power)
    bits = np.ascontiguousarray(chosen[:, kind.value : kind.value + 4])
    found.add(kind.tag, places[same], steps, bits.view("<f4")[:, 0].astype(np.float64))
    return places[~same], rows[~same]


def _kind(event: bytes) -> Kind | None:
    """Takes an event apart; ``None`` where it is not one scalar of four bytes."""
    fixed = np.full(len(event), 0xFF, np.uint8)
    step, summary = slice(0, 0), (0, 0)
    try:
        for number, wire, start, end in fields(event, 0, len(event)):
            if number == 1 and wire == DOUBLE:
                fixed[start:end] = 0
            elif number == 2 and wire == VARINT:
                step = slice(start, end)
                fixed[start:end] = 0x80  # how many bytes the step has
            elif number == 5 and wire == BYTES:
                if summary != (0, 0):
                    return None
                summary = (start, end)
        inside = list(fields(event, *summary))
        if len(inside) != 1 or inside[0][:2] != (1, BYTES) or step.stop - step.start > 9:
            return None
        parts = {number: (wire, start, end) for number, wire, start, end in fields(event, *inside[0][2:])}
        tag = event[parts[1][1] : parts[1][2]].decode()
        place = parts[2][1] if parts.get(2, (None,))[0] == FLOAT else _in_tensor(event, parts.get(8))
    except (KeyError, IndexError, ValueError):
        return None
    if place is None:
        return None
    fixed[place : place + 4] = 0
    return Kind(tag, np.frombuffer(event, np.uint8), fixed, step, place)


def _in_tensor(event: bytes, tensor: Field | None) -> int | None:
    """Where a tensor that is one float has its four bytes."""
    places = scalar_in_tensor(event, tensor)
    return places[0] if places is not None and places[1] == 4 else None


def _alone(event: bytes, place: NDArray[np.int64], found: _Found) -> bool:
    """Reads an event that is like no other; whether it could be."""
    try:
        step, told = scalars_of(event)
    except (KeyError, IndexError, ValueError, struct.error):
        return False
    for tag, number in told:
        found.add(tag, place, np.array([step], np.int64), np.array([number]))
    return True
