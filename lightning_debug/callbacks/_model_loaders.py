"""What the training loader says about its batches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from torch.utils.data import BatchSampler, DataLoader

from lightning_debug.callbacks._lightning import Trainer


def _loaders(value: Any) -> Iterator[Any]:
    if isinstance(value, DataLoader):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _loaders(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _loaders(item)
    else:
        yield value


def _is_plain(loader: Any) -> bool:
    if not isinstance(loader, DataLoader):
        return False
    sampler = loader.batch_sampler
    library = type(sampler).__module__.partition(".")[0] in ("torch", "lightning", "pytorch_lightning")
    return isinstance(sampler, BatchSampler) and library


def forms_batches(trainer: Trainer) -> bool:
    """Whether every training loader is a DataLoader that puts batches together from single samples."""
    found = list(_loaders(trainer.train_dataloader))
    return bool(found) and all(map(_is_plain, found))


def last_batch(trainer: Trainer, size: int) -> tuple[int, int | None, int | None]:
    """Samples of a full batch, of an epoch, and of its last batch; ``None`` where that cannot be foretold.

    Args:
        trainer: The Trainer.
        size: Samples of the batch at hand.
    """
    found = list(_loaders(trainer.train_dataloader))
    if len(found) != 1 or not _is_plain(found[0]) or not found[0].batch_size:
        return size, None, None
    loader = found[0]
    try:
        samples = len(loader.sampler)
    except (TypeError, NotImplementedError):
        return size, None, None
    whole = loader.batch_size
    if loader.drop_last or not math.isfinite(trainer.num_training_batches):
        return max(size, whole), samples, None
    if trainer.num_training_batches < math.ceil(samples / whole):
        return max(size, whole), samples, None
    return max(size, whole), samples, samples % whole or whole
