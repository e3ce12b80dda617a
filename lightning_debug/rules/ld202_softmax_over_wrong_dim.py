"""Softmax runs over the batch or over time instead of over the classes.

What it sees: the probabilities (or log-probabilities) that reach the loss do not sum to 1 over the dimension that
    the loss takes classes from, and do over another one, within ``tolerance`` (0.02 in half precision); or a
    reshape hides that, and the softmax that made them is known. The class dimension is 1 for ``cross_entropy`` and
    ``nll_loss``, the last for ``ctc_loss``, the one that labels index in ``gather`` and ``log_probabilities[rows,
    labels]``, and the one along which the targets are distributions in ``kl_div`` and in products with one-hot
    targets. Likewise for predictions whose ``argmax`` over classes is compared with labels, in training and in
    validation.
Why it hurts: the samples of a batch compete with each other: each prediction depends on who else is in the batch,
    and the model is not trained to tell the classes of one sample apart.
How to fix: give the dimension of the classes: ``dim=1`` for (N, C) and (N, C, H, W), ``dim=-1`` for (batch, time,
    classes). Before ``cross_entropy``, which applies its own, drop the softmax instead. A softmax without ``dim``
    takes dimension 0 of three-dimensional tensors, which is the batch. If the dimension is right, a ``view`` between
    softmax and loss has mixed the dimensions: transpose instead.
When to ignore: when samples are meant to compete, and the loss is meant to see it. It is silent on attention over
    any dimension, on selections along time, and on contrastive losses with a softmax over each direction of a
    similarity matrix.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 4), nn.LogSoftmax(dim=0))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.nll_loss(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self.net(inputs)
            self.log("val_loss", F.nll_loss(scores, labels))
            self.log("val_accuracy", (scores.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(640, 8)
    labels = inputs[:, :4].argmax(dim=1)
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 4), nn.LogSoftmax(dim=1))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.nll_loss(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self.net(inputs)
            self.log("val_loss", F.nll_loss(scores, labels))
            self.log("val_accuracy", (scores.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(640, 8)
    labels = inputs[:, :4].argmax(dim=1)
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.loss import LossCall, LossGraph, Operand, Operation
    >>> from lightning_debug.record import Record
    >>> scores = Operand(shape=(32, 10), dim=1, rows=32, count=320, from_model=True, row_sum_lowest=0.21,
    ...                  row_sum_highest=0.47, sum_errors=(1e-6, 0.79))
    >>> softmax = Operation(name="softmax", line="train.py:12", dim=0, size=32, shape=(32, 10))
    >>> call = LossCall(function="cross_entropy", line="train.py:20", scores=scores, origin=(softmax,))
    >>> for claim in softmax_over_wrong_dim(Record([LossGraph(calls=(call,))])):
    ...     print(claim.subject, "|", claim.message)
    train.py:12 | cross_entropy (train.py:20) takes classes from dimension 1 of its (32, 10) scores, and the softmax at
    train.py:12 normalises dimension 0: over dimension 1 they sum to 0.21 to 0.47, over dimension 0 to 1.
    >>> print(claim.fix)
    Drop the softmax at train.py:12 on the way to cross_entropy, which normalises over dimension 1 itself: with another
    dim alone it would be taken twice.

References:
    https://pytorch.org/docs/stable/generated/torch.nn.Softmax.html
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from lightning_debug.evidence.loss import LossCall, LossGraph
from lightning_debug.finding import ERROR, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._loss import (
    Misplaced,
    misplaced,
    nothing_seen,
    place,
    softmax_layer,
    training_calls,
)

FUNCTIONS = (
    *("cross_entropy", "nll_loss", "ctc_loss", "kl_div", "selection", "log_softmax", "product"),
    *("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy", "difference"),
)


@rule(
    "LD202",
    severity=ERROR,
    needs=LossGraph,
    explains=(
        "LD201",
        "LD203",
        "LD204",
        "LD205",
        "LD209",
        "LD212",
        "LD409",
        "LD410",
        "LD804",
        "LD210",
        "LD602",
        "LD605",
        "LD702",
        "LD704",
        "LD705",
        "LD712",
    ),
)
def softmax_over_wrong_dim(record: Record, *, tolerance: float = 1e-3) -> Iterator[Claim | Skip]:
    """Claims one finding for each softmax over another dimension than that of the classes."""
    yield from nothing_seen(record)
    judged = [*training_calls(record, *FUNCTIONS), *_metrics(record)]
    for graph, call in judged:
        found = misplaced(call, tolerance)
        if found is None or (call.function == "argmax" and not _is_metric_fault(call, found)):
            continue
        shape = f"({', '.join(map(str, call.scores.shape))})"
        name = softmax_layer(found.made, "softmax written by hand")
        over = found.made.dim if found.made is not None and found.made.dim is not None else found.other
        where = f"dimension {over}"
        if found.made is not None and found.made.shape not in ((), call.scores.shape):  # moved on the way to the loss
            where += f" of ({', '.join(map(str, found.made.shape))})"
        lowest, highest = _row_sums(call, found)
        yield Claim(
            message=f"{_consumer(call)} takes classes from dimension {found.classes} of its {shape} scores, and {name} "
            f"normalises {where}: {_sums(call, found)}.",
            subject=place(call, found.made),
            measured={
                "class_dimension": found.classes,
                "normalised_dimension": over,
                "shape": call.scores.shape,
                "row_sum_lowest": lowest,
                "row_sum_highest": highest,
            },
            fix=_fix(call, found, name),
            at=graph.at,
        )


def _metrics(record: Record) -> Iterator[tuple[LossGraph, LossCall]]:
    for graph in record.of(LossGraph):
        for call in graph.calls:
            if call.function == "argmax":
                yield graph, call


def _is_metric_fault(call: LossCall, found: Misplaced) -> bool:
    """Over the batch it always is; over time only where labels are taken from the last of three dimensions."""
    if found.made is None or found.other is None:
        return False
    return found.made.dim == 0 or (len(call.scores.shape) == 3 and found.classes == 2)


def _consumer(call: LossCall) -> str:
    names = {
        "selection": "the choice by label",
        "product": "the product with the targets",
        "argmax": "the metric's argmax",
    }
    return f"{names.get(call.function, call.function)} ({call.line})"


def _row_sums(call: LossCall, found: Misplaced) -> tuple[float | None, float | None]:
    """What the probabilities of a row come to, lowest and highest; of log-probabilities, what their exponentials do."""
    scores = call.scores
    if not found.logs:
        return scores.row_sum_lowest, scores.row_sum_highest
    logs = (scores.log_sum_lowest, scores.log_sum_highest)
    low, high = (None if value is None else math.exp(min(value, 700.0)) for value in logs)
    return low, high


def _sums(call: LossCall, found: Misplaced) -> str:
    scores, (low, high) = call.scores, _row_sums(call, found)
    what = "their exponentials" if found.logs else "they"
    first = f"over dimension {found.classes} {what} do not sum to 1"
    if found.classes == scores.dim and low is not None and high is not None:
        first = f"over dimension {found.classes} {what} sum to {low:.3g} to {high:.3g}"
    return first if found.other is None else f"{first}, over dimension {found.other} to 1"


def _fix(call: LossCall, found: Misplaced, name: str) -> str:
    if call.function in ("cross_entropy", "log_softmax") and not found.logs:  # over the classes it would be LD201
        return (
            f"Drop {name} on the way to {call.function}, which normalises over dimension {found.classes} itself: with "
            "another dim alone it would be taken twice."
        )
    return f"Normalise over the classes: dim={_spelled(call, found)} where the softmax is taken."


def _spelled(call: LossCall, found: Misplaced) -> str:
    """The dimension to give, where the shapes tell it."""
    if found.made is None or found.made.shape == call.scores.shape:
        return str(found.classes)
    size = call.scores.shape[found.classes]
    fitting = [dim for dim, length in enumerate(found.made.shape) if length == size and dim != found.made.dim]
    return str(fitting[0]) if len(fitting) == 1 else "<that of the classes>"
