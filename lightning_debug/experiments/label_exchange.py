"""Whether a step's loss is lower with its own labels than with those of other samples, whatever it is computed by.

Where no known loss function compares outputs with labels, the step is asked: labels change places among the samples,
and the step is run again. First it must be shown that the labels are what the outputs are compared with. They are where
a change of them changes no layer's output, and turns the gradient of a sample, which a weight of the sample only
stretches.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lightning_debug.callbacks._lightning import LightningModule, Trainer
from lightning_debug.experiments.clock import working_time
from lightning_debug.experiments.isolation import Sandbox, Unrepeatable
from lightning_debug.experiments.loss_experiments import BrokenOff, NotJudged
from lightning_debug.experiments.steps_by_hand import heard_again, is_by_hand
from lightning_debug.probes.batch_fields import batch_fields
from lightning_debug.probes.batch_slicing import Uncuttable, take_samples

EXCHANGES, FEWEST = 99, 39
"""How often labels change places, and how often they must have."""

SECONDS = 3.0
"""After so many there are no more exchanges."""

CLEAR = 6.0
"""Standard deviations below the losses of exchanged labels at which a loss needs no more of them."""

TURNED = 0.999
"""Cosine below which two gradients are not the same but for their length."""

TRIES = 3


def loss_by_labels(
    trainer: Trainer, sandbox: Sandbox, batches: Sequence[Any], step: str, path: str
) -> tuple[int, float, float, float]:
    """Asks the trained net, in eval mode.

    Args:
        trainer: The Trainer, in fit.
        sandbox: Where steps run.
        batches: Whole batches of the stage that is asked, on the CPU, before the transfer.
        step: ``"training_step"`` or ``"validation_step"``.
        path: Name of the labels' batch field.

    Returns:
        Samples, p-value that the loss has nothing to do with which labels belong to which sample, share by which it
        is lower with its own, and 0.

    Raises:
        NotJudged: If the step tells no loss, or another one each time, or what is asked about is no target.
    """
    fields = [_field(batch, path) for batch in batches]
    if len({item.shape[1:] for item in fields}) != 1:
        raise NotJudged("the labels of batches differ in shape")
    labels = torch.cat([item.cpu() for item in fields])
    begun = working_time()
    own = _losses(trainer, sandbox, batches, step, path, labels)
    if own != _losses(trainer, sandbox, batches, step, path, labels):
        raise NotJudged("the step gives another loss each time it runs")
    price = (working_time() - begun) / 2
    if FEWEST * price > SECONDS:
        raise NotJudged("exchanging labels would take too long")
    random = torch.Generator().manual_seed(0)
    others: list[float] = []
    for _ in range(EXCHANGES):
        order = torch.randperm(len(labels), generator=random)
        others.append(_losses(trainer, sandbox, batches, step, path, labels[order]))
        if len(others) >= FEWEST and (working_time() - begun > SECONDS or _is_clear(own, others)):
            break
    among = np.array(others)
    if float(np.ptp(among)) <= 1e-9 * abs(own):
        raise NotJudged("the loss does not depend on which labels belong to which sample")
    p_value = float((1 + (among <= own).sum()) / (len(among) + 1))
    return len(labels), p_value, float((among.mean() - own) / max(abs(among.mean()), 1e-12)), 0.0


def _is_clear(own: float, others: Sequence[float]) -> bool:
    below = float(np.mean(others)) - own
    return below > CLEAR * float(np.std(others)) or sum(other <= own for other in others) > len(others) / 4


def require_target(trainer: Trainer, pl_module: LightningModule, sandbox: Sandbox, batch: Any, path: str) -> None:
    """Refuses labels that a layer is given, or that only weigh samples.

    Raises:
        NotJudged: With the reason.
    """
    labels = _field(batch, path)
    order = labels.reshape(len(labels), -1).double().sum(1).argsort()
    lowest, highest = labels[order[0]].clone(), labels[order[-1]].clone()
    if torch.equal(lowest, highest):
        raise NotJudged("all labels of a batch are alike")
    turned = False
    for place in range(min(TRIES, len(labels))):
        try:
            twice = take_samples(batch, [place, place])
        except Uncuttable as error:
            raise NotJudged(str(error)) from error
        made: list[tuple[list[Tensor], Tensor]] = []
        for label in (lowest, highest):
            changed = copy.deepcopy(twice)
            _field(changed, path).copy_(label.expand_as(_field(changed, path)))
            made.append(_gradient(trainer, pl_module, sandbox, changed))
        (outputs, one), (again, two) = made
        same = len(outputs) == len(again) and all(map(torch.equal, outputs, again))
        if not outputs or not same:
            raise NotJudged("a layer is given the labels, or none could be watched")
        turned = turned or _cosine(one, two) < TURNED
    if not turned:
        raise NotJudged("the labels weigh samples, and are nothing that outputs are compared with")


def _gradient(
    trainer: Trainer, pl_module: LightningModule, sandbox: Sandbox, batch: Any
) -> tuple[list[Tensor], Tensor]:
    """What layers give on a batch, and the gradient of its loss for all parameters."""
    sandbox.rewind()  # before hooks are put in, which it takes off
    with _watched(pl_module) as outputs, torch.enable_grad():
        loss = _loss(trainer, sandbox, batch, "training_step", keep=True)
        if loss is None or not loss.requires_grad:
            raise NotJudged("training_step returns no loss")
        trained = [item for item in pl_module.parameters() if item.requires_grad]
        found = torch.autograd.grad(loss.float().mean(), trained, allow_unused=True)
    return outputs, torch.cat([item.detach().float().reshape(-1).cpu() for item in found if item is not None])


def layer_outputs(trainer: Trainer, pl_module: LightningModule, sandbox: Sandbox, batch: Any) -> list[Tensor]:
    """What layers give on a batch, in eval mode.

    Raises:
        NotJudged: If no layer could be watched.
    """
    sandbox.rewind()
    with _watched(pl_module) as outputs:
        _loss(trainer, sandbox, batch, "training_step")
    if not outputs:
        raise NotJudged("no layer could be watched")
    return outputs


@contextmanager
def _watched(pl_module: LightningModule) -> Iterator[list[Tensor]]:
    outputs: list[Tensor] = []

    def note(_: nn.Module, __: Any, output: Any) -> None:
        outputs.extend(item.detach() for item in (output if isinstance(output, tuple) else (output,))
                       if isinstance(item, Tensor))  # fmt: skip

    layers = [item for item in pl_module.modules() if item is not pl_module and item._parameters]  # noqa: SLF001
    handles = [item.register_forward_hook(note) for item in layers]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _cosine(one: Tensor, two: Tensor) -> float:
    if one.shape != two.shape:
        return 0.0
    length = float(one.norm() * two.norm())
    return float(one @ two) / length if length > 0 else 1.0


def _losses(trainer: Trainer, sandbox: Sandbox, batches: Sequence[Any], step: str, path: str, labels: Tensor) -> float:
    """The mean loss of batches with these labels."""
    total, at = 0.0, 0
    if is_by_hand(trainer.lightning_module, step):
        sandbox.rewind()
    for batch in batches:
        changed = copy.deepcopy(batch)
        field = _field(changed, path)
        field.copy_(labels[at : at + len(field)])
        at += len(field)
        loss = _loss(trainer, sandbox, changed, step)
        if loss is None:
            told = [value for name, value in sandbox.logged.items() if "loss" in name.lower()]
            loss = told[0] if len(told) == 1 and isinstance(told[0], Tensor) else None
        if loss is None or loss.numel() != 1 or not bool(torch.isfinite(loss)):
            raise NotJudged(f"{step} tells no loss")
        total += float(loss.detach()) * len(field)
    return total / len(labels)


def _loss(trainer: Trainer, sandbox: Sandbox, batch: Any, step: str, *, keep: bool = False) -> Tensor | None:
    """The loss that a step returns in eval mode, or that goes backward in it; ``keep``: with its graph."""
    module = trainer.lightning_module
    sandbox.reseed()
    sandbox.logged.clear()
    try:
        moved = trainer.strategy.batch_to_device(copy.deepcopy(batch), dataloader_idx=0)
        with sandbox.mode(training=False):
            if is_by_hand(module, step):
                return heard_again(sandbox, module, moved, evaluating=True, keep=keep)
            return sandbox.loss(getattr(sandbox, step)(moved))
    except Unrepeatable:
        raise
    except Exception as error:
        raise BrokenOff(f"{step} raises {type(error).__name__} when run again: {error}") from error


def _field(batch: Any, path: str) -> Tensor:
    found = dict(batch_fields(batch)).get(path)
    if found is None or not found.ndim:
        raise NotJudged("the labels of a batch were not found again")
    return found
