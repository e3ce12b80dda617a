"""Private batches of the training set, for experiments: the live loader and every random generator stay as they are.

    try:
        batches = training_batches(trainer, pl_module)
    except NotDrawable as error:
        ...  # error.reason; BufferedBatches with the first live batches is the other way
    with isolated(trainer, pl_module, updates=True, also=batches.reads) as sandbox:
        sandbox.training_step(batches.batch(batches.train[0]))

A batch is made as the loader makes it (sampler's indices, ``__getitems__``, ``collate_fn``), from indices of a
generator of our own, and goes to the device as the loop sends it (precision, the three transfer hooks). It is read
once and kept in host memory, up to :data:`KEPT` bytes in all.

Like ``_lightning.py`` this file may touch Lightning's private parts.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch.utils import data as torch_data

from lightning_debug.callbacks._lightning import LightningModule, Trainer
from lightning_debug.callbacks._lightning_loader import Loader, NotDrawable
from lightning_debug.callbacks._lightning_state import data_module, prepare, takes_iterator
from lightning_debug.experiments._surroundings import random_state, set_random_state, staying
from lightning_debug.experiments.asking import trace_of

__all__ = ["Batches", "BufferedBatches", "DrawnBatches", "NotDrawable", "training_batches"]

KEPT = 1 << 28
"""Bytes of read batches that are kept; what goes beyond is read again when it is used again."""

_TRANSFERS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")


class Batches(Protocol):
    """Batches by index; :attr:`train` and :attr:`held_out` have no sample in common."""

    @property
    def train(self) -> Sequence[int]:
        """Indices of batches to train on; at least one."""

    @property
    def held_out(self) -> Sequence[int]:
        """Indices of batches to measure on; may be empty."""

    @property
    def reads(self) -> tuple[Any, ...]:
        """Objects whose state reading a batch may change: for ``isolated(also=...)``."""

    def batch(self, index: int) -> Any:
        """A batch as ``training_step`` gets it: on the device; it may be changed in place."""


class DrawnBatches:
    """Batches that are read from the data sets of a run's training loaders.

    Args:
        trainer: The Trainer, in fit.
        pl_module: Its module.
        rows: For every batch, what to fetch from each loader.
        held_out: How many of the batches, from the first on, are held out.
        fetch: Reads a batch.
        reads: Objects that reading may change.
    """

    def __init__(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        rows: Sequence[Any],
        held_out: int,
        fetch: Callable[[Any], Any],
        reads: tuple[Any, ...],
    ) -> None:
        self._trainer, self._module = trainer, pl_module
        self._rows, self._fetch = rows, fetch
        self.reads = reads
        self.held_out: Sequence[int] = range(held_out)
        self.train: Sequence[int] = range(held_out, len(rows))
        self._read: dict[int, Any] = {}
        self._bytes = 0
        self._transferred_by_user = _has_transfer_hooks(trainer, pl_module)

    def raw(self, index: int) -> Any:
        """A batch as the loader yields it. Do not change it: it is kept."""
        if index in self._read:
            return self._read[index]
        state = random_state()
        try:
            with staying():
                found = self._fetch(self._rows[index])
        finally:
            set_random_state(state)
        size = _bytes(found)
        if self._bytes + size <= KEPT:
            self._bytes += size
            self._read[index] = found
        return found

    def batch(self, index: int) -> Any:
        """A batch as ``training_step`` gets it; random transfer hooks draw from the generators at hand."""
        found = self.raw(index)
        if self._transferred_by_user and index in self._read:
            found = copy.deepcopy(found)  # a hook may change it in place
        return prepare(self._trainer, self._module, found)


class BufferedBatches:
    """Batches of the run itself, copied as they pass by: for loaders from which nothing can be drawn apart.

    Args:
        wanted: How many to gather.
        limit: Bytes to keep at most.
    """

    def __init__(self, wanted: int = 24, limit: int = KEPT) -> None:
        self._wanted, self._limit = wanted, limit
        self._kept: list[Any] = []
        self._bytes = 0
        self.reads: tuple[Any, ...] = ()

    @property
    def full(self) -> bool:
        """Whether there are enough, or as many as memory allows."""
        return len(self._kept) >= self._wanted or self._bytes >= self._limit

    @property
    def held_out(self) -> Sequence[int]:
        """The last fifth: a stream may repeat or resemble itself from one batch to the next."""
        return range(len(self._kept) - len(self._kept) // 5, len(self._kept))

    @property
    def train(self) -> Sequence[int]:
        """The others."""
        return range(len(self._kept) - len(self._kept) // 5)

    def add(self, batch: Any) -> None:
        """Keeps a copy of a batch that is on the device already (``on_train_batch_start``).

        Raises:
            NotDrawable: If it cannot be copied.
        """
        state = random_state()
        try:
            copied = copy.deepcopy(batch)
        except Exception as error:
            raise NotDrawable(f"a batch cannot be copied: {type(error).__name__}: {error}") from error
        finally:
            set_random_state(state)
        self._kept.append(copied)
        self._bytes += _bytes(batch)

    def batch(self, index: int) -> Any:
        """The batch. A sandbox puts back what a step changes in it."""
        return self._kept[index]


def training_batches(trainer: Trainer, pl_module: LightningModule, *, seed: int = 0) -> DrawnBatches:
    """Batches of the training set that no live loader, sampler or generator notices; a fifth is held out.

    Every rank draws from its own part of the data. Reading happens in this process, whatever ``num_workers`` is.

    Args:
        trainer: The Trainer, in fit, from ``on_train_start`` on.
        pl_module: Its module.
        seed: Of the private generator.

    Raises:
        NotDrawable: If there is no training loader, or one that only yields its batches in turn.
    """
    if takes_iterator(pl_module):
        raise NotDrawable("training_step takes dataloader_iter and draws its batches itself")
    loaders = trainer.train_dataloader
    if loaders is None:
        raise NotDrawable("there is no training loader")
    mode = trainer.fit_loop._combined_loader._mode  # type: ignore[union-attr]
    if mode == "sequential" and not isinstance(loaders, torch_data.DataLoader):
        raise NotDrawable("several training loaders follow each other")
    limit = trainer.num_training_batches
    generator = torch.Generator().manual_seed(seed * 1000 + trainer.global_rank)
    leaves: list[Loader] = []

    def visit(node: Any) -> Any:
        if isinstance(node, Mapping):
            return {name: visit(item) for name, item in node.items()}
        if isinstance(node, (list, tuple)):
            return [visit(item) for item in node] if isinstance(node, list) else tuple(visit(item) for item in node)
        leaves.append(Loader(node, int(limit) if math.isfinite(limit) else None))
        return leaves[-1]

    tree = visit(loaders)
    if not leaves:
        raise NotDrawable("there is no training loader")
    cuts = [leaf.cut(generator) for leaf in leaves]
    trains, held = [len(cut[0]) for cut in cuts], [len(cut[1]) for cut in cuts]
    held_out = max(held) if min(held) else 0
    count = max(trains)
    rows = [
        [cut[1][index % len(cut[1])] if index < held_out else cut[0][(index - held_out) % len(cut[0])] for cut in cuts]
        for index in range(held_out + count)
    ]

    def fetch(row: list[Any]) -> Any:
        parts = iter([leaf.fetch(rows_of) for leaf, rows_of in zip(leaves, row, strict=True)])
        return _fill(tree, parts)

    reads = tuple(item for leaf in leaves for item in (leaf.dataset, leaf.collate) if item is not None)
    if trace := trace_of(reads):
        raise NotDrawable(f"asking the data apart from the run would leave a trace: {trace}")
    return DrawnBatches(trainer, pl_module, rows, held_out, fetch, reads)


def _fill(tree: Any, parts: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _fill(item, parts) for name, item in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(_fill(item, parts) for item in tree)
    return next(parts)


def _has_transfer_hooks(trainer: Trainer, pl_module: LightningModule) -> bool:
    owners = [owner for owner in (pl_module, data_module(trainer)) if owner is not None]
    return any(_is_users(owner, name) for owner in owners for name in _TRANSFERS)


def _is_users(owner: Any, name: str) -> bool:
    top = str(getattr(getattr(owner, name, None), "__module__", "")).split(".")[0]
    return top not in ("pytorch_lightning", "lightning")


def _bytes(value: Any, depth: int = 0) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(getattr(value, "nbytes", None), int):
        return int(value.nbytes)
    if depth > 6 or isinstance(value, (str, bytes)):
        return 64
    if isinstance(value, Mapping):
        return sum(_bytes(item, depth + 1) for item in value.values())
    if isinstance(value, (list, tuple, set)):
        return sum(_bytes(item, depth + 1) for item in value)
    return sum(_bytes(item, depth + 1) for item in getattr(value, "__dict__", {}).values())
