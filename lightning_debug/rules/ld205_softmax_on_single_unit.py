"""Softmax runs over a single unit, so its output is always 1.

What it sees: a softmax (or log-softmax) over a dimension of size 1 whose output, with no other layer between,
    reaches a loss; or ``cross_entropy`` with one class. At least two samples must be in the batch. Or attention
    inside the model: a softmax over the one unit of a linear layer, whose output then weighs a sum over positions.
Why it hurts: softmax over one value gives 1 whatever the value: the loss is constant, its gradient is zero, and
    nothing is learned.
How to fix: for two classes with one output use ``binary_cross_entropy_with_logits`` on the raw score (sigmoid for
    probabilities), or give the last layer one output per class. Attention takes its softmax over the positions that
    are added up: ``dim=1`` for scores of shape (batch, positions, 1).
When to ignore: when one of several heads has a single class. It is silent on attention over one key, on mixtures
    of one component, and where the same line is also used with more classes, as for the choice among answers of
    which some questions have one.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 1), nn.Softmax(dim=1))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.binary_cross_entropy(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self.net(inputs)
            self.log("val_loss", F.binary_cross_entropy(scores, labels))
            self.log("val_accuracy", ((scores > 0.5) == labels.bool()).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(640, 8)
    labels = (inputs[:, :1] + inputs[:, 1:2] > 0).float()
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 1))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.binary_cross_entropy_with_logits(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self.net(inputs)
            self.log("val_loss", F.binary_cross_entropy_with_logits(scores, labels))
            self.log("val_accuracy", ((scores > 0) == labels.bool()).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(640, 8)
    labels = (inputs[:, :1] + inputs[:, 1:2] > 0).float()
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.loss import LossCall, LossGraph, Operand, Operation
    >>> from lightning_debug.record import Record
    >>> scores = Operand(shape=(32, 1), dim=1, rows=32, count=32, minimum=1.0, maximum=1.0, from_model=True)
    >>> softmax = Operation(name="softmax", module="net.2", module_type="Softmax", line="train.py:12", dim=1, size=1,
    ...                     shape=(32, 1))
    >>> linear = Operation(name="linear", module="net.1", module_type="Linear", line="train.py:12", shape=(32, 1),
    ...                    layer=True)
    >>> call = LossCall(function="binary_cross_entropy", line="train.py:20", scores=scores, origin=(softmax, linear))
    >>> for claim in softmax_on_single_unit(Record([LossGraph(batch_size=32, calls=(call,))])):
    ...     print(claim.subject, "|", claim.message)
    train.py:12 (net.2) | nn.Softmax (net.2) runs over dimension 1 of size 1, so all 32 values that reach
    binary_cross_entropy (train.py:20) are 1 whatever the model computes.

References:
    https://pytorch.org/docs/stable/generated/torch.nn.Softmax.html
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.loss import LossCall, LossGraph, Operation
from lightning_debug.finding import ERROR, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._loss import (
    nothing_seen,
    place,
    probabilities,
    softmax_layer,
    training_calls,
)

COMPARED = ("log_softmax", "logsigmoid")


@rule(
    "LD205",
    severity=ERROR,
    needs=LossGraph,
    explains=(
        "LD201",
        "LD203",
        "LD204",
        "LD207",
        "LD208",
        "LD209",
        "LD212",
        "LD306",
        "LD309",
        "LD407",
        "LD408",
        "LD210",
        "LD602",
        "LD605",
        "LD702",
        "LD704",
        "LD705",
        "LD712",
    ),
)
def softmax_on_single_unit(record: Record) -> Iterator[Claim | Skip]:
    """Claims one finding for each softmax over one value that reaches a loss, or weighs positions."""
    yield from nothing_seen(record)
    yield from _attention(record)
    for graph, call in training_calls(record):
        if call.function in COMPARED or call.scores.count < 2:
            continue
        made, logs = probabilities(call.origin)
        if made is not None and made.size == 1:
            if _is_batch_of_one(graph, call, made.dim) or not _always_one(record, call, made):
                continue
            yield Claim(
                message=f"{softmax_layer(made)} runs over dimension {made.dim} of size 1, so all "
                f"{call.scores.count} values that reach {call.function} ({call.line}) are {0 if logs else 1} whatever "
                "the model computes.",
                subject=place(call, made),
                measured={"shape": made.shape, "dimension": made.dim, "loss": call.value},
                fix="Drop the softmax and use binary_cross_entropy_with_logits on the raw score, or give the last "
                "layer one output per class.",
                at=graph.at,
            )
        elif call.function == "cross_entropy" and _has_one_class(graph, call):
            yield Claim(
                message=f"cross_entropy ({call.line}) is given scores of shape {call.scores.shape}, one class, so the "
                f"softmax in it is 1 and the loss is {call.value or 0.0:.3g} whatever the model computes.",
                subject=place(call),
                measured={"shape": call.scores.shape, "loss": call.value},
                fix="Use binary_cross_entropy_with_logits on the raw score (with targets as floats), mse_loss for "
                "regression, or give the last layer one output per class.",
                at=graph.at,
            )


def _always_one(record: Record, call: LossCall, made: Operation) -> bool:
    """Whether the one unit is a layer's own, or met in several batches: not a choice among what this batch offers."""
    softmaxes = [
        (graph.at.step, other)
        for graph, seen in training_calls(record)
        for other in seen.origin
        if (other.name, other.line) == (made.name, made.line)
    ]
    if any(other.size not in (1, None) for _, other in softmaxes):
        return False
    layer = next((item for item in call.origin if item.layer), None)
    dim = made.dim or 0
    if layer is not None and (layer.shape[-1:] == (1,) or layer.shape[dim : dim + 1] == (1,)):
        return True
    return len({step for step, _ in softmaxes}) > 2


def _attention(record: Record) -> Iterator[Claim]:
    graphs = [graph for graph in record.of(LossGraph) if graph.step == "training_step" and graph.weights_of_one]
    for made in graphs[-1].weights_of_one if graphs else ():
        positions = max(made.shape[1:-1])
        yield Claim(
            message=f"{softmax_layer(made)} runs over dimension {made.dim} of size 1 of {made.shape}, so each of "
            f"{positions} positions weighs 1 in the sum, whatever the layer before computes, which is not trained.",
            subject=f"{made.line} ({made.module})" if made.line and made.module else made.line or made.module,
            measured={"shape": made.shape, "dimension": made.dim, "positions": positions},
            fix=f"Take the softmax over the positions: dim={made.shape.index(positions, 1)}.",
            at=graphs[-1].at,
        )


def _is_batch_of_one(graph: LossGraph, call: LossCall, dim: int | None) -> bool:
    return dim == 0 and len(call.scores.shape) > 1 and graph.batch_size in (1, None)


def _has_one_class(graph: LossGraph, call: LossCall) -> bool:
    scores, target = call.scores, call.target
    if scores.dim != 1 or scores.shape[1] != 1 or scores.shape[0] < 2:
        return False
    elsewhere = [other for other in graph.reaching if other.function == "cross_entropy" and other.line == call.line]
    wider = any(len(other.scores.shape) > 1 and other.scores.shape[1] > 1 for other in elsewhere)
    return target is not None and not wider
