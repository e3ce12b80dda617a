"""ShapeTrace: the shapes of one training step, from the batch to the loss."""

from __future__ import annotations

from typing import Any

from lightning_debug.callbacks._base import DebugCallback
from lightning_debug.callbacks._error_inquiry import FIELDS_TOLD, Held, rerun, size_of
from lightning_debug.callbacks._lightning import LightningModule, Trainer, moment
from lightning_debug.evidence.errors import ShapeTable
from lightning_debug.probes.batch_fields import batch_fields
from lightning_debug.probes.error_operands import operand


class ShapeTrace(DebugCallback):
    """Shows the table of shapes of a healthy model: one line for each layer and operation, the batch dimension marked.

    The first training step is run beforehand in isolation, and once more with a sample less: the dimensions that
    shrink are the batch's. The table goes to the console and to the Trainer's TensorBoard loggers
    (``lightning_debug/shapes``, as text).
    """

    produces = (ShapeTable,)

    _done: bool = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begins anew."""
        self._done = False

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Runs the step, once a fit."""
        if self._done:
            return
        self._done = True
        if trainer.world_size > 1:
            self.unavailable(ShapeTable, "the step was not run: other ranks would have waited", trainer)
            return
        found = rerun(trainer, pl_module, Held("training_step", batch, batch_idx))
        if not found.rows:
            self.unavailable(ShapeTable, found.lacking or "no call of torch's was seen", trainer)
            return
        fields = tuple(operand(value, name, "batch") for name, value in batch_fields(batch)[:FIELDS_TOLD])
        table = ShapeTable(
            at=moment(trainer), rows=found.rows, fields=fields, batch_size=size_of(batch), marked=found.marked
        )
        self.session.observe(table)
