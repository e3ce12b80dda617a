"""Batches hold fewer samples than the loader asked for.

What it sees: the rows of each batch of a whole epoch against the number of samples that PyTorch's own batch
    sampler gave to the collate function: nothing in the batch is that long, and at least `share` of an epoch is
    missing; or labels have fewer rows than the inputs they come with. Told as a note: `drop_last=True` leaves out
    more than `dropped` of an epoch, or the collate function drops samples that are ``None``.
Why it hurts: samples that are never delivered are never learned, and the epoch is shorter than it seems. A
    label that serves several samples broadcasts in the loss, or pairs inputs with the wrong label.
How to fix: return one row for each sample from `collate_fn`; where some must be left out, leave them out of the
    dataset.
When to ignore: when the collate function is meant to drop or merge samples. Silent where anything in the batch
    is as long as was asked for (ragged lists, graphs, packed sequences), where rows hold all values of several samples
    (mosaics), on tokens without a label for each row, custom batch samplers and streams.
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

    def collate(samples):
        inputs, labels = zip(*samples[:-4])  # meant to leave room for negatives
        return torch.stack(inputs), torch.stack(labels)

    train = DataLoader(TensorDataset(inputs[:768], labels[:768]), batch_size=32, shuffle=True, collate_fn=collate)
    val = DataLoader(TensorDataset(inputs[768:], labels[768:]), batch_size=32, collate_fn=collate)
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

    def collate(samples):
        inputs, labels = zip(*samples)
        return torch.stack(inputs), torch.stack(labels)

    train = DataLoader(TensorDataset(inputs[:768], labels[:768]), batch_size=32, shuffle=True, collate_fn=collate)
    val = DataLoader(TensorDataset(inputs[768:], labels[768:]), batch_size=32, collate_fn=collate)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.data import DeliveredSamples
    >>> from lightning_debug.record import Record
    >>> seen = DeliveredSamples(stage="train", batches=24, delivered=672, asked=768, short=24, rows=28, rows_asked=32,
    ...                         field="batch[0]", collate="collate")
    >>> [claim.message for claim in samples_lost(Record([seen]))]
    ['Training delivers 672 of 768 samples: 24 of 24 batches are short, the first has 28 rows for 32 samples.']
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.data import DeliveredSamples, FieldValues
from lightning_debug.finding import INFO, WARNING, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule


@rule("LD518", severity=WARNING, needs=DeliveredSamples, explains=("LD206",))
def samples_lost(record: Record, *, share: float = 0.02, dropped: float = 0.1) -> Iterator[Claim | Skip]:
    """Claims one finding for a stage that loses samples."""
    tokens = {item.field for item in record.of(FieldValues) if item.role == "tokens"}
    for seen in record.of(DeliveredSamples):
        name = "Training" if seen.stage == "train" else "Validation"
        collate = f"`{seen.collate}`" if seen.collate else "the collate function"
        if seen.mismatched:
            yield Claim(
                message=f"{seen.label} has {seen.label_rows} rows for the {seen.input_rows} samples of its batch, in "
                f"{seen.mismatched} of {seen.batches} batches.",
                subject=seen.label,
                measured={"rows": seen.label_rows, "samples": seen.input_rows, "batches": seen.mismatched},
                fix=f"Have {collate} return one label for each sample.",
                at=seen.at,
            )
            return
        if seen.asked is None:
            yield Skip("how many samples each batch was asked for is not known")
            continue
        if seen.left_out > dropped * (seen.asked + seen.left_out):
            yield _left_out(seen, name)
        packed = seen.field in tokens and not seen.labelled
        if seen.joined:
            yield Skip(f"each row of {seen.field} holds several samples")
            continue
        if not seen.short or packed or seen.delivered > (1 - share) * seen.asked:
            continue
        yield Claim(
            message=f"{name} delivers {seen.delivered} of {seen.asked} samples: {seen.short} of {seen.batches} batches "
            f"are short, the first has {seen.rows} rows for {seen.rows_asked} samples.",
            subject=seen.collate or seen.field,
            measured={"delivered": seen.delivered, "asked": seen.asked, "short": seen.short, "batches": seen.batches},
            fix=f"Leave samples that are None out when the dataset is made, where {collate} drops them."
            if seen.drops_none
            else f"Have {collate} return one row for each sample it is given.",
            at=seen.at,
            severity=INFO if seen.drops_none else None,
        )
        return


def _left_out(seen: DeliveredSamples, name: str) -> Claim:
    total = (seen.asked or 0) + seen.left_out
    return Claim(
        message=f"{name} leaves {seen.left_out} of {total} samples out of an epoch: they do not fill one of its "
        f"{seen.batches} batches, and drop_last=True.",
        subject=f"drop_last of the {name.lower()} loader",
        measured={"left_out": seen.left_out, "samples": total, "batches": seen.batches},
        fix="Set drop_last=False, or take a batch size that leaves less over.",
        at=seen.at,
        severity=INFO,
    )
