"""An epoch's metric still holds earlier epochs, because it is not reset.

What it sees: in the first epochs, when an epoch begins and ends: the updates in every torchmetrics object (those of
    an earlier epoch of the same stage are still there when its value is taken by ``compute()``, in a step or at the
    end, or by logging the object); and the lists (of dictionaries, too), the numbers and the tensors of counts that
    the hook at the epoch's end reads, that the step adds to and that were not emptied. That hook is run again in
    isolation without what earlier epochs left, where it reaches no file and no service: the logged value changes.
Why it hurts: the value of epoch 10 is mostly about epochs 1 to 9: it lags behind, it looks smooth, the best epoch
    comes out too late, and two runs of different length cannot be compared.
How to fix: call ``self.metric.reset()`` after ``compute()``, or log the object itself (``self.log("val_acc",
    self.metric)``), which Lightning computes and resets; empty lists and zero counters in
    ``on_validation_epoch_start``.
When to ignore: when a value over all epochs is meant; say so in its name (best, running, total, cumulative, average),
    or in that of the logged value (best, running, cumulative, so far). Silent on ``MaxMetric``, ``MinMetric``, running
    and summing metrics, and on what only the sanity check left.
Broken:
    from torchmetrics.classification import MulticlassAccuracy

    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 5))
            self.val_accuracy = MulticlassAccuracy(num_classes=5, average="micro")

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            logits = self.net(inputs)
            self.log("val_loss", F.cross_entropy(logits, labels))
            self.val_accuracy.update(logits, labels)

        def on_validation_epoch_end(self):
            self.log("val_accuracy", self.val_accuracy.compute())

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
            self.val_accuracy = MulticlassAccuracy(num_classes=5, average="micro")

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            logits = self.net(inputs)
            self.log("val_loss", F.cross_entropy(logits, labels))
            self.val_accuracy.update(logits, labels)

        def on_validation_epoch_end(self):
            self.log("val_accuracy", self.val_accuracy.compute())
            self.val_accuracy.reset()

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
    >>> carried = CarriedOver(source="val_accuracy", kind="metric", earlier_validate=6, held=12)
    >>> seen = MetricStates(stage="validate", metrics=1, carried=(carried,))
    >>> [claim.message for claim in metric_not_reset(Record([seen]))]
    ['self.val_accuracy holds 12 updates when its value is taken, 6 of them from earlier epochs: it is not reset.']

References:
    https://lightning.ai/docs/torchmetrics/stable/pages/lightning.html
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.metrics import CarriedOver, MetricStates
from lightning_debug.finding import ERROR, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule


@rule("LD801", severity=ERROR, needs=MetricStates)
def metric_not_reset(record: Record) -> Iterator[Claim]:
    """Claims one finding for each metric or attribute that outlasts its epoch."""
    for state in record.of(MetricStates):
        told: set[str] = set()
        for carried in state.carried:
            own = carried.earlier_train if state.stage == "train" else carried.earlier_validate
            other = carried.earlier_validate if state.stage == "train" else carried.earlier_train
            if carried.kind == "metric" and (not own or other):  # a shared object: LD802
                continue
            if carried.collection and carried.owner in told:  # reset as one
                continue
            told.add(carried.owner)
            message, fix = _metric(carried, own) if carried.kind == "metric" else _store(carried)
            yield Claim(
                message=message,
                subject=carried.owner,
                measured={
                    "stage": state.stage,
                    "earlier": own or carried.earlier,
                    "held": carried.held,
                    "key": carried.key,
                },
                fix=fix,
                at=state.at,
            )


def _metric(carried: CarriedOver, earlier: int) -> tuple[str, str]:
    name = carried.owner
    message = (
        f"{name} holds {carried.held:.0f} updates when its value is taken, {earlier} of them from earlier epochs: "
        "it is not reset."
    )
    return message, f"Call {name}.reset() after {name}.compute(), or log the object: self.log(..., {name})."


def _store(carried: CarriedOver) -> tuple[str, str]:
    name = f"self.{carried.source}"
    others = [f"self.{other}" for other in carried.also[:3]]
    if carried.kind == "list":
        what = f"{name} holds {carried.held:.0f} items, {carried.earlier:.0f} of them from earlier epochs"
        cleared = "; ".join(f"{one}.clear()" for one in (name, *others))
        fix = f"Empty it at the end of {carried.hook}: {cleared}."
    else:
        what = f"{name} is {carried.earlier:.4g} already when the epoch begins"
        zeroed = " = ".join((name, *others))
        fix = f"Set it to zero at the end of {carried.hook}: {zeroed} = 0."
    return f"{carried.key!r} is {carried.value:.4g}, and {carried.alone:.4g} for the epoch alone: {what}.", fix
