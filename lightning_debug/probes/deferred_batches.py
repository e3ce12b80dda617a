"""Batches that are on a device when they leave their loader: read on the host later, when they have arrived there."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from lightning_debug.probes.batch_roles import Field
from lightning_debug.probes.relation_fingerprints import telling

WAITING = 64
"""Batches that may be on their way at once; the oldest is waited for beyond that."""

T = TypeVar("T")


@dataclass
class _Copy(Generic[T]):
    tag: T
    fields: list[Field]
    event: Any
    due: int


class HostCopies(Generic[T]):
    """Copies fields to pinned memory behind the work that makes them, and gives them back in order.

    A batch on the CPU that comes after one that is still on its way waits behind it. Fields on devices other than
    CUDA are left out.

    Args:
        delay: Hold every batch back for so many further ones: on the CPU, what a slow device looks like.

    >>> copies = HostCopies(delay=1)
    >>> copies.put("first", [Field("batch[0]", torch.ones(2, 3))], whole=True)
    >>> len(copies.arrived())
    0
    >>> copies.put("second", [Field("batch[0]", torch.zeros(2, 3))], whole=True)
    >>> [(tag, fields[0].tensor.sum().item()) for tag, fields in copies.arrived()]
    [('first', 6.0)]
    """

    def __init__(self, delay: int = 0) -> None:
        self._delay = delay
        self._asked = 0
        self._waiting: deque[_Copy[T]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, tag: T, fields: Sequence[Field], *, whole: bool) -> None:
        """Asks for a batch.

        Args:
            tag: Comes back with it.
            fields: Its fields.
            whole: Whether all values are wanted, rather than as many as tell samples apart.
        """
        self._asked += 1
        usable = [item for item in fields if item.tensor.device.type in ("cpu", "cuda")]
        device = next((item.tensor.device for item in usable if on_device(item.tensor)), None)
        copied = [self._copied(item, whole) for item in usable]
        event: Any = None
        if device is not None and device.type == "cuda":
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record(torch.cuda.current_stream(device))
        self._waiting.append(_Copy(tag, copied, event, self._asked + self._delay))

    def arrived(self) -> list[tuple[T, list[Field]]]:
        """What has arrived since the last call, in the order in which it was asked for; never waits for the newest."""
        found = []
        while self._waiting and (self._is_there(self._waiting[0]) or len(self._waiting) > WAITING):
            found.append(self._taken())
        return found

    def wait(self) -> list[tuple[T, list[Field]]]:
        """All that was asked for and not given back yet."""
        return [self._taken() for _ in range(len(self._waiting))]

    def drop(self) -> None:
        """Forgets what is on its way."""
        self._waiting.clear()

    def _taken(self) -> tuple[T, list[Field]]:
        copy = self._waiting.popleft()
        if copy.event is not None:
            copy.event.synchronize()  # returns at once when the event is past
        return copy.tag, copy.fields

    def _is_there(self, copy: _Copy[T]) -> bool:
        return bool(copy.event.query()) if copy.event is not None else self._asked >= copy.due

    @staticmethod
    def _copied(field: Field, whole: bool) -> Field:
        tensor = field.tensor.detach()
        if not on_device(tensor):
            return field
        if not whole and field.dim is not None:
            tensor = telling(field.samples)
            field = dataclasses.replace(field, dim=0)
        tensor = tensor.contiguous()
        pinned = tensor.device.type == "cuda"
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=pinned)
        host.copy_(tensor, non_blocking=True)
        return dataclasses.replace(field, tensor=host)


def on_device(tensor: Tensor) -> bool:
    """Whether reading a tensor would make the host wait."""
    return tensor.device.type != "cpu"
