"""All inputs are alike.

What it sees: the inputs and tokens of all batches looked at, `samples` samples or more: every field equals the
    first sample that was seen; or all samples of every batch equal each other; or most samples (`flat`), of
    `width` values or more, repeat one value. The labels differ, and the fields reach the model's weights.
Why it hurts: a constant says nothing about the label: the network can only learn how often each label occurs.
How to fix: look at `dataset[0]` and `dataset[1]`: an index that is not used, a cached sample, an expanded
    tensor or a normalisation by the sample's own range makes them alike.
When to ignore: when the task needs no inputs. Silent where one field of several is constant (a grid, a bias
    column, padding), on one sample repeated to overfit it (inputs and targets are alike, and the dataset keeps
    nothing else), and on dummy inputs that no weight ever meets.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))

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

    labels = torch.randint(0, 4, (960,))
    inputs = torch.randn(4, 8)[labels] + 0.5 * torch.randn(960, 8)
    inputs = inputs[:1].expand(960, 8)  # the loop read the same row each time

    train = DataLoader(TensorDataset(inputs[:768], labels[:768]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[768:], labels[768:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))

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

    labels = torch.randint(0, 4, (960,))
    inputs = torch.randn(4, 8)[labels] + 0.5 * torch.randn(960, 8)

    train = DataLoader(TensorDataset(inputs[:768], labels[:768]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[768:], labels[768:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.data import FieldValues, LabelCounts
    >>> from lightning_debug.record import Record
    >>> labels = LabelCounts(stage="train", classes=(0, 1), counts=(40, 60))
    >>> values = FieldValues(stage="train", field="batch[0]", role="input", samples=100, alike=100, highest=0.7)
    >>> [claim.message for claim in constant_inputs(Record([values, labels]))]
    ['All 100 samples looked at in batch[0] are equal (values from 0 to 0.7), while their labels are of 2 classes.']
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from lightning_debug.evidence.data import DeliveredSamples, FieldValues, LabelCounts
from lightning_debug.finding import WARNING, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._data_layers import in_use, number

_SYMPTOMS = (
    *("LD306", "LD307", "LD308", "LD309"),
    *("LD501", "LD505", "LD507", "LD510", "LD517", "LD520"),
    *("LD605", "LD702", "LD705", "LD712"),
)


@rule("LD509", severity=WARNING, needs=FieldValues, explains=_SYMPTOMS)
def constant_inputs(record: Record, *, samples: int = 16, flat: float = 0.5, width: int = 8) -> Iterator[Claim | Skip]:
    """Claims one finding for the training inputs."""
    last = {item.field: item for item in record.of(FieldValues) if item.stage == "train" and item.loader == 0}
    fields = [item for item in last.values() if item.role in ("input", "tokens")]
    if not fields or min(item.samples for item in fields) < samples:
        return
    if not any(in_use(record, item.field) for item in fields):
        yield Skip("no input was seen to meet weights")
        return
    counts = [item for item in record.of(LabelCounts) if item.stage == "train" and not item.more]
    classes = max((len(item.classes) for item in counts), default=0)
    delivered = next((item for item in record.of(DeliveredSamples) if item.stage == "train"), None)
    size = delivered.dataset if delivered is not None else None
    zeros = all(item.lowest == item.highest == 0 for item in fields)
    if classes == 1 or zeros or (size is not None and size < samples):
        return
    everything = len(last) > 1 and all(item.alike == item.samples for item in last.values())
    if everything and not classes and delivered is not None and not delivered.keeps:
        yield Skip("a dataset that keeps no samples gives one, inputs and targets, as often as it is asked")
        return
    first = fields[0]
    wide = math.prod(first.shape or (width,)) >= width
    span = f"(values from {number(first.lowest)} to {number(first.highest)})"
    if all(item.alike == item.samples for item in fields):
        what = f"All {first.samples} samples looked at in {first.field} are equal {span}"
    elif all(item.batches_alike == item.batches > 2 for item in fields):
        what = f"In all {first.batches} batches looked at, the samples of {first.field} equal each other {span}"
    elif len(fields) == 1 and first.role == "input" and first.flat >= flat * first.samples and wide:
        what = f"{first.flat} of {first.samples} samples looked at in {first.field} repeat one value {span}"
    else:
        return
    labels = f", while their labels are of {classes} classes" if classes else ""
    yield Claim(
        message=f"{what}{labels}.",
        subject=first.field,
        measured={"samples": first.samples, "alike": first.alike, "flat": first.flat, "classes": classes},
        fix="Compare dataset[0] with dataset[1]: use the index, cache nothing, and normalise with the training set's "
        "statistics rather than the sample's own.",
        at=first.at,
    )
