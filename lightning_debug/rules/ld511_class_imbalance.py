"""A class is so rare that the model ignores it.

What it sees: the share of each class among the training labels, and predicted and true classes in the last
    planned validation, where at least `samples` samples of the class were looked at. The class makes up less
    than `share` of training, at most `recall` of its samples are recognised, and it is hardly ever predicted,
    while the classes that are not rare are recognised (`others` of their samples).
Why it hurts: accuracy hides it: a model that never says "rare" is right almost always, and the rare class is
    often the one that matters.
How to fix: weigh the loss (`F.cross_entropy(..., weight=...)`), draw rare classes more often
    (`WeightedRandomSampler`), gather more samples of it, and log recall by class.
When to ignore: when the rare class does not matter. Silent on imbalance that is learned, on weighted losses,
    and before the last epoch.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))

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

    labels = (torch.rand(2400) < 0.5).long()
    labels[torch.rand(2400) < 0.04] = 2  # few, and close to class 1
    inputs = torch.randn(3, 8)[labels.clamp(max=1)] * 1.5 + torch.randn(2400, 8)
    inputs[labels == 2, 0] += 0.7

    train = DataLoader(TensorDataset(inputs[:1600], labels[:1600]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[1600:], labels[1600:]), batch_size=32)
    trainer = Trainer(max_epochs=4)
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels, weight=torch.tensor([1.0, 1.0, 9.0]))
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            logits = self.net(inputs)
            self.log("val_loss", F.cross_entropy(logits, labels))
            self.log("val_accuracy", (logits.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    labels = (torch.rand(2400) < 0.5).long()
    labels[torch.rand(2400) < 0.04] = 2  # few, and close to class 1
    inputs = torch.randn(3, 8)[labels.clamp(max=1)] * 1.5 + torch.randn(2400, 8)
    inputs[labels == 2, 0] += 6.0

    train = DataLoader(TensorDataset(inputs[:1600], labels[:1600]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[1600:], labels[1600:]), batch_size=32)
    trainer = Trainer(max_epochs=4)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.data import LabelCounts
    >>> from lightning_debug.evidence.data_values import ClassFit
    >>> from lightning_debug.record import Record
    >>> labels = LabelCounts(stage="train", field="batch[1]", classes=(0, 1), counts=(970, 30), complete=True)
    >>> fit = ClassFit(stage="validate", units=2, true=(380, 12), predicted=(392, 0), hits=(380, 0))
    >>> [claim.message for claim in class_imbalance(Record([labels, fit]))]
    ['Class 1 makes up 3 % of the training labels, and 0 of 12 validation samples of it are recognised.']
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence import RunContext
from lightning_debug.evidence.data import LabelCounts
from lightning_debug.evidence.data_values import ClassFit
from lightning_debug.finding import WARNING, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule


@rule("LD511", severity=WARNING, needs=(LabelCounts, ClassFit))
def class_imbalance(
    record: Record,
    *,
    share: float = 0.1,
    recall: float = 0.05,
    others: float = 0.6,
    samples: int = 10,
    most: int = 100,
) -> Iterator[Claim | Skip]:
    """Claims one finding for each class; more than ``most`` classes are not judged."""
    counted = [item for item in record.of(LabelCounts) if item.counts]
    trains = [item for item in counted if item.stage == "train"]
    train = next(iter(trains), None)
    fits = [item for item in record.of(ClassFit) if item.stage == "validate" and item.plain and item.true]
    if train is None or len(train.classes) > most:
        return
    if not fits:
        yield Skip("no cross-entropy of validation was watched")
        return
    last = fits[-1].at.epoch
    context = record.last(RunContext)
    if context is not None and last + 1 < (context.max_epochs or 0):
        yield Skip("the last validation is still to come")
        return
    if any(item.weighted for item in record.of(ClassFit)):
        return
    fits = [item for item in fits if item.at.epoch == last and item.units == fits[-1].units]
    true, predicted, hits = ([sum(column) for column in zip(*rows, strict=True)] for rows in (
        [item.true for item in fits], [item.predicted for item in fits], [item.hits for item in fits],
    ))  # fmt: skip
    if len({item.field for item in trains}) > 1:
        same = {item.field for item in counted if item.stage == "validate" and _as_often(item, true)}
        train = next((item for item in trains if item.field in same), None)
        if train is None:
            yield Skip("several fields hold labels, and which of them the loss takes is not known")
            return
    total, labels = sum(train.counts), dict(zip(train.classes, train.counts, strict=True))
    known = [one for one in labels if one < len(true)]
    rare = [one for one in known if labels[one] < share * total and labels[one] < 0.5 * total / len(labels)]
    common = [one for one in known if one not in rare]
    if sum(hits[one] for one in common) < others * sum(true[one] for one in common):
        return
    for one in rare:
        if true[one] < samples or hits[one] > recall * true[one] or predicted[one] > 0.2 * true[one]:
            continue
        yield Claim(
            message=f"Class {one} makes up {100 * labels[one] / total:.2g} % of the training labels, and {hits[one]} "
            f"of {true[one]} validation samples of it are recognised.",
            subject=f"{train.field} class {one}",
            measured={"share": labels[one] / total, "recognised": hits[one], "samples": true[one]},
            fix="Weigh the loss by class, or draw the rare class more often with WeightedRandomSampler.",
            at=fits[-1].at,
        )


def _as_often(counted: LabelCounts, true: list[int]) -> bool:
    """Whether the loss was given each class as often as this field holds it."""
    return {one: count for one, count in enumerate(true) if count} == dict(
        zip(counted.classes, counted.counts, strict=True)
    )
