"""The same batch gives another loss in validation_step than in training_step, by a mistake in one of them.

What it sees: one batch of the first validation, run in isolation through both steps (eval mode, same weights, same
    random numbers), and the loss calls of both compared. A difference of more than ``tolerance`` is reported only where
    it is explained: validation takes a softmax or a sigmoid of the very scores that training gives to its loss, or
    scores where log-probabilities belong; arranges the same numbers otherwise; compares the same scores with labels
    moved by one position; or logs the sum of the same values as its loss, as a mean (``val_mae``), or under the name
    that training gives its mean. Where both agree in eval mode: forward takes a softmax in that mode only, so that
    cross_entropy is given probabilities.
Why it hurts: the validation loss is not the loss that is minimised. It cannot be compared with the training loss, and
    whatever it chooses (the checkpoint, the epoch to stop at, the learning rate) is chosen by another quantity.
How to fix: compute the loss in one method that both steps call, and take softmax, sigmoid or argmax only for metrics.
When to ignore: never, if it is reported. Silent on everything that training alone may have: regularisers, auxiliary
    losses, label smoothing, class weights, mixup, dropout; on a validation loss that is another quantity on purpose
    (original units, another function); on sums that are not logged as a mean over batches.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 5))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            probabilities = self.net(inputs).softmax(dim=1)
            self.log("val_loss", F.cross_entropy(probabilities, labels))
            self.log("val_accuracy", (probabilities.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    labels = torch.randint(0, 5, (960,))
    inputs = torch.randn(5, 8)[labels] + 0.5 * torch.randn(960, 8)
    train = DataLoader(TensorDataset(inputs[:768], labels[:768]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[768:], labels[768:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 5))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            logits = self.net(inputs)
            self.log("val_loss", F.cross_entropy(logits, labels))
            self.log("val_accuracy", (logits.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    labels = torch.randint(0, 5, (960,))
    inputs = torch.randn(5, 8)[labels] + 0.5 * torch.randn(960, 8)
    train = DataLoader(TensorDataset(inputs[:768], labels[:768]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[768:], labels[768:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.loss_checks import ValidationLossComparison
    >>> from lightning_debug.record import Record
    >>> seen = ValidationLossComparison(relation="softmax", samples=8, function="cross_entropy", line="train.py:17",
    ...                                 value=1.38, training_line="train.py:12", training_value=0.61, key="val_loss")
    >>> [claim.message for claim in validation_loss_differs(Record([seen]))]
    ['The same 8 samples have the loss 1.38 in validation and 0.61 in training: validation takes a softmax first.']

References:
    https://pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.loss import LossCall, LossGraph
from lightning_debug.evidence.loss_checks import ValidationLossComparison
from lightning_debug.finding import ERROR, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._loss import describe_values, is_distribution_by_value

_CAUSES = {
    "softmax": "validation takes a softmax first",
    "sigmoid": "validation takes a sigmoid first",
    "unnormalised": "validation gives raw scores to a loss that wants log-probabilities",
    "rearranged": "validation arranges the same scores in another order against the same targets",
    "shifted": "one of the two steps compares the scores with labels moved by one position",
}
_FIXES = {
    "softmax": "Give {function} the logits, as training does; take the softmax for metrics only.",
    "sigmoid": "Give {function} the logits, as training does; take the sigmoid for metrics only.",
    "unnormalised": "Use F.cross_entropy on the scores, as training does.",
    "rearranged": "Permute or flatten the scores as training does (view and reshape do not transpose).",
    "shifted": "Shift scores and labels alike in both steps, best in one method that both call.",
}


@rule(
    "LD212",
    severity=ERROR,
    needs=ValidationLossComparison,
    explains=("LD706", "LD707", "LD710", "LD711"),
)
def validation_loss_differs(record: Record, *, tolerance: float = 1e-3) -> Iterator[Claim]:
    """Claims one finding if the losses differ in a way that is explained."""
    seen = record.last(ValidationLossComparison)
    if seen is None or seen.value is None or seen.training_value is None:
        return
    if abs(seen.value - seen.training_value) <= tolerance * max(abs(seen.value), abs(seen.training_value)):
        yield from _normalised_in_eval_mode(record, tolerance)
        return
    if seen.relation == "summed":
        cause = f"{seen.key!r} is {seen.factor:.0f} times the mean that training takes"
        fix = f"Log the mean: Lightning averages {seen.key!r} over batches."
    elif seen.relation == "divided":
        cause = f"{seen.key!r} is the mean that training takes, divided by {seen.factor:.0f} again"
        what = "samples" if seen.factor == seen.samples else "values"
        fix = f"Log the mean as it is, without a division by the number of {what}."
    elif seen.relation in _CAUSES:
        cause, fix = _CAUSES[seen.relation], _FIXES[seen.relation].format(function=seen.function or "the loss")
    else:
        return
    samples = f"The same {seen.samples} samples have" if seen.samples else "The same batch has"
    yield Claim(
        message=f"{samples} the loss {seen.value:.3g} in validation and {seen.training_value:.3g} in training: "
        f"{cause}.",
        subject=seen.line or "validation_step",
        measured={
            "relation": seen.relation,
            "validation": seen.value,
            "training": seen.training_value,
            "training_line": seen.training_line,
        },
        fix=fix,
        at=seen.at,
    )


def _normalised_in_eval_mode(record: Record, tolerance: float) -> Iterator[Claim]:
    """Claims a softmax that forward takes in eval mode only: both steps, in one mode, agree."""
    calls: dict[str, list[LossCall]] = {"training_step": [], "validation_step": []}
    at = None
    for graph in record.of(LossGraph):
        at = graph.at if graph.step == "validation_step" else at
        calls.get(graph.step, []).extend(call for call in graph.calls if call.function == "cross_entropy")
    every = [
        [is_distribution_by_value(call.scores, call.scores.dim, tolerance) for call in part] for part in calls.values()
    ]
    if not all(every) or any(every[0]) or not all(every[1]) or at is None:
        return
    call = calls["validation_step"][-1]
    yield Claim(
        message=f"{call.function} ({call.line}) is given scores in training and probabilities in validation "
        f"({describe_values(call.scores)}; each row sums to 1): forward takes a softmax in eval mode only.",
        subject=call.line or "validation_step",
        measured={"relation": "softmax in eval mode", "minimum": call.scores.minimum, "maximum": call.scores.maximum},
        fix=f"Return the scores in both modes, and take the softmax outside of {call.function}, for metrics only.",
        at=at,
    )
