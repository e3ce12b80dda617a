"""What CurveDiagnoser measures in isolation: a few batches again, neighbours, confidence, what the loss is."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_debug.callbacks._lightning import LightningModule, Trainer, is_compiled, moment
from lightning_debug.curves import neighbours
from lightning_debug.curves.kind import loss_kind
from lightning_debug.curves.names import plain
from lightning_debug.curves.noise import standard_error
from lightning_debug.evidence import Hindrance
from lightning_debug.evidence.answers import AnswerConfidence
from lightning_debug.evidence.curves import LossKind, ReferenceLoss, TrainingLossInEval
from lightning_debug.experiments.clock import working_time
from lightning_debug.experiments.hindrance import Hindering
from lightning_debug.experiments.isolation import Sandbox, Unrepeatable, isolated, offload_of
from lightning_debug.experiments.steps_by_hand import heard_again, is_by_hand
from lightning_debug.probes.answers import Answers, Single, answer_confidence
from lightning_debug.probes.batch_fields import batch_fields
from lightning_debug.probes.label_order import features
from lightning_debug.probes.loss_graph import loss_graph
from lightning_debug.probes.loss_trace import LossTrace
from lightning_debug.probes.plain_shape import plain_shape
from lightning_debug.probes.trace import compiled_functions

MOST_SAMPLES = 768
MOST_OUTPUTS = 16
FEWEST_SAMPLES = 48
FEWEST_BATCHES = 3
"""Batches that are measured however slow they are."""

OTHER_SIZE = 1.5
"""Sequences that are so many times longer are another task: a filter has settled, a context is full."""

CLASSES = ("cross_entropy", "nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits")
AMOUNTS = ("mse_loss", "l1_loss")


def in_sandbox(trainer: Trainer, pl_module: LightningModule) -> Any:
    """The isolation, with copies of large models kept off the device.

    Raises:
        Unrepeatable: If the model is compiled, or holds what cannot be put back.
    """
    if is_compiled(pl_module) or compiled_functions(pl_module):
        raise Unrepeatable(["the model is compiled"])
    return isolated(trainer, pl_module, offload=offload_of(pl_module))


def kind_of_loss(trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> LossKind:
    """Runs one training step in isolation and looks at what its loss is."""
    try:
        with in_sandbox(trainer, pl_module) as sandbox:
            trace = LossTrace(pl_module, batch)
            try:
                with trace:
                    output = sandbox.training_step(batch, batch_idx)
                graph = loss_graph(trace, sandbox.loss(output), at=moment(trainer), live=False)
            finally:
                trace.release()
    except Unrepeatable as refused:
        return LossKind(reason=str(refused))
    except Exception:  # the run's own step raises it where the user can see it
        return LossKind(reason=Hindrance("the training step raises"))
    return loss_kind([graph])


class StepRaises(Hindering):
    """The user's step takes a batch once only."""


def remeasured(
    trainer: Trainer,
    pl_module: LightningModule,
    batches: list[Any],
    val_name: str,
    val_batch: Any = None,
    *,
    data: bool,
    seconds: float = math.inf,
    share: float = 1.0,
) -> TrainingLossInEval | None:
    """Measures batches of the training set again, with the weights as they are.

    Args:
        trainer: The Trainer, in fit.
        pl_module: Its module, in the modes of training.
        batches: Batches as training saw them.
        val_name: Name under which the validation loss is logged.
        val_batch: A batch of the validation set, if there is one.
        data: Whether to read a few items of the data set twice.
        seconds: After so many, no more than ``FEWEST_BATCHES`` are measured.
        share: What part of the user's loss a training step gives.

    Raises:
        StepRaises: If the training step raises when it is given a batch again.
    """
    found: dict[str, list[float]] = {"train": [], "eval": [], "val": []}
    with in_sandbox(trainer, pl_module) as sandbox:
        begun = working_time()
        for index, batch in enumerate(batches):
            if index >= FEWEST_BATCHES and 2 * (working_time() - begun) > seconds:  # the other half follows below
                batches = batches[:index]
                break
            _note(found["eval"], _stepped(sandbox, pl_module, batch, index, evaluating=True), share)
            if val_name:
                with sandbox.mode(False):
                    _note(found["val"], _validated(sandbox, batch, index, val_name))
        drawn = 0.0
        for index, batch in enumerate(batches[:FEWEST_BATCHES] if data and len(found["eval"]) == len(batches) else ()):
            again: list[float] = []
            _note(again, _stepped(sandbox, pl_module, batch, index, evaluating=True), share)
            once = found["eval"][index]
            drawn = max([drawn, *(abs(twice - once) / max(abs(once), abs(twice), 1e-12) for twice in again)])
        for index, batch in enumerate(batches):  # after the others: it moves running statistics
            _note(found["train"], _stepped(sandbox, pl_module, batch, index), share)
    if not found["train"] or len(found["train"]) != len(found["eval"]):
        return None
    complete = len(found["val"]) == len(batches)
    return TrainingLossInEval(
        at=moment(trainer),
        epoch=trainer.current_epoch,
        batches=len(batches),
        train_mode=float(np.mean(found["train"])),
        eval_mode=float(np.mean(found["eval"])),
        by_validation=float(np.mean(found["val"])) if complete else None,
        error=standard_error(found["eval"]),
        val_batches=_validation_batches(trainer, _size(batches[0]), _size(val_batch)),
        augmented=_reads_differ(trainer, pl_module) if data else None,
        drawn=drawn,
        other_sizes=_other_sizes(batches, val_batch),
    )


def _stepped(
    sandbox: Sandbox, pl_module: LightningModule, batch: Any, index: int, *, evaluating: bool = False
) -> Tensor | None:
    try:
        if is_by_hand(pl_module, "training_step"):
            sandbox.rewind()
            return heard_again(sandbox, pl_module, batch, index, evaluating=evaluating)
        with sandbox.mode(False) if evaluating else contextlib.nullcontext():
            return sandbox.loss(sandbox.training_step(batch, index))
    except Unrepeatable:
        raise
    except Exception as error:  # an environment that the first step has played to its end
        raise StepRaises(f"the training step raises {type(error).__name__} when it is given a batch again") from error


def _validated(sandbox: Any, batch: Any, index: int, val_name: str) -> Any:
    sandbox.logged.clear()
    try:
        sandbox.validation_step(batch, index)
    except Exception:  # a validation step that takes other batches
        return None
    return next((value for name, value in sandbox.logged.items() if plain(name) == plain(val_name)), None)


def _validation_batches(trainer: Trainer, train: int, val: int) -> int:
    """How many batches of the training set's size a validation is worth."""
    counts = [count for count in trainer.num_val_batches if math.isfinite(count)]
    return max(1, round(sum(counts) * val / train)) if train and val else int(sum(counts))


def _other_sizes(batches: list[Any], val_batch: Any) -> bool:
    """Whether a field of a validation batch is far longer, or shorter, than it is in any of these batches."""
    seen: dict[str, list[tuple[int, ...]]] = {}
    for batch in batches:
        for name, field in batch_fields(batch):
            seen.setdefault(name, []).append(plain_shape(field)[1:])
    return any(
        size > OTHER_SIZE * max(sizes) or size * OTHER_SIZE < min(sizes)
        for name, field in batch_fields(val_batch)
        if name in seen and all(len(shape) == field.dim() - 1 for shape in seen[name])
        for size, *sizes in zip(plain_shape(field)[1:], *seen[name], strict=True)
        if min(size, *sizes) >= 0  # ragged sizes are no length
    )


def _size(batch: Any) -> int:
    return max((len(field) for _, field in batch_fields(batch) if field.dim()), default=0)


def _note(values: list[float], value: Any, share: float = 1.0) -> None:
    if isinstance(value, Tensor) and value.numel() == 1:
        value = float(value.detach())
    if isinstance(value, (int, float)) and math.isfinite(value):
        values.append(float(value) / share)


def _reads_differ(trainer: Trainer, pl_module: LightningModule) -> bool | None:
    """Whether an item of the training set is another when it is read again; ``None`` where that cannot be asked."""
    dataset = getattr(trainer.train_dataloader, "dataset", None)
    if dataset is None or not hasattr(type(dataset), "__getitem__"):
        return None
    try:
        with isolated(trainer, pl_module, also=[dataset]):
            pairs = [(batch_fields(dataset[index]), batch_fields(dataset[index])) for index in (0, 1, 2)]
    except (Exception, SystemExit):  # a data set may refuse any question
        return None
    return any(
        not torch.equal(one, two) for left, right in pairs for (_, one), (_, two) in zip(left, right, strict=True)
    )


def confidence(
    trainer: Trainer, pl_module: LightningModule, batch: Any, before: Single | None
) -> tuple[AnswerConfidence, Single] | None:
    """Runs one validation step in isolation and measures how sure its answers are, and were ``before``."""
    with in_sandbox(trainer, pl_module) as sandbox, sandbox.mode(False):
        answers = Answers()
        with answers:
            sandbox.validation_step(batch, 0)
    if answers.scores is None or answers.labels is None:
        return None
    return answer_confidence(answers.scores, answers.labels, trainer.current_epoch, before)


def reference(batches: list[Any], kind: LossKind) -> tuple[ReferenceLoss | None, str]:
    """What the nearest neighbours make of the batches kept; ``None`` and the reason where that cannot be had."""
    if not (kind.supervised and kind.plain and kind.target and kind.function in CLASSES + AMOUNTS):
        return None, "no baseline can be computed for this loss"
    rows = [_sample(batch, kind.target) for batch in batches]
    kept = [row for row in rows if row is not None]
    if not kept:
        return None, "the batch holds no table of numbers with one target each"
    names = kept[0][0]
    like = [item.shape[1:] for item in kept[0][1:]]
    kept = [row for row in kept if row[0] == names and [item.shape[1:] for item in row[1:]] == like]
    inputs = torch.cat([row[1] for row in kept])[:MOST_SAMPLES].cpu().double().numpy()
    targets = torch.cat([row[2] for row in kept])[:MOST_SAMPLES].cpu()
    if len(inputs) < FEWEST_SAMPLES or not np.isfinite(inputs).all():
        return None, f"fewer than {FEWEST_SAMPLES} training samples were kept"
    classes = kind.function in CLASSES
    values = targets.double().numpy().reshape(len(targets), -1)
    if values.shape[1] > (1 if classes else MOST_OUTPUTS) or not np.isfinite(values).all():
        return None, "a sample has many targets"
    if classes and (np.abs(values - values.round()).max() > 0 or len(np.unique(values)) < 2):
        return None, "the targets are no classes"
    if classes:
        baseline, near, error = neighbours.classification(inputs, values[:, 0].astype(np.int64))
    else:
        baseline, near, error = neighbours.regression(inputs, values, absolute=kind.function == "l1_loss")
    found = ReferenceLoss(
        function=kind.function,
        samples=len(inputs),
        baseline=baseline,
        neighbours=near,
        error=error,
        inputs=names[0],
        target=names[1],
    )
    return found, ""


def _sample(batch: Any, target: str) -> tuple[tuple[str, str], Tensor, Tensor] | None:
    """Names, inputs and targets of a batch; ``None`` where there is no such pair."""
    fields = dict(batch_fields(batch))
    wanted = fields.pop(target, None)
    if wanted is None or not wanted.dim():
        return None
    tables = {
        name: field
        for name, field in fields.items()
        if not field.is_nested and field.is_floating_point() and field.dim() > 1 and len(field) == len(wanted)
        if field.numel()
    }
    if not tables:
        return None
    name = max(tables, key=lambda item: tables[item].numel())
    return (name, target), features(tables[name]), wanted.detach().cpu()
