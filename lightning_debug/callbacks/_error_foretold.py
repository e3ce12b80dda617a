"""Errors that are sure to come, found in isolation before the first step."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from lightning_debug.callbacks._error_inquiry import (
    Held,
    evidence_of,
    full_size,
    kept_by_samples,
    rerun,
    size_of,
    with_replay,
)
from lightning_debug.callbacks._lightning import LightningModule, Trainer, is_compiled, moment
from lightning_debug.evidence.errors import ErrorRaised
from lightning_debug.probes.batch_fields import batch_fields
from lightning_debug.probes.batch_slicing import Uncuttable, cut_batch
from lightning_debug.probes.error_frames import read_scene
from lightning_debug.probes.error_memory import owners
from lightning_debug.probes.error_trace import OutOfRange
from lightning_debug.probes.memory_forecast import memory_need, samples_to_try


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


def batch_too_large(trainer: Trainer, module: LightningModule, held: Held) -> ErrorRaised | None:
    """The error that this batch will raise, if what a few of its samples keep proves that all of them cannot fit.

    Only on a GPU: there the limit is known and hard. A compiled step may keep less than the same step without.
    """
    device, size = trainer.strategy.root_device, size_of(held.batch)
    if device.type != "cuda" or trainer.world_size > 1 or not module.automatic_optimization:
        return None
    if held.step != "training_step" or size is None or is_compiled(module):
        return None
    used = torch.cuda.memory_allocated(device)
    return foreseen(trainer, module, held, device=device, used=used, capacity=None)


def foreseen(
    trainer: Trainer, module: LightningModule, held: Held, *, device: torch.device, used: int, capacity: int | None
) -> ErrorRaised | None:
    """The same for what is in use and what there is; ``None`` where the batch may fit.

    Args:
        trainer: The Trainer.
        module: Its module.
        held: The step and its batch.
        device: Where memory counts.
        used: Bytes in use there.
        capacity: Bytes there are for this process; what the device says, if not given.
    """
    size = size_of(held.batch) or 0
    measured = kept_by_samples(trainer, module, held, samples_to_try(size), device)
    known = owners(module, trainer.optimizers, "", size)
    known = known if capacity is None else replace(known, capacity=capacity)
    coming = known.optimizer_expected - known.optimizer
    need = memory_need(measured, size, used, coming)
    if need is None or known.capacity is None or need.total <= known.capacity:
        return None
    return ErrorRaised(
        at=moment(trainer, held.index),
        error="OutOfMemoryError",
        phase="training_step",
        batch_size=size,
        full_batch_size=full_size(trainer, held),
        memory=replace(known, per_sample=need.per_sample, activations=need.activations, used=used),
        foretold="the first batch will not fit",
    )


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
