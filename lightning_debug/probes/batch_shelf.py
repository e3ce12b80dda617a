"""Batches put aside for a later look: the first in memory, the rest in a file without a name that goes with them."""

from __future__ import annotations

import contextlib
import copy
import io
import pickle
import tempfile
import weakref
from collections import deque
from dataclasses import dataclass
from typing import IO, Any

import torch
from torch import Tensor

from lightning_debug.probes.batch_fields import batch_fields
from lightning_debug.probes.batch_slicing import moved

IN_MEMORY = 2**18
"""Bytes that one shelf keeps in memory; more goes to its file, where one can be written."""


@dataclass
class _Kept:
    """A batch: as text of bytes, in memory or at a place of the file, or as it is.

    Args:
        device: Where it was, if that is not the host.
        batch: As it is.
        written: As bytes.
        place: Where in the file.
        size: How many bytes there.
    """

    device: torch.device | None
    batch: Any = None
    written: bytes | None = None
    place: int = 0
    size: int = 0


class BatchShelf:
    """Keeps batches of any structure as they are, without holding their memory or that of a device.

    What is on a device is copied to the host behind the work that makes it, and written when it has arrived there.
    What cannot be written, for want of a disk or because it cannot be pickled, is copied in memory.

    Args:
        in_memory: Bytes that are kept in memory.

    >>> shelf = BatchShelf(in_memory=0)
    >>> shelf.put({"x": torch.arange(3), "name": "a"})
    >>> len(shelf), shelf.get(0)
    (1, {'x': tensor([0, 1, 2]), 'name': 'a'})
    """

    def __init__(self, in_memory: int = IN_MEMORY) -> None:
        self._room = in_memory
        self._kept: list[_Kept] = []
        self._coming: deque[tuple[_Kept, Any]] = deque()
        self._file: IO[bytes] | None = None

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, batch: Any) -> None:
        """Keeps a batch.

        Raises:
            Uncuttable: If it is on a device and its structure is not known.
        """
        device = next((item.device for _, item in batch_fields(batch) if item.device.type != "cpu"), None)
        kept = _Kept(device, batch if device is None else moved(batch, "cpu"))
        if device is None:
            self._put_away(kept)
        else:
            event: Any = None
            if device.type == "cuda":
                event = torch.cuda.Event()  # type: ignore[no-untyped-call]
                event.record(torch.cuda.current_stream(device))
            self._coming.append((kept, event))
        self._kept.append(kept)
        while self._coming and self._coming[0][1] is not None and self._coming[0][1].query():
            self._put_away(self._coming.popleft()[0])

    def get(self, index: int) -> Any:
        """A batch that was put, the first with 0, on the device where it was. Waits for what is on its way."""
        while self._coming:
            kept, event = self._coming.popleft()
            if event is not None:
                event.synchronize()
            self._put_away(kept)
        kept = self._kept[index]
        batch, written = kept.batch, kept.written
        if kept.size and self._file is not None:
            self._file.seek(kept.place)
            written = self._file.read(kept.size)
        if written is not None:
            batch = pickle.loads(written)
        return batch if kept.device is None else moved(batch, kept.device)

    def first(self, most: int | None = None) -> list[Any]:
        """The first batches, or all."""
        return [self.get(index) for index in range(len(self._kept[:most]))]

    def _put_away(self, kept: _Kept) -> None:
        try:
            written = _dumped(kept.batch)
        except Exception:  # a class within a function, a generator: other people's batches
            kept.batch = copy.deepcopy(kept.batch)
            return
        kept.batch, kept.written = None, written
        self._room -= len(written)
        if self._room >= 0:
            return
        with contextlib.suppress(OSError):  # a full disk: it stays in memory
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="lightning_debug_")  # noqa: SIM115 -- open while it is held
                weakref.finalize(self, self._file.close)
            kept.place = self._file.seek(0, io.SEEK_END)
            self._file.write(written)
            self._file.flush()
            kept.size, kept.written = len(written), None


class _Pickler(pickle.Pickler):
    """Pickles plain tensors as arrays: many times faster than as storages, and without memory they are a part of."""

    def reducer_override(self, given: Any) -> Any:
        """How a plain tensor is pickled; all else as usual."""
        plain = type(given) is Tensor and given.layout is torch.strided and not given.is_nested
        if not plain or given.device.type != "cpu":
            return NotImplemented
        tensor = given.detach()
        if not tensor.is_contiguous() or tensor.dtype not in _AS_ARRAYS or tensor.is_conj() or tensor.is_neg():
            whole = tensor.untyped_storage().nbytes() <= tensor.numel() * tensor.element_size()
            own: Any = (tensor if whole else tensor.clone()).requires_grad_(given.requires_grad)
            return own.__reduce_ex__(5)
        return _tensor, (tensor.numpy(), given.requires_grad)


_AS_ARRAYS = (torch.float32, torch.float64, torch.int64, torch.int32, torch.uint8, torch.bool, torch.float16)


def _tensor(values: Any, requires_grad: bool) -> Tensor:
    return torch.from_numpy(values).requires_grad_(requires_grad)


def _dumped(batch: Any) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=5).dump(batch)
    return buffer.getvalue()
