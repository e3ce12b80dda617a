"""The only file that talks to other ranks. Every rank must call the collectives in here equally often."""

from __future__ import annotations

import base64
import contextlib
import itertools
import time
from array import array
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_debug.callbacks._lightning import Trainer
from lightning_debug.probes.gradient_norms import local, total_norm

_SHARDED = ("FSDPStrategy", "ModelParallelStrategy")


def is_sharded(trainer: Trainer) -> bool:
    """Whether ranks hold different parts of one model, so that a gradient is seen by one of them only."""
    return trainer.world_size > 1 and any(kind.__name__ in _SHARDED for kind in type(trainer.strategy).__mro__)


def any_rank(flag: bool, trainer: Trainer) -> bool:
    """Whether ``flag`` is set on any rank. A collective, and a wait for the device, where there are several ranks."""
    if trainer.world_size == 1:
        return flag
    shared = torch.tensor([int(flag)], device=trainer.strategy.root_device)
    torch.distributed.all_reduce(shared, op=torch.distributed.ReduceOp.MAX)
    return bool(shared.item())


def mean(values: Sequence[float], trainer: Trainer) -> list[float]:
    """The means of numbers over all ranks. A collective."""
    if trainer.world_size == 1:
        return list(values)
    shared = torch.tensor(values, dtype=torch.float64).to(torch.float32).to(trainer.strategy.root_device)
    torch.distributed.all_reduce(shared)
    return [float(item) / trainer.world_size for item in shared]


def average_gradients(parameters: Sequence[Tensor], trainer: Trainer) -> None:
    """Averages gradients over all ranks in place. A collective; a parameter that a rank has not used counts as 0."""
    if trainer.world_size == 1:
        return
    used = mean([float(item.grad is not None) for item in parameters], trainer)
    for item, share in zip(parameters, used, strict=True):
        if share > 0:
            if item.grad is None:
                item.grad = torch.zeros_like(item)
            torch.distributed.all_reduce(item.grad)
            item.grad.div_(trainer.world_size)


def average(parameters: Sequence[Tensor], trainer: Trainer) -> None:
    """Averages values over all ranks in place, as when each has made a step of its own. A collective."""
    with torch.no_grad():
        for item in parameters:
            torch.distributed.all_reduce(item.data)
            item.div_(trainer.world_size)


def tell(key: str, text: str, trainer: Trainer) -> None:
    """Leaves a text for rank 0 in the store that the ranks have met in. No collective: nobody waits for it."""
    _store().set(f"lightning_debug/{key}/{trainer.global_rank}", text)


def hear(key: str, trainer: Trainer, seconds: float = 5.0) -> list[str]:
    """The texts that the other ranks have left; waits at most so long for those that are missing."""
    return [text for _, text in sorted(hear_each(key, trainer, seconds).items())]


def hear_each(key: str, trainer: Trainer, seconds: float, present: str = "") -> dict[int, str]:
    """What other ranks have left, by rank; it is taken away. Waits at most so long.

    Args:
        key: What it was left under.
        trainer: The Trainer.
        seconds: How long to wait for what is missing.
        present: Under what a rank must have left word to be waited for; by default all are.

    Raises:
        Exception: Where the ranks have no store, or it is gone.
    """
    store, found = _store(), {}
    deadline = time.monotonic() + seconds
    missing = [rank for rank in range(trainer.world_size) if rank != trainer.global_rank]
    if present:
        missing = [rank for rank in missing if store.check([f"lightning_debug/{present}/{rank}"])]
    while missing:
        for rank in list(missing):
            name = f"lightning_debug/{key}/{rank}"
            if store.check([name]):
                missing.remove(rank)
                found[rank] = store.get(name).decode()
                with contextlib.suppress(RuntimeError):  # not every store can delete
                    store.delete_key(name)
        if missing and time.monotonic() >= deadline:
            break
        if missing:
            time.sleep(0.01)
    return found


def _store() -> Any:
    from torch.distributed import distributed_c10d  # a build of torch may lack it

    return distributed_c10d._get_default_store()  # noqa: SLF001 -- there is no public way to it


def whole_norm(gradients: Sequence[Tensor], norm_type: float) -> Tensor | None:
    """The norm of all ranks' parts of gradients taken together. A collective where some are distributed."""
    by_mesh: dict[object, list[Tensor]] = {}
    for item in gradients:
        by_mesh.setdefault(getattr(item, "device_mesh", None), []).append(item)
    norms: list[Tensor] = []
    for mesh, group in by_mesh.items():
        norm: Any = total_norm([local(item) for item in group] if mesh is None else group, norm_type)
        norms.append(norm if mesh is None else norm.full_tensor())
    return norms[0] if len(norms) == 1 else total_norm(norms, norm_type)


def clip_wrapped(trainer: Trainer, max_norm: float | Tensor, norm_type: float) -> Tensor | None:
    """Clips through the model's own wrapper where only that knows the whole norm (the first FSDP). A collective.

    Returns:
        The whole norm, or ``None`` where the model has no such wrapper and nothing was done.
    """
    clip = getattr(trainer.strategy.model, "clip_grad_norm_", None)
    if type(trainer.strategy).__name__ != "FSDPStrategy" or clip is None:
        return None
    norm: Tensor = clip(max_norm, norm_type)
    return norm


_MEETINGS = itertools.count()


class Board:
    """Where ranks leave numbers for rank 0, in the store that they have met in. Nobody waits: it is no collective.

    So a rank that dies, one that trains on fewer batches, and one that lacks our callback keep nobody waiting; and
    nothing is queued on a device or among the run's own collectives. What is left is bounded: a key for each thing
    told, deleted when it is read.

    Args:
        trainer: Of several ranks, which must make their boards in the same order.

    Raises:
        RuntimeError: Where the ranks have no store.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer, self._store = trainer, _store()
        self._place = f"lightning_debug/board/{next(_MEETINGS)}"

    def post(self, what: str, numbers: Sequence[float]) -> None:
        """Leaves numbers, eight bytes each."""
        packed = base64.b64encode(array("d", numbers).tobytes()).decode()
        self._store.set(f"{self._place}/{what}/{self._trainer.global_rank}", packed)

    def has(self, what: str, seconds: float = 0.0) -> bool:
        """Whether every rank has left something under this name, now or within some seconds."""
        deadline = time.monotonic() + seconds
        while not self._store.check(self._keys(what)):
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.01)
        return True

    def take(self, what: str) -> list[list[float]]:
        """What all ranks have left, in the order of ranks; to be called once :meth:`has` has said yes."""
        found = []
        for key in self._keys(what):
            numbers = array("d")
            numbers.frombytes(base64.b64decode(self._store.get(key)))
            found.append(numbers.tolist())
            with contextlib.suppress(RuntimeError):  # not every store can delete
                self._store.delete_key(key)
        return found

    def _keys(self, what: str) -> list[str]:
        return [f"{self._place}/{what}/{rank}" for rank in range(self._trainer.world_size)]
