"""A ReLU feeds the loss and cuts off what the loss needs to see.

What it sees: a ReLU (or a clamp at 0), with nothing but reshapes and dropout after it, made the scores of
    ``cross_entropy``, ``binary_cross_entropy_with_logits``, of a log-softmax that becomes the loss or of a sigmoid
    before ``binary_cross_entropy``, and at least ``zeros`` of the scores are exactly 0; or it made the output of a
    regression loss. In regression, and behind a sigmoid, at least ``negative`` of the targets must be below what is
    left (0, or 0.5).
Why it hurts: scores cannot be negative, so a class can be favoured and never ruled out, and a sample whose scores
    are all 0 sends no gradient back and is never learned. In regression every negative target costs its full
    distance from 0.
How to fix: end the network with its last linear layer, without an activation. For targets that cannot be negative
    use softplus or ``poisson_nll_loss``.
When to ignore: when the targets are never negative. It is silent on ReLU inside the net, before pooling, on
    non-negative targets, on Poisson losses, and on negative targets that may mark missing values.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 4), nn.ReLU())

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
    >>> scores = Operand(shape=(32, 10), dim=1, rows=32, count=320, minimum=0.0, maximum=0.8, share_zero=0.47)
    >>> relu = Operation(name="relu", module="net.3", module_type="ReLU", line="train.py:12", shape=(32, 10),
    ...                  lowest=0.0)
    >>> call = LossCall(function="cross_entropy", line="train.py:20", scores=scores, origin=(relu,))
    >>> for claim in relu_before_loss(Record([LossGraph(calls=(call,))])):
    ...     print(claim.subject, "|", claim.message)
    train.py:12 (net.3) | nn.ReLU (net.3) makes the scores of cross_entropy (train.py:20): 47 % of them are cut off at 0
    (values from 0 to 0.8), and none can be negative.

References:
    https://pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html ("unnormalized logits")
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.loss import LossCall, LossGraph, Operation
from lightning_debug.finding import ERROR, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._loss import (
    DROPOUT,
    RECTIFIERS,
    REGRESSION,
    SIGMOID,
    SOFTMAX,
    describe_values,
    may_be_masked,
    nothing_seen,
    place,
    share_below,
    softmax_layer,
    training_calls,
)

SCORED = (
    "cross_entropy",
    "log_softmax",
    "binary_cross_entropy_with_logits",
    "logsigmoid",
    "multilabel_soft_margin_loss",
)


@rule(
    "LD207",
    severity=ERROR,
    needs=LossGraph,
    explains=("LD307", "LD309", "LD408", "LD210", "LD602", "LD605", "LD702", "LD704", "LD705", "LD712"),
)
def relu_before_loss(record: Record, *, zeros: float = 0.01, negative: float = 0.02) -> Iterator[Claim | Skip]:
    """Claims one finding for each rectifier that feeds a loss it does not suit."""
    yield from nothing_seen(record)
    for graph, call in training_calls(record, *SCORED, "binary_cross_entropy", *REGRESSION):
        scores, target = call.scores, call.target
        halved = _rectified_sigmoid(call, zeros, negative)
        if halved is not None:
            yield _halved(graph, call, halved)
            continue
        made = _rectifier(call)
        if made is None or scores.minimum != 0.0 or scores.share_zero is None:
            continue
        if call.function == "binary_cross_entropy":
            continue
        if call.function in SCORED:
            if scores.share_zero < zeros:
                continue
            consequence = (
                f"{scores.share_zero * 100:.0f} % of them are cut off at 0 ({describe_values(scores)}), and none can "
                "be negative"
            )
            name = "scores"
        else:
            below = 0.0 if target is None else share_below(target, -0.02 * (target.deviation or 0.0))
            if target is None or below < negative or may_be_masked(call, 0.0):
                continue
            consequence = f"it gives {describe_values(scores)}, and targets reach down to {target.minimum:.3g}"
            name = "predictions"
        yield Claim(
            message=f"{softmax_layer(made)} makes the {name} of {call.function} ({call.line}): {consequence}.",
            subject=place(call, made),
            measured={
                "minimum": scores.minimum,
                "maximum": scores.maximum,
                "share_zero": scores.share_zero,
                "target_minimum": None if target is None else target.minimum,
            },
            fix=f"Remove {softmax_layer(made)}: let the network end with its last linear layer.",
            at=graph.at,
        )


def _rectified_sigmoid(call: LossCall, zeros: float, negative: float) -> Operation | None:
    """The rectifier right before the sigmoid that makes probabilities: none of them can be below a half."""
    made = [item for item in call.origin if item.name not in DROPOUT][:2]
    if len(made) < 2 or made[0].name not in SIGMOID or made[1].name not in RECTIFIERS or call.target is None:
        return None
    plain = made[1].lowest == 0.0 and not any(item.merges or item.layer for item in made)
    cut = call.scores.minimum == 0.5 and (call.scores.share_at_minimum or 0.0) >= zeros
    return made[1] if plain and cut and share_below(call.target, 0.5) >= negative else None


def _halved(graph: LossGraph, call: LossCall, made: Operation) -> Claim:
    share = call.scores.share_at_minimum or 0.0
    return Claim(
        message=f"{softmax_layer(made)} makes the scores of the sigmoid before {call.function} ({call.line}): "
        f"{share * 100:.0f} % of the probabilities are 0.5, and none can be lower.",
        subject=place(call, made),
        measured={"minimum": call.scores.minimum, "maximum": call.scores.maximum, "share_at_minimum": share},
        fix=f"Remove {softmax_layer(made)}: let the sigmoid take what the last linear layer gives.",
        at=graph.at,
    )


def _rectifier(call: LossCall) -> Operation | None:
    for place_, operation in enumerate(call.origin):
        if operation.name in DROPOUT:
            continue
        if operation.name not in RECTIFIERS or operation.lowest != 0.0 or operation.merges or operation.layer:
            return None
        after = call.origin[place_ + 1 : place_ + 2]  # a clamp of probabilities is a precaution
        return None if after and after[0].name in SIGMOID | SOFTMAX else operation
    return None
