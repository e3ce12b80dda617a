"""Drives the loss of one or two examples down, in isolation, and asks what stands in the way where that fails."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lightning_debug.callbacks._lightning import LightningModule, Trainer
from lightning_debug.evidence.overfit import OverfitCheck
from lightning_debug.experiments._overfit_attempt import EXAMPLES, Attempt
from lightning_debug.experiments._surroundings import silence
from lightning_debug.experiments.clock import working_time
from lightning_debug.experiments.isolation import Unrepeatable, in_eager, isolated, offload_of
from lightning_debug.experiments.loss_experiments import NotJudged
from lightning_debug.probes.batch_fields import batch_fields
from lightning_debug.probes.batch_slicing import Uncuttable, batch_size, cut_batch
from lightning_debug.probes.overfit_reading import ALIKE, spread

FIRST_PAIRS = 16
"""How many pairs of neighbours are looked at for one whose inputs and targets differ."""


def overfit_batch(
    trainer: Trainer,
    pl_module: LightningModule,
    batch: Any,
    batch_idx: int = 0,
    *,
    seconds: Callable[[float], float] = lambda _: 5.0,
) -> OverfitCheck:
    """Fits one or two examples of a batch, and puts everything back.

    With several ranks it may be called on one of them: a step that talks to the others is not judged.

    Args:
        trainer: The Trainer, in fit.
        pl_module: Its module.
        batch: A batch as the loop passes it.
        batch_idx: Its index.
        seconds: After how many it gives up, told what one step takes; 0 is told before that is known.

    Raises:
        NotJudged: If steps cannot be run and undone here, or have no loss to drive down.
    """
    began = working_time()
    if not pl_module.automatic_optimization:
        raise NotJudged("the optimization is manual, so that what is driven down is not known")
    if any("lbfgs" in type(item).__name__.lower() for item in trainer.optimizers):
        raise NotJudged("the optimizer is LBFGS, which takes many steps for one")
    parameters = [(name, item) for name, item in pl_module.named_parameters() if item.requires_grad]
    if not parameters:
        raise NotJudged("the model has no trainable parameter")
    examples, samples, whole = choose_examples(batch)
    with torch.inference_mode(False):
        try:
            with in_eager(pl_module), isolated(trainer, pl_module, offload=offload_of(pl_module)) as sandbox, silence():
                attempt = Attempt(sandbox, pl_module, parameters, batch_idx, lambda step: began + seconds(step))
                found = attempt.run(examples, samples, batch)
        except Unrepeatable as error:
            raise NotJudged(str(error)) from error
    return dataclasses.replace(found, batch=whole, seconds=working_time() - began)


def choose_examples(batch: Any) -> tuple[Any, int | None, int | None]:
    """Two neighbours whose inputs and targets differ, if the batch can be cut; else the whole batch.

    Returns:
        The examples, how many they are (``None`` if the batch is taken whole and not understood), the batch's size.

    >>> choose_examples((torch.tensor([0.0, 0.0, 1.0]), torch.tensor([5, 5, 6])))
    ((tensor([0., 1.]), tensor([5, 6])), 2, 3)
    """
    try:
        size = batch_size(batch)
    except Uncuttable:
        return batch, None, None
    if size <= EXAMPLES:
        return batch, size, size
    best, most = None, -1
    for start in range(min(size - EXAMPLES + 1, FIRST_PAIRS)):
        pair = cut_batch(batch, start, start + EXAMPLES)
        apart = [(spread(field, EXAMPLES) or 0.0) > ALIKE for _, field in batch_fields(pair) if _is_plain(field)]
        if sum(apart) > most:
            best, most = pair, sum(apart)
        if all(apart):
            break
    return best, EXAMPLES, size


def _is_plain(field: Tensor) -> bool:
    return field.layout is torch.strided and not field.is_complex() and not field.is_nested
