"""Values of a device, read on the host once they have arrived there, so that nobody waits for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

SLOTS = 64
"""How many reads may be on their way at once; the oldest is waited for beyond that."""

T = TypeVar("T")
Values = tuple[float, ...]


@dataclass
class _Pending(Generic[T]):
    """One read on its way: complete when its event says so, or when enough later reads were asked for."""

    tag: T
    host: Tensor | None
    values: Values
    event: Any = None
    due: int = 0


class Deferred(Generic[T]):
    """Reads small tensors without making the host wait for the device.

    A value on the CPU is there at once. A value on a CUDA device is copied to pinned memory behind the work that
    makes it, and read when an event says that the copy is done. On other devices it is read many reads later, when
    it has long been computed.

    Args:
        delay: Hold every value back for so many further reads: on the CPU, what a slow device looks like.

    >>> reads = Deferred()
    >>> reads.put("step 0", [torch.tensor(2.5), torch.tensor(1)])
    >>> reads.arrived()
    [('step 0', (2.5, 1.0))]
    """

    def __init__(self, delay: int = 0) -> None:
        self._delay = delay
        self._asked = 0
        self._pending: deque[_Pending[T]] = deque()
        self._pinned: dict[torch.dtype, list[Tensor]] = {}

    def put(self, tag: T, values: Sequence[Tensor]) -> None:
        """Asks for values; they come back with ``tag``.

        Args:
            tag: Anything that tells what they are.
            values: Tensors of one element each, on one device or the CPU.
        """
        self._asked += 1
        device = next((item.device for item in values if item.device.type != "cpu"), None)
        if device is None:
            read = _Pending(tag, None, tuple(host_value(item) for item in values), due=self._asked + self._delay)
        else:
            read = self._launch(tag, values, device)
        self._pending.append(read)

    def arrived(self) -> list[tuple[T, Values]]:
        """What has arrived since the last call, in the order it was asked for. Never waits, unless all slots are used.

        Returns:
            Pairs of tag and values.
        """
        found = []
        while self._pending and (self._done(self._pending[0]) or len(self._pending) > SLOTS):
            found.append(self._take(self._pending.popleft()))
        return found

    def wait(self) -> list[tuple[T, Values]]:
        """All that was asked for and not returned yet; waits for the device."""
        found = [self._take(read) for read in self._pending]
        self._pending.clear()
        return found

    def _launch(self, tag: T, values: Sequence[Tensor], device: torch.device) -> _Pending[T]:
        wide = any(item.dtype == torch.float64 for item in values)
        dtype = torch.float64 if wide else torch.float32  # a float64 loss may lie outside float32's range
        flat = [item.detach().reshape(()).to(device=device, dtype=dtype, non_blocking=True) for item in values]
        stacked = torch.stack(flat)
        if device.type != "cuda":
            return _Pending(tag, stacked, (), due=self._asked + SLOTS)
        host = self._slot(len(flat), dtype)
        host.copy_(stacked, non_blocking=True)
        event: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(device))
        return _Pending(tag, host, (), event=event)

    def _slot(self, size: int, dtype: torch.dtype) -> Tensor:
        free = self._pinned.setdefault(dtype, [])
        for index, slot in enumerate(free):
            if slot.numel() == size:
                return free.pop(index)
        return torch.empty(size, dtype=dtype, pin_memory=True)

    def _done(self, read: _Pending[T]) -> bool:
        return bool(read.event.query()) if read.event is not None else self._asked >= read.due

    def _take(self, read: _Pending[T]) -> tuple[T, Values]:
        if read.host is None:
            return read.tag, read.values
        if read.event is not None:
            read.event.synchronize()  # returns at once when the event is past
        values = tuple(float(value) for value in read.host.tolist())
        if read.event is not None:
            self._pinned.setdefault(read.host.dtype, []).append(read.host)
        return read.tag, values


def host_value(tensor: Tensor) -> float:
    """The value of a one-element tensor on the CPU, read straight from its memory, without a call to the dispatcher.

    Complex values give their magnitude.

    >>> host_value(torch.tensor([1.5], dtype=torch.bfloat16))
    1.5
    """
    value: Any = tensor.detach().tolist()
    while isinstance(value, list):
        (value,) = value
    return float(abs(value)) if isinstance(value, complex) else float(value)
