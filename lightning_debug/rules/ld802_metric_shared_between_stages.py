"""One metric object is updated in training and in validation.

What it sees: in the first epochs, the updates in every torchmetrics object when its value is taken, by the stage they
    came from: a value of validation holds updates from training, or the reverse.
Why it hurts: validation runs inside the training epoch: what training has gathered so far is counted as validation,
    and the reset after validation loses it for training. The validation metric is nearly the training metric: it
    hides overfitting, and chooses the wrong epoch.
How to fix: make one object for each stage: ``self.train_accuracy`` and ``self.val_accuracy`` (``metric.clone()``).
When to ignore: never, if it is reported. Silent where one object serves both stages only for the values of single
    batches (``self.log("val_acc", self.accuracy(logits, y))``), and where it is reset in between.
Broken:
    from torchmetrics.classification import MulticlassAccuracy

    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 5))
            self.accuracy = MulticlassAccuracy(num_classes=5, average="micro")

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            logits = self.net(inputs)
            loss = F.cross_entropy(logits, labels)
            self.log("train_loss", loss)
            self.log("train_accuracy", self.accuracy(logits, labels))
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            logits = self.net(inputs)
            self.log("val_loss", F.cross_entropy(logits, labels))
            self.accuracy(logits, labels)
            self.log("val_accuracy", self.accuracy)

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    labels = torch.randint(0, 5, (960,))
    inputs = torch.randn(5, 8)[labels] + 0.5 * torch.randn(960, 8)
    train = DataLoader(TensorDataset(inputs[:768], labels[:768]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[768:], labels[768:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)
Repaired:
    from torchmetrics.classification import MulticlassAccuracy

    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 5))
            self.train_accuracy = MulticlassAccuracy(num_classes=5, average="micro")
            self.val_accuracy = self.train_accuracy.clone()

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            logits = self.net(inputs)
            loss = F.cross_entropy(logits, labels)
            self.log("train_loss", loss)
            self.log("train_accuracy", self.train_accuracy(logits, labels))
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            logits = self.net(inputs)
            self.log("val_loss", F.cross_entropy(logits, labels))
            self.val_accuracy(logits, labels)
            self.log("val_accuracy", self.val_accuracy)

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    labels = torch.randint(0, 5, (960,))
    inputs = torch.randn(5, 8)[labels] + 0.5 * torch.randn(960, 8)
    train = DataLoader(TensorDataset(inputs[:768], labels[:768]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[768:], labels[768:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.metrics import CarriedOver, MetricStates
    >>> from lightning_debug.record import Record
    >>> carried = CarriedOver(source="accuracy", kind="metric", key="val_accuracy", earlier_train=24, held=30)
    >>> seen = MetricStates(stage="validate", metrics=1, carried=(carried,))
    >>> [claim.message for claim in metric_shared_between_stages(Record([seen]))]
    ["'val_accuracy' is the value of self.accuracy, whose 30 updates hold 24 from training: one object serves both..."]

References:
    https://lightning.ai/docs/torchmetrics/stable/pages/lightning.html
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.metrics import MetricStates
from lightning_debug.finding import ERROR, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule


@rule("LD802", severity=ERROR, needs=MetricStates, explains=("LD803",))
def metric_shared_between_stages(record: Record) -> Iterator[Claim]:
    """Claims one finding for each metric object whose value mixes training and validation."""
    for state in record.of(MetricStates):
        told: set[str] = set()
        for carried in state.carried:
            other = carried.earlier_validate if state.stage == "train" else carried.earlier_train
            if carried.kind != "metric" or not other:
                continue
            if carried.owner in told:  # a collection is one object
                continue
            told.add(carried.owner)
            name, from_where = carried.owner, "validation" if state.stage == "train" else "training"
            value = f"{carried.key!r} is the value of {name}" if carried.key else f"{name}.compute() is called"
            yield Claim(
                message=f"{value}, whose {carried.held:.0f} updates hold {other} from {from_where}: "
                "one object serves both stages.",
                subject=name,
                measured={"stage": state.stage, "other": other, "held": carried.held, "key": carried.key},
                fix=f"Make one object for each stage, such as self.train_metric and self.val_metric = {name}.clone().",
                at=state.at,
            )
