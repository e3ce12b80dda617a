"""The loss of one batch in train mode, in eval mode, and in eval mode with the batch's own statistics."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.instancenorm import _InstanceNorm

from lightning_debug.callbacks._lightning import LightningModule, Trainer
from lightning_debug.evidence.modes import ModeGap, NormState
from lightning_debug.experiments.isolation import Sandbox, Unrepeatable
from lightning_debug.experiments.loss_experiments import BrokenOff, NotJudged
from lightning_debug.experiments.model_runs import sandbox_of
from lightning_debug.probes.batch_slicing import Uncuttable, batch_size


def tracking_norms(pl_module: nn.Module) -> dict[str, _NormBase]:
    """Batch-norms in train mode that hold running statistics, by path."""
    return {
        name: module
        for name, module in pl_module.named_modules()
        if isinstance(module, _NormBase)
        and not isinstance(module, _InstanceNorm)
        and module.training
        and module.running_mean is not None
    }


def mode_gap(
    trainer: Trainer,
    pl_module: LightningModule,
    batch: Any,
    batch_idx: int,
    *,
    first_loss: float | None,
    steps: int,
    last: bool,
) -> ModeGap:
    """Runs the training step three times.

    Raises:
        NotJudged: If the step cannot be run again, or gives no finite loss.
    """
    norms = tracking_norms(pl_module)
    with sandbox_of(trainer, pl_module) as sandbox:
        modes = [module.training for module in pl_module.modules()]
        eval_loss = _loss(sandbox, batch, batch_idx, training=False)
        states = _copy(norms.values())
        before = {name: _statistics(module) for name, module in norms.items()}
        momenta = [(module, module.momentum, module.track_running_stats) for module in norms.values()]
        try:
            for module in norms.values():
                module.momentum, module.track_running_stats = 1.0, True
            sandbox.reseed()
            train_loss = _value(sandbox, sandbox.training_step(batch, batch_idx))
        except (Unrepeatable, NotJudged):
            raise
        except Exception as error:
            raise BrokenOff(f"training_step raises {type(error).__name__} when run again: {error}") from error
        finally:
            for module, momentum, tracks in momenta:
                module.momentum, module.track_running_stats = momentum, tracks
        ran = {name: module for name, module in norms.items() if _ran(module, before[name])}
        found = tuple(_state(name, module, before[name]) for name, module in ran.items())
        shared = [module for name, module in ran.items() if _calls(module, before[name]) > 1]
        cured_loss = _loss(sandbox, batch, batch_idx, training=False, live=shared)
        _put_back(norms.values(), states)
        if not found:
            raise NotJudged("no batch-norm is at work in the training step")
        if modes != [module.training for module in pl_module.modules()]:
            raise NotJudged("training_step itself changes the modes of modules")
    try:
        samples = batch_size(batch)
    except Uncuttable:
        samples = 0
    return ModeGap(
        samples=samples,
        steps=steps,
        first_loss=train_loss if first_loss is None else first_loss,
        train_loss=train_loss,
        eval_loss=eval_loss,
        cured_loss=cured_loss,
        norms=found,
        last=last,
    )


def _loss(sandbox: Sandbox, batch: Any, batch_idx: int, *, training: bool, live: Iterable[_NormBase] = ()) -> float:
    """The loss in a mode, with some norms that take the statistics of what they are given at each call."""
    sandbox.reseed()
    try:
        with sandbox.mode(training=training):
            for module in live:  # one set of running statistics cannot hold those of several calls
                module.training = True
            return _value(sandbox, sandbox.training_step(batch, batch_idx))
    except (Unrepeatable, NotJudged):
        raise
    except Exception as error:
        raise BrokenOff(f"training_step raises {type(error).__name__} in eval mode: {error}") from error


def _value(sandbox: Sandbox, output: Any) -> float:
    loss = sandbox.loss(output)
    if loss is None or loss.numel() != 1:
        raise NotJudged("training_step returns no loss")
    value = float(loss.detach())
    if not math.isfinite(value):
        raise NotJudged("the loss is not finite")
    return value


def _statistics(module: _NormBase) -> tuple[torch.Tensor, torch.Tensor, int | None]:
    assert module.running_mean is not None
    assert module.running_var is not None
    counter = module.num_batches_tracked
    return module.running_mean.clone(), module.running_var.clone(), None if counter is None else int(counter)


def _ran(module: _NormBase, before: tuple[torch.Tensor, torch.Tensor, int | None]) -> bool:
    """Whether it took the statistics of the batch: a copy that is averaged for validation does not."""
    mean, variance, updates = before
    assert module.running_mean is not None
    assert module.running_var is not None
    if updates is not None and module.num_batches_tracked is not None:
        return int(module.num_batches_tracked) != updates
    return not (torch.equal(module.running_mean, mean) and torch.equal(module.running_var, variance))


def _calls(module: _NormBase, before: tuple[torch.Tensor, torch.Tensor, int | None]) -> int:
    """How often it was called in the step; 0 where it does not count."""
    counter, updates = module.num_batches_tracked, before[2]
    return 0 if counter is None or updates is None else int(counter) - updates


def _copy(norms: Iterable[_NormBase]) -> list[list[torch.Tensor]]:
    return [[item.detach().clone() for item in module.buffers(recurse=False)] for module in norms]


@torch.no_grad()
def _put_back(norms: Iterable[_NormBase], states: list[list[torch.Tensor]]) -> None:
    for module, kept in zip(norms, states, strict=True):
        for buffer, value in zip(module.buffers(recurse=False), kept, strict=True):
            buffer.copy_(value)


def _state(name: str, module: _NormBase, before: tuple[torch.Tensor, torch.Tensor, int | None]) -> NormState:
    mean, variance, updates = before
    assert module.running_mean is not None
    assert module.running_var is not None
    deviation = module.running_var.double().clamp_min(1e-12).sqrt()
    distance = ((module.running_mean.double() - mean.double()).abs() / deviation).max()
    return NormState(
        path=name,
        class_name=type(module).__name__,
        momentum=module.momentum,
        updates=updates,
        untouched=bool((mean == 0).all() and (variance == 1).all()),
        distance=float(distance),
        tracks=bool(module.track_running_stats),
        calls=_calls(module, before),
    )
