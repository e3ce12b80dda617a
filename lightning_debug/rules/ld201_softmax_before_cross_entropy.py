"""Softmax output reaches cross_entropy, which applies log-softmax itself.

What it sees: the scores given to ``cross_entropy``, or to a ``log_softmax`` whose output becomes the loss (a
    negative log-likelihood written out, ``Categorical(logits=...)``), are probabilities already: a softmax made
    them, or every sampled row along the class dimension is at least 0 and sums to 1 within ``tolerance`` (0.02 in
    half precision) whatever made it, a softmax written by hand
    included; or the softmax of a softmax whose logarithm becomes the loss.
Why it hurts: the second softmax squeezes probabilities into a narrow band: with C classes the loss cannot fall
    below ln(1 + (C-1)/e), and gradients shrink as the model becomes sure. It trains, slowly, and stops short.
How to fix: return the scores of the last linear layer and drop the softmax. Apply softmax where probabilities are
    shown or sampled from, not on the way to the loss.
When to ignore: when a second softmax is wanted as a bound on confidence (a temperature says that better). It is
    silent on softmax inside the net (attention, mixture weights, gates), on probabilities as *targets* (soft
    labels, distillation), on log-softmax before ``cross_entropy`` (it changes nothing), and on log-softmax with
    ``nll_loss`` or ``kl_div``.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 4), nn.Softmax(dim=1))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self.net(inputs)
            self.log("val_loss", F.cross_entropy(scores, labels))
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
            self.net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 4))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self.net(inputs)
            self.log("val_loss", F.cross_entropy(scores, labels))
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
    >>> scores = Operand(shape=(32, 10), dim=1, rows=32, count=320, minimum=0.02, maximum=0.31, from_model=True,
    ...                  sum_errors=(3.1, 1e-6), row_spread=0.2)
    >>> softmax = Operation(name="softmax", module="net.2", module_type="Softmax", line="train.py:12", dim=1, size=10,
    ...                     shape=(32, 10))
    >>> call = LossCall(function="cross_entropy", line="train.py:20", scores=scores, origin=(softmax,))
    >>> for claim in softmax_before_cross_entropy(Record([LossGraph(calls=(call,))])):
    ...     print(claim.subject, "|", claim.message)
    train.py:12 (net.2) | cross_entropy (train.py:20) is given probabilities: nn.Softmax (net.2) makes its scores, and
    each of the 32 rows sums to 1 (values from 0.02 to 0.31), so the loss cannot fall below 1.461.

References:
    https://pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html ("unnormalized logits")
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from lightning_debug.evidence.loss import LossCall, LossGraph, Operation
from lightning_debug.finding import ERROR, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._loss import (
    SOFTMAX,
    activation,
    before,
    describe_values,
    is_distribution_by_value,
    misplaced,
    nothing_seen,
    place,
    probabilities,
    softmax_layer,
    sums_to_one,
    training_calls,
)

LIKELIHOODS = ("nll_loss", "selection", "product", "kl_div")


@rule(
    "LD201",
    severity=ERROR,
    needs=LossGraph,
    explains=("LD212", "LD210", "LD309", "LD602", "LD605", "LD702", "LD704", "LD705", "LD712"),
)
def softmax_before_cross_entropy(record: Record, *, tolerance: float = 1e-3) -> Iterator[Claim | Skip]:
    """Claims one finding for each softmax that reaches a cross-entropy."""
    yield from nothing_seen(record)
    for graph, call in training_calls(record, "cross_entropy", "log_softmax"):
        made = activation(call.origin)
        made = made if made is not None and made.name in SOFTMAX and not made.merges else None
        if _is_given_probabilities(call, made, tolerance):
            cause = f"{softmax_layer(made)} makes its scores" if made else "its scores are normalised by hand"
            summed = sums_to_one(call.scores, call.scores.dim, tolerance)
            sums = f", and each of the {call.scores.rows} rows sums to 1" if summed else ""
            message = (
                f"{call.function} ({call.line}) is given probabilities: {cause}{sums} ({describe_values(call.scores)})"
            )
            yield _claim(graph, call, made, message, call.scores.shape[call.scores.dim or 0])
    for graph, call in training_calls(record, *LIKELIHOODS):
        outer, _ = probabilities(call.origin)
        inner = before(call.origin, outer) if outer is not None and outer.name in SOFTMAX else None
        if outer is None or inner is None or inner.name not in SOFTMAX or inner.merges or (inner.size or 0) < 2:
            continue
        if inner.size == outer.size and misplaced(call, tolerance) is None:
            message = (
                f"{softmax_layer(outer)} is applied to what {softmax_layer(inner)} has made, and its logarithm becomes "
                f"the loss ({call.function}, {call.line})"
            )
            yield _claim(graph, call, inner, message, inner.size or 2)


def _claim(graph: LossGraph, call: LossCall, made: Operation | None, message: str, classes: int) -> Claim:
    floor = math.log1p((classes - 1) / math.e)
    return Claim(
        message=f"{message}, so the loss cannot fall below {floor:.3f}.",
        subject=place(call, made),
        measured={
            "minimum": call.scores.minimum,
            "maximum": call.scores.maximum,
            "classes": classes,
            "rows": call.scores.rows,
            "lowest_possible_loss": floor,
            "loss": call.value,
        },
        fix=f"Drop {softmax_layer(made)} on the way to the loss, which applies its own to the scores of the last "
        "layer. Keep softmax for showing or sampling probabilities.",
        at=graph.at,
    )


def _is_given_probabilities(call: LossCall, made: Operation | None, tolerance: float) -> bool:
    scores = call.scores
    if scores.dim is None or scores.dim >= len(scores.shape) or scores.shape[scores.dim] < 2:
        return False
    if made is None:
        return is_distribution_by_value(scores, scores.dim, tolerance)
    if misplaced(call, tolerance) is not None or (made.size is not None and made.size < 2):
        return False
    return scores.minimum is None or scores.minimum >= 0
