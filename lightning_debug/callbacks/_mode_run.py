"""ModeRun: what ModeChecker knows of the run in progress."""

from __future__ import annotations

from dataclasses import dataclass

from lightning_debug.probes.train_calls import TrainCalls
from lightning_debug.probes.training_audit import TrainingAudit
from lightning_debug.probes.validation_audit import ValidationAudit


@dataclass
class ModeRun:
    """The watches of one run, and where it is.

    Args:
        calls: The watch over ``train`` and ``eval``.
        training: Modes in the steps of training.
        validation: Modes in those of validation.
        epoch: The epoch that runs, from 0.
        steps: Batches trained on.
        batches: Batches of the validation in progress.
        dropout_looked: Whether it was asked if dropout ignores the mode.
        in_eval: Modules found in eval mode in training.
        in_train: Modules found in train mode in validation.
    """

    calls: TrainCalls
    training: TrainingAudit
    validation: ValidationAudit
    epoch: int = 0
    steps: int = 0
    batches: int = 0
    dropout_looked: bool = False
    in_eval: frozenset[str] = frozenset()
    in_train: frozenset[str] = frozenset()
