"""Asks the trained net about labels that the inputs seem to tell nothing of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning_debug.callbacks._data_part import DataContext, Stage
from lightning_debug.evidence import Evidence, Hindrance, Unavailable
from lightning_debug.evidence.data_relations import LabelLearning
from lightning_debug.experiments.loss_experiments import NotJudged
from lightning_debug.experiments.relation_runs import NothingCompared, scores_and_labels, told_by_loss
from lightning_debug.probes.batch_roles import Field
from lightning_debug.probes.batch_shelf import BatchShelf
from lightning_debug.probes.order_loader import holds_net
from lightning_debug.probes.relation_alignment import ENOUGH, label_alignment
from lightning_debug.probes.relation_knowledge import knowledge
from lightning_debug.probes.relation_several import several_of
from lightning_debug.probes.relation_stream import SampleStream, label_of

KEPT_BYTES, KEPT_SAMPLES, ENOUGH_HELD_OUT = 2**24, 512, 100
"""The first batches of training and validation are kept while they are no more than this, and asked about if enough."""
HOPELESS = 32
"""So many first batches without labels of one number, or a few, and no more are waited for."""


class KeptBatches:
    """A few whole batches."""

    def __init__(self) -> None:
        self.batches = BatchShelf()
        self.samples = 0
        self.path = ""
        """The labels' field."""
        self._room = KEPT_BYTES
        self._without = 0

    @property
    def is_over(self) -> bool:
        """Whether nothing more is kept: there is enough, or the first batches have no such labels."""
        return self.samples >= KEPT_SAMPLES or self._room <= 0 or (not self.samples and self._without >= HOPELESS)

    def add(self, batch: Any, fields: Sequence[Field], size: int) -> None:
        """Copies a batch whose labels are one number each, or a few, while there is room."""
        if self.is_over:
            return
        labels = label_of(fields, size) or several_of(fields, size)
        if labels is None:
            self._without += 1
            return
        self.path = labels[0]
        self._room -= sum(item.tensor.numel() * item.tensor.element_size() for item in fields)
        if self._room > 0:
            self.batches.put(batch)
            self.samples += size


def label_learning(
    context: DataContext, kept: dict[Stage, KeptBatches], held_out: SampleStream | None = None
) -> Evidence | None:
    """What the net knows of the labels of the kept batches: of validation, or of training if those are too few.

    Args:
        context: The run.
        kept: Whole batches of both stages.
        held_out: The validation samples, where their own neighbours may tell what training's do not.
    """
    if str(getattr(context.trainer.state.status, "value", "")) == "interrupted":
        reason = Hindrance("training did not come to its end")
        return Unavailable(evidence="LabelLearning", reason=reason, at=context.moment())
    stage: Stage = "validate" if kept["validate"].samples >= ENOUGH_HELD_OUT else "train"
    if stage == "train" and (anew := _made_anew(context)) is not None:
        return Unavailable(evidence="LabelLearning", reason=anew, at=context.moment())
    steps = ["validation_step", "training_step"] if stage == "validate" else ["training_step"]
    try:
        found, by_loss = _asked(context, steps, kept[stage].batches.first(), kept["train"])
    except NotJudged as error:
        return Unavailable(evidence="LabelLearning", reason=error.reason, at=context.moment())
    if found is None:
        return None
    count, p_value, agreement, by_chance = found
    now = context.moment()
    told = label_alignment(held_out.samples()) if held_out is not None and stage == "validate" else None
    depend = told is not None and min(told.p_values.values(), default=1.0) <= ENOUGH
    return LabelLearning(
        at=now,
        epochs=context.trainer.current_epoch,
        steps=now.step,
        samples=count,
        held_out=stage == "validate",
        p_value=p_value,
        agreement=agreement,
        by_chance=by_chance,
        neighbours=told.agreement - told.by_chance if told is not None and depend else 0.0,
        by_loss=by_loss,
    )


def _made_anew(context: DataContext) -> Hindrance | None:
    """Why the batches that were kept may be other ones than those that the net has learned from."""
    if getattr(context.trainer, "reload_dataloaders_every_n_epochs", 0):
        return Hindrance("the loaders are made anew in later epochs, perhaps of other samples")
    if any(holds_net(source.dataset, context.pl_module) for source in context.sources("train")):
        return Hindrance("the dataset holds the net that is trained: what it gave at first may be the net's own play")
    return None


def _asked(context: DataContext, steps: Sequence[str], batches: Sequence[Any], train: KeptBatches) -> tuple[Any, bool]:
    """What the net knows by its outputs, else by the loss; by the step of training where a validation computes none.

    Raises:
        NotJudged: With the reason of the first step that was asked.
    """
    trainer, module = context.trainer, context.pl_module
    refused: list[NotJudged] = []
    for step in steps:
        try:
            return knowledge(scores_and_labels(trainer, module, batches, step)), False
        except NothingCompared as error:
            refused.append(error)
        except NotJudged as error:
            if not refused:
                raise
            refused.append(error)
    trained = train.batches.first(1)
    for step in steps if trained else ():
        try:
            return told_by_loss(trainer, module, batches, step, train.path, trained[0]), True
        except NotJudged as error:
            refused.append(error)
    raise refused[len(steps)] if len(refused) > len(steps) else refused[0]
