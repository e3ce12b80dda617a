"""Runs one step in eval mode, in isolation, and lists the dropouts that ran all the same."""

from __future__ import annotations

from typing import Any, Literal

from lightning_debug.callbacks._lightning import LightningModule, Trainer, moment
from lightning_debug.evidence.modes import DropoutCall, DropoutInEval
from lightning_debug.experiments.isolation import isolated
from lightning_debug.probes.dropout_source import mode_ignoring_call
from lightning_debug.probes.functional_dropout import DropoutWatch


def dropout_in_eval(
    trainer: Trainer, pl_module: LightningModule, batch: Any, step: Literal["training_step", "validation_step"]
) -> DropoutInEval:
    """Dropouts of one step with the whole model in eval mode.

    Nothing is run where every dropout in the model's code obeys the mode as it is written: layers do, and so do
    calls with ``training=self.training``.

    Args:
        trainer: The Trainer, in fit.
        pl_module: Its module.
        batch: A batch as the loop passes it.
        step: Which of the user's steps to run.

    Raises:
        Unrepeatable: If the step cannot be undone. It has not run then.
    """
    at = moment(trainer)
    if not mode_ignoring_call(pl_module):
        return DropoutInEval(at=at)
    with isolated(trainer, pl_module) as sandbox, sandbox.mode(training=False), DropoutWatch(pl_module) as watch:
        getattr(sandbox, step)(batch, 0)
    return DropoutInEval(at=at, step=step, calls=tuple(DropoutCall(**vars(drop)) for drop in watch.drops))
