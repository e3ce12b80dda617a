"""Errors that are sure to come, found in isolation before the first step."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from lightning_debug.callbacks._error_inquiry import Held, evidence_of, full_size, rerun, size_of, with_replay
from lightning_debug.callbacks._lightning import LightningModule, Trainer
from lightning_debug.evidence.errors import ErrorRaised
from lightning_debug.probes.batch_fields import batch_fields
from lightning_debug.probes.batch_slicing import Uncuttable, cut_batch
from lightning_debug.probes.error_frames import read_scene
from lightning_debug.probes.error_trace import OutOfRange


def smaller_batch(trainer: Trainer, module: LightningModule, held: Held) -> ErrorRaised | None:
    """The error that the smaller last batch of an epoch will raise, if a step on so few samples raises one."""
    loader, batches = _loader(trainer, held)
    if loader is None or trainer.world_size > 1 or not module.automatic_optimization:
        return None
    size, rest = size_of(held.batch), last_size(loader, batches)
    if rest is None or size is None or size != loader.batch_size or not _will_come(trainer, held, batches):
        return None
    try:
        part = cut_batch(held.batch, 0, rest)
        whole = cut_batch(held.batch, 0, size)
    except Uncuttable:
        return None
    found = rerun(trainer, module, held, batch=part, mark=False)
    if found.error is None:
        return None
    if rerun(trainer, module, held, batch=whole, mark=False).error is not None:
        return None  # it raises on a full batch as well: the step itself will tell
    loop = "training" if held.step == "training_step" else "validation"
    total = f"{size * (batches - 1) + rest} samples in batches of {size}"
    coming = replace(held, batch=part)
    scene = read_scene(found.error, module, batch_fields(part))
    told = with_replay(evidence_of(trainer, module, found.error, scene, coming), found, module)
    return replace(told, foretold=f"the last {loop} batch of each epoch has {rest} samples ({total})")


def _loader(trainer: Trainer, held: Held) -> tuple[DataLoader[Any] | None, int]:
    """The loader that a batch comes from, if it is a plain one, and how many batches it gives."""
    if held.step == "training_step":
        loader, batches = trainer.train_dataloader, trainer.num_training_batches
    else:
        loader = trainer.val_dataloaders
        if isinstance(loader, (list, tuple)):
            loader = loader[0] if len(loader) == 1 else None
        batches = trainer.num_val_batches[0] if trainer.num_val_batches else 0
    if held.loader or not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return None, 0
    return loader, int(batches) if math.isfinite(batches) else 0


def last_size(loader: DataLoader[Any], batches: int) -> int | None:
    """Samples of the last batch, if it comes and is smaller than the others."""
    if not loader.batch_size or loader.drop_last or type(loader.batch_sampler) is not BatchSampler:
        return None
    try:
        total = len(loader.sampler)  # type: ignore[arg-type]
    except TypeError:  # a sampler without a length
        return None
    rest = total % loader.batch_size
    complete = math.ceil(total / loader.batch_size) == batches  # limit_train_batches may leave it out
    return rest if rest and complete and total > loader.batch_size else None


def _will_come(trainer: Trainer, held: Held, batches: int) -> bool:
    if held.step == "validation_step" or trainer.max_steps < 0:
        return True
    return trainer.max_steps * trainer.accumulate_grad_batches >= batches


def indices_out_of_range(trainer: Trainer, module: LightningModule, held: Held) -> ErrorRaised | None:
    """The index of the first batch that would take a GPU's context with it, if there is one."""
    device = trainer.strategy.root_device.type
    if device != "cuda" or trainer.world_size > 1 or not module.automatic_optimization:
        return None
    if held.step != "training_step":
        return None
    found = rerun(trainer, module, held, check=True, mark=False)
    if not isinstance(found.error, OutOfRange):
        return None
    scene = read_scene(found.error, module, batch_fields(held.batch))
    told = with_replay(evidence_of(trainer, module, found.error, scene, held), found, module)
    return replace(told, full_batch_size=full_size(trainer, held), foretold="the first batch")
