"""What is known of the run when a logged value is asked for and is not there."""

from __future__ import annotations

import dataclasses

from lightning_debug.callbacks._lightning import LightningModule, Trainer
from lightning_debug.evidence.errors import ErrorRaised
from lightning_debug.probes.error_monitor import names_it, nearest

STEPS = ("training_step", "validation_step", "on_train_epoch_end", "on_validation_epoch_end")
MOST_NAMES = 12


def with_logged(told: ErrorRaised, trainer: Trainer, module: LightningModule, *, validated: bool) -> ErrorRaised:
    """Adds what is known of a logged value that was asked for in vain, as notes; others stay as they are.

    ``there`` are the names that are logged and ``near`` the one that may be meant; ``no_validation`` is why no
    validation has run that could have logged it; ``written_in`` the methods whose code holds the name all the same;
    ``per_step`` that a plateau schedule steps after each batch.

    Args:
        told: What is known of the exception.
        trainer: The Trainer.
        module: Its module.
        validated: Whether a validation has run, the sanity check aside.
    """
    if told.wanted is None:
        return told
    name, asker = told.wanted
    there = [key for key in map(str, trainer.callback_metrics) if key != name]
    notes = {"near": nearest(name, there)}
    notes["there"] = ", ".join(there[:MOST_NAMES]) + (" ..." if len(there) > MOST_NAMES else "")
    notes["no_validation"] = "" if validated else _why_no_validation(trainer, module)
    notes["written_in"] = ", ".join(step for step in STEPS if names_it(getattr(module, step, None), name))
    for config in trainer.lr_scheduler_configs:
        if config.reduce_on_plateau and config.interval == "step" and asker == "ReduceLROnPlateau":
            notes["per_step"] = "yes"
    known = {key: value for key, value in notes.items() if value}
    return dataclasses.replace(told, phase="logging", notes={**told.notes, **known})


def _why_no_validation(trainer: Trainer, module: LightningModule) -> str:
    base = next(kind for kind in type(module).__mro__ if kind.__name__ == "LightningModule")
    if getattr(type(module), "validation_step", None) is getattr(base, "validation_step", None):
        return "no-step"
    if not trainer.limit_val_batches:
        return "limit"
    loaders = trainer.val_dataloaders
    if loaders is None or (isinstance(loaders, (list, tuple)) and not loaders):
        return "no-data"
    every = trainer.check_val_every_n_epoch
    return f"every {every}" if isinstance(every, int) and every > 1 else "not yet"
