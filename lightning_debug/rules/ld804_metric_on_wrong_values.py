"""A metric is computed from the wrong values: a threshold for probabilities on logits, the wrong axis, or pairs.

What it sees: a few validation batches, run again in isolation: the scores and labels that the loss receives, the
    share of right answers that they give, and the accuracy that the step logs, or ``on_validation_epoch_end`` where
    it reaches no file and no service. Another number is reported only if one mistake gives exactly that number in
    every batch, in so many answers that no other accuracy would by chance, and no right way of counting does: logits
    compared with 0.5 or rounded, probabilities compared with 0, ``argmax`` over the wrong dimension or over a single
    output, (N, 1) compared with (N,), the other class's probability, positions counted that the loss ignores, hits
    that are not divided by rows, or by all rows of the dataset. Likewise the area under a ROC curve (``auc``,
    ``auroc``) of two classes: that of decisions (0 or 1) in place of scores; and F1, Dice, IoU, precision and recall
    of two classes or several labels: those of logits compared with 0.5. And metrics of torchmetrics, of any
    kind, that are given their arguments the other way round: what comes first is what the loss compares the model's
    output with, the model made what comes second, and the right order gives another number.
Why it hurts: the model is chosen, stopped and reported by a number that is not its accuracy; with a threshold of 0.5
    on logits it is too low for a reason that no training can cure.
How to fix: take ``torch.sigmoid(logits) > 0.5`` (or ``logits > 0``), ``argmax`` over the class dimension, and give
    both sides of a comparison the same shape. torchmetrics takes predictions first: ``metric(preds, target)``.
When to ignore: never, if it is reported. Silent on balanced, top-k and macro accuracy, on per cent, on masked or
    weighted accuracy, and where the step logs no accuracy by batch or has several losses; on exchanged arguments where
    their order changes nothing, and where both are predictions.
Broken:
    class Detector(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.binary_cross_entropy_with_logits(self.net(inputs).squeeze(1), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            logits = self.net(inputs).squeeze(1)
            self.log("val_loss", F.binary_cross_entropy_with_logits(logits, labels))
            self.log("val_accuracy", ((logits > 0.5) == labels.bool()).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    inputs = torch.randn(960, 8)
    labels = (inputs[:, :3].sum(dim=1) + 0.5 * torch.randn(960) > 0).float()
    train = DataLoader(TensorDataset(inputs[:768], labels[:768]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[768:], labels[768:]), batch_size=64)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Detector(), train, val)
Repaired:
    class Detector(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.binary_cross_entropy_with_logits(self.net(inputs).squeeze(1), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            logits = self.net(inputs).squeeze(1)
            self.log("val_loss", F.binary_cross_entropy_with_logits(logits, labels))
            self.log("val_accuracy", ((torch.sigmoid(logits) > 0.5) == labels.bool()).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    inputs = torch.randn(960, 8)
    labels = (inputs[:, :3].sum(dim=1) + 0.5 * torch.randn(960) > 0).float()
    train = DataLoader(TensorDataset(inputs[:768], labels[:768]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[768:], labels[768:]), batch_size=64)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Detector(), train, val)

Example:
    >>> from lightning_debug.evidence.metrics import AccuracyComparison
    >>> from lightning_debug.record import Record
    >>> seen = AccuracyComparison(key="val_accuracy", logged=(0.7, 0.72), computed=(0.8, 0.84),
    ...                           mistake="threshold 0.5 on logits", line="train.py:20", samples=(64, 64))
    >>> [claim.message for claim in metric_on_wrong_values(Record([seen]))]
    ["'val_accuracy' is 0.7 where 0.8 of the answers are right: logits are compared with 0.5, as if they were..."]

References:
    https://pytorch.org/docs/stable/generated/torch.nn.BCEWithLogitsLoss.html
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.metrics import AccuracyComparison
from lightning_debug.finding import ERROR, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule

_CAUSES = {
    **dict.fromkeys(
        ("threshold 0.5 on logits", "overlap at a half"),
        (
            "logits are compared with 0.5, as if they were probabilities",
            "Compare torch.sigmoid(logits) with 0.5, or the logits with 0.",
        ),
    ),
    "rounded logits": ("logits are rounded, as if they were probabilities", "Round torch.sigmoid(logits)."),
    "threshold 0 on probabilities": (
        "everything is taken for positive, as probabilities compared with 0 are",
        "Compare probabilities with 0.5, or logits with 0.",
    ),
    "argmax over one output": (
        "argmax over a single output is always 0",
        "Compare torch.sigmoid(logits) with 0.5 instead of taking argmax.",
    ),
    "broadcast": (
        "every prediction is compared with every label",
        "Give both sides of the comparison the same shape, as by .squeeze(1).",
    ),
    "inverted": (
        "wrong answers are counted as right ones, as by the probability of the other class",
        "Take the probability of class 1, or argmax over both; compare with == and not with !=.",
    ),
    "ignored counted": (
        "positions that the loss ignores are counted, too",
        "Leave out what ignore_index leaves out: keep = targets != ignore_index, on both sides of the comparison.",
    ),
    "decisions": (
        "it ranks decisions, 0 or 1, instead of the scores, and so is an accuracy at one threshold",
        "Give the area under the curve the scores: torch.sigmoid(logits), without > 0.5, round() or argmax.",
    ),
    "decisions at a half": (
        "it ranks decisions, 0 or 1, instead of the scores, and cuts logits at 0.5 as if they were probabilities",
        "Give the area under the curve the scores: torch.sigmoid(logits), without > 0.5, round() or argmax.",
    ),
    **dict.fromkeys(
        ("divided by all", "divided by all, per cent"),
        (
            "the hits of a batch are divided by all samples of the dataset, and averaged over batches",
            "Divide by the rows of the batch, len(labels), or add up hits and rows over the epoch.",
        ),
    ),
    "count": ("hits are counted, and not divided by rows", "Use .float().mean() for .sum()."),
}

_TOLD = {
    "decisions": "the scores themselves give {:.4g}",
    "overlap": "the threshold of the loss, 0, gives {:.4g}",
}


@rule("LD804", severity=ERROR, needs=AccuracyComparison, explains=("LD803",))
def metric_on_wrong_values(record: Record) -> Iterator[Claim]:
    """Claims one finding for each logged accuracy that a known mistake explains."""
    for seen in record.of(AccuracyComparison):
        if not seen.mistake:
            continue
        if seen.mistake == "arguments exchanged":
            yield _exchanged(seen)
            continue
        axis = (f"{seen.mistake} is not over the classes", "Take argmax over the class dimension, 1 as a rule.")
        cause, fix = _CAUSES.get(seen.mistake, axis)
        where = next(pair for pair in zip(seen.logged, seen.computed, strict=True) if abs(pair[0] - pair[1]) > 1e-4)
        told = _TOLD.get(seen.mistake.partition(" ")[0], "{:.4g} of the answers are right")
        yield Claim(
            message=f"{seen.key!r} is {where[0]:.4g} where {told.format(where[1])}: {cause}.",
            subject=seen.key,
            measured={"logged": list(seen.logged), "computed": list(seen.computed), "mistake": seen.mistake},
            fix=fix,
            at=seen.at,
        )


def _exchanged(seen: AccuracyComparison) -> Claim:
    """One claim for all metrics of a line."""
    several, values = ", " in seen.key, f"{seen.logged[0]:.4g} where the right order gives {seen.computed[0]:.4g}"
    return Claim(
        message=f"{seen.key} ({seen.line}) {'are' if several else 'is'} given the labels as predictions "
        f"and the predictions as labels: a batch gives {values}.",
        subject=seen.key,
        measured={"logged": list(seen.logged), "computed": list(seen.computed), "mistake": seen.mistake},
        fix=f"Exchange the two arguments at {seen.line}: the metrics of torchmetrics take predictions first, "
        "metric(preds, target).",
        at=seen.at,
    )
