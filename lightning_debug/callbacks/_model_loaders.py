"""What the training loader says about its batches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from torch.utils.data import BatchSampler, DataLoader, default_collate

from lightning_debug.callbacks._lightning import Trainer
from lightning_debug.probes.batch_fields import batch_fields
from lightning_debug.probes.plain_shape import plain_shape


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
    if type(loader).__iter__ is not DataLoader.__iter__:  # what it gives is not what its sampler says
        return False
    sampler = loader.batch_sampler
    library = type(sampler).__module__.partition(".")[0] in ("torch", "lightning", "pytorch_lightning")
    return isinstance(sampler, BatchSampler) and library


def why_not_samples(trainer: Trainer, batch: Any) -> str:
    """Why the leading dimension of a batch may hold something else than samples; ``""`` where it is certain.

    Args:
        trainer: The Trainer.
        batch: A batch as a step gets it.
    """
    found = list(_loaders(trainer.train_dataloader))
    if not found or not all(map(_is_plain, found)):
        return "the batches are not put together from single samples by a DataLoader of torch"
    shapes = [plain_shape(tensor) for _, tensor in batch_fields(batch) if tensor.ndim]
    for loader in found:
        if loader.collate_fn is default_collate and not _is_rearranged(trainer):
            continue
        if any(shape[0] != loader.batch_size for shape in shapes):
            return f"the leading size of the batch is not the loader's batch_size={loader.batch_size}"
        if any(shape[0] in shape[1:2] for shape in shapes):
            return "two dimensions of the batch are as large as the loader's batch_size"
    return ""


def _is_rearranged(trainer: Trainer) -> bool:
    """Whether a hook of the user's may transpose batches after they are collated."""
    owners = [trainer.lightning_module, getattr(trainer, "datamodule", None)]
    hooks = [getattr(type(owner), "on_after_batch_transfer", None) for owner in owners if owner is not None]
    return any(
        getattr(hook, "__module__", "lightning").partition(".")[0] not in ("lightning", "pytorch_lightning")
        for hook in hooks
    )


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
