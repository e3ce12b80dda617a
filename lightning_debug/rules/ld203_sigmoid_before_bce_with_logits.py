"""Sigmoid output reaches a loss that applies sigmoid (or softmax) itself.

What it sees: a sigmoid, written by hand or not, made what ``binary_cross_entropy_with_logits``,
    ``multilabel_soft_margin_loss``, ``soft_margin_loss`` or ``logsigmoid`` takes as scores, with nothing but
    reshapes, dropout and epsilons between; so too a softmax. Also a sigmoid that made the scores of
    ``cross_entropy``, and a sigmoid of a sigmoid that reaches ``binary_cross_entropy``, written by hand or not.
Why it hurts: scores from 0 to 1 become probabilities from 0.5 to 0.73: no sample can be called negative, the loss
    of a negative stays above 0.69, and gradients are a quarter of what they should be or less.
How to fix: give the loss the scores of the last layer and drop the sigmoid; or keep it and use
    ``binary_cross_entropy`` (less stable). Apply sigmoid where probabilities are shown.
When to ignore: when scores are bounded on purpose. It is silent on gates, on sigmoids that are scaled or shifted
    afterwards, and on targets made by a sigmoid.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 1), nn.Sigmoid())

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.binary_cross_entropy_with_logits(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self.net(inputs)
            self.log("val_loss", F.binary_cross_entropy_with_logits(scores, labels))
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
    >>> scores = Operand(shape=(32, 1), rows=32, count=32, minimum=0.41, maximum=0.63, from_model=True)
    >>> sigmoid = Operation(name="sigmoid", module="net.3", module_type="Sigmoid", line="train.py:12", shape=(32, 1))
    >>> call = LossCall(function="binary_cross_entropy_with_logits", line="train.py:20", scores=scores,
    ...                 origin=(sigmoid,))
    >>> for claim in sigmoid_before_bce_with_logits(Record([LossGraph(calls=(call,))])):
    ...     print(claim.subject, "|", claim.message)
    train.py:12 (net.3) | binary_cross_entropy_with_logits (train.py:20) applies sigmoid to what nn.Sigmoid (net.3) has
    made (values from 0.41 to 0.63), so every probability lies between 0.500 and 0.731.

References:
    https://pytorch.org/docs/stable/generated/torch.nn.BCEWithLogitsLoss.html
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.loss import LossCall, LossGraph, Operation
from lightning_debug.finding import ERROR, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._loss import (
    SIGMOID,
    SOFTMAX,
    activation,
    before,
    describe_values,
    nothing_seen,
    place,
    softmax_layer,
    training_calls,
)

OF_PROBABILITIES = ("binary_cross_entropy", "product")
WITH_LOGITS = ("binary_cross_entropy_with_logits", "multilabel_soft_margin_loss", "soft_margin_loss", "logsigmoid")


@rule(
    "LD203",
    severity=ERROR,
    needs=LossGraph,
    explains=("LD209", "LD212", "LD210", "LD309", "LD602", "LD605", "LD702", "LD704", "LD705", "LD712"),
)
def sigmoid_before_bce_with_logits(record: Record) -> Iterator[Claim | Skip]:
    """Claims one finding for each sigmoid that reaches a loss with its own."""
    yield from nothing_seen(record)
    functions = (*WITH_LOGITS, *OF_PROBABILITIES, "cross_entropy", "log_softmax")
    for graph, call in training_calls(record, *functions):
        made = _culprit(call)
        if made is None:
            continue
        yield Claim(
            message=_message(call, made),
            subject=place(call, made),
            measured={"minimum": call.scores.minimum, "maximum": call.scores.maximum, "loss": call.value},
            fix=f"Drop {softmax_layer(made)} on the way to the loss: {call.function} is to be given {_wanted(call)}.",
            at=graph.at,
        )


def _message(call: LossCall, made: Operation) -> str:
    values = describe_values(call.scores)
    if call.function in OF_PROBABILITIES:
        return (
            f"A second sigmoid is applied to what {softmax_layer(made)} has made before it becomes the loss "
            f"({call.function}, {call.line}; {values})."
        )
    own, limit = "sigmoid", "every probability lies between 0.500 and 0.731"
    if call.function not in WITH_LOGITS:
        own, limit = "softmax", "no class can stand out from another by more than a factor of 2.718"
    return f"{call.function} ({call.line}) applies {own} to what {softmax_layer(made)} has made ({values}), so {limit}."


def _wanted(call: LossCall) -> str:
    return "one sigmoid's output" if call.function in OF_PROBABILITIES else "the scores of the last layer"


def _culprit(call: LossCall) -> Operation | None:
    made = activation(call.origin)
    if made is None or made.merges or made.layer:
        return None
    if call.function in OF_PROBABILITIES:
        if made.name == "log":
            made = before(call.origin, made)
        inner = before(call.origin, made) if made is not None and made.name in SIGMOID else None
        return inner if inner is not None and inner.name in SIGMOID | SOFTMAX and not inner.merges else None
    if made.name in SIGMOID:
        return made
    single = made.size is not None and made.size < 2
    return made if call.function in WITH_LOGITS and made.name in SOFTMAX and not single else None
