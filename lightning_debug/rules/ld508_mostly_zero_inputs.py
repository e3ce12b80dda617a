"""Many inputs are nothing but zeros.

What it sees: samples of the only input field whose values are all exactly 0: at least `share` of those looked
    at, at least `few`, and ten times more than if values were 0 independently of each other. Or pictures that are
    one and the same, of one value a channel, which zeros are once they are normalised. The field must reach the
    model's weights. Of values that are 0 or 1, or counts: half of the samples, where predictions do not depend on the
    input.
Why it hurts: the network learns the labels of inputs that are not there; files that failed to load, empty crops
    and buffers that were never filled look like this.
How to fix: find where the dataset returns zeros (a caught exception, a missing file, a crop outside of the
    image), and leave such samples out.
When to ignore: when empty inputs are part of the task. Silent on bags of words, one-hot and other sparse
    inputs, on padding and black borders, on fields beside others (a missing modality), and where labels are
    given for each pixel or step.
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
    inputs[torch.rand(960) < 0.3] = 0.0  # files that could not be read

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
    >>> from lightning_debug.evidence.data import FieldValues
    >>> from lightning_debug.record import Record
    >>> values = FieldValues(stage="train", field="batch[0]", role="input", holds="image", samples=500, dead=45)
    >>> [claim.message for claim in mostly_zero_inputs(Record([values]))]
    ['45 of 500 samples looked at in batch[0] (9 %) are all zeros, where chance makes none.']
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.data import FieldValues, LabelCounts
from lightning_debug.finding import WARNING, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._data_layers import by_chance, in_use, number
from lightning_debug.rules._model import constant_outputs

_SPARSE = ("counts", "binary", "one-hot")
_SYMPTOMS = (
    *("LD306", "LD307", "LD308", "LD309"),
    *("LD505", "LD507", "LD510", "LD515", "LD517", "LD520"),
    *("LD605", "LD702", "LD705", "LD712"),
)


@rule("LD508", severity=WARNING, needs=FieldValues, explains=_SYMPTOMS)
def mostly_zero_inputs(record: Record, *, share: float = 0.01, few: int = 5) -> Iterator[Claim | Skip]:
    """Claims one finding for a stage whose inputs are empty too often."""
    for stage, name in (("train", ""), ("validate", "validation ")):
        fields = {item.field: item for item in record.of(FieldValues) if item.stage == stage and item.loader == 0}
        inputs = [item for item in fields.values() if item.role in ("input", "tokens")]
        if len(inputs) != 1 or inputs[0].role != "input" or not in_use(record, inputs[0].field):
            continue
        (values,) = inputs
        dense = values.holds == "image" and any(item.more for item in record.of(LabelCounts) if item.stage == stage)
        all_zero = values.dead == values.samples
        sparse = values.holds in _SPARSE and not all_zero
        lost = 2 * values.dead >= values.samples and bool(constant_outputs(record))
        if dense or (sparse and not lost):
            continue
        if max(few, share * values.samples) <= values.blank < values.samples:
            yield _blank(values, name)
            return
        expected = min(values.dead_expected, float(values.samples)) if not all_zero and not sparse else 0.0
        if values.dead < max(few, share * values.samples, 10 * expected):
            continue
        yield Claim(
            message=f"{values.dead} of {values.samples} {name}samples looked at in {values.field} "
            f"({number(100 * values.dead / values.samples)} %) are all zeros, "
            + (
                "and predictions do not depend on the input."
                if sparse
                else f"where chance makes {by_chance(expected)}."
            ),
            subject=values.field,
            measured={"dead": values.dead, "samples": values.samples, "expected": expected, "zeros": values.zeros},
            fix="Find where values become 0: a cast to whole numbers after a division, say."
            if sparse
            else "Find where the dataset returns zeros (a caught exception, a missing file, an empty crop), and leave "
            "such samples out.",
            at=values.at,
        )
        return


def _blank(values: FieldValues, name: str) -> Claim:
    return Claim(
        message=f"{values.blank} of {values.samples} {name}samples looked at in {values.field} "
        f"({number(100 * values.blank / values.samples)} %) are one and the same picture, of one value a channel: "
        "nothing is in it.",
        subject=values.field,
        measured={"blank": values.blank, "samples": values.samples},
        fix="Find where the dataset returns an empty picture (a caught exception, a missing file, an empty crop), and "
        "leave such samples out.",
        at=values.at,
    )
