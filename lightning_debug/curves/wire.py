"""How event files are written, byte by byte: lengths with their checksums, and protobuf's fields."""

from __future__ import annotations

import struct
from collections.abc import Iterator

VARINT, DOUBLE, BYTES, FLOAT = 0, 1, 2, 5
_SIZES = {DOUBLE: 8, FLOAT: 4}
MOST_BYTES = 2**26
"""A record that claims to be longer is taken for damage."""

Field = tuple[int, int, int]
"""Wire type, begin and end."""


def length_in(header: bytes) -> int:
    """The length in a header; -1 where its checksum is another."""
    length, told = struct.unpack("<QI", header)
    if length > MOST_BYTES:
        return -1
    crc = 0xFFFFFFFF
    for byte in header[:8]:
        crc = _CRC[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
    return int(length) if masked == told else -1


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


_CRC = _crc_table()
"""Castagnoli's."""


def fields(event: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, begin and end of each field of a message."""
    while at < end:
        key, at = _varint(event, at)
        wire, start = key & 7, at
        if wire == VARINT:
            _, at = _varint(event, at)
        elif wire == BYTES:
            length, start = _varint(event, at)
            at = start + length
        elif wire in _SIZES:
            at += _SIZES[wire]
        else:
            raise ValueError("an unknown kind of field")
        if at > end:
            raise ValueError("a field is cut off")
        yield key >> 3, wire, start, at


def _varint(event: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = event[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7


def scalar_in_tensor(event: bytes, tensor: Field | None) -> tuple[int, int] | None:
    """Where a tensor that is one number has it, and in how many bytes: 4, a float, or 8, a double."""
    if tensor is None or tensor[0] != BYTES:
        return None
    parts = {number: (wire, start, end) for number, wire, start, end in fields(event, *tensor[1:])}
    shape = parts.get(2, (0, 0, 0))
    size = {1: 4, 2: 8}.get(event[parts[1][1]]) if 1 in parts else None
    if shape[2] > shape[1] or size is None:
        return None
    held = (parts[number] for number in (4, 5, 6) if number in parts)
    places = [start for _, start, end in held if end - start == size]
    return (places[0], size) if len(places) == 1 else None


def scalars_of(event: bytes) -> tuple[int, list[tuple[str, float]]]:
    """Step and scalars of one event.

    Raises:
        ValueError: If it is damaged (or ``IndexError``, ``KeyError``).
    """
    step, found = 0, []
    for number, wire, start, end in list(fields(event, 0, len(event))):
        if number == 2 and wire == VARINT:
            step, _ = _varint(event, start)
        if number != 5 or wire != BYTES:
            continue
        for inner, kind, begin, stop in list(fields(event, start, end)):
            if inner != 1 or kind != BYTES:
                continue
            parts = {part: (form, first, last) for part, form, first, last in fields(event, begin, stop)}
            place = (parts[2][1], 4) if parts.get(2, (None,))[0] == FLOAT else scalar_in_tensor(event, parts.get(8))
            if place is not None:
                (value,) = struct.unpack_from("<f" if place[1] == 4 else "<d", event, place[0])
                found.append((event[parts[1][1] : parts[1][2]].decode(), float(value)))
    return step, found
