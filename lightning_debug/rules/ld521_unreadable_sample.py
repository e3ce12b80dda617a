"""A dataset raises when it is asked for a sample.

What it sees: the exception that ends the run, or a scan of the data, where the dataset was asked for a sample; and
    the index it was asked for, from the frames of the exception. Where a worker process raised, those are gone: the
    dataset is asked again in this process, for some seconds.
Why it hurts: the run ends in the middle of an epoch, after hours where the order is random.
How to fix: look at `dataset[k]`: a file that is missing, cut short or of another format. Repair it, or leave it out
    when the dataset is made. `lightning-debug audit` and `DataAuditor(scan="full")` read every sample before training.
When to ignore: never: the dataset has raised.
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

    class Recordings(Dataset):
        def __init__(self, count):
            self.labels = torch.randint(0, 4, (count,))
            inputs = CENTRES[self.labels] + 0.5 * torch.randn(count, 8)
            self.files = [row.tolist() for row in inputs]
            self.files[37] = []  # cut short when it was copied

        def __len__(self):
            return len(self.labels)

        def __getitem__(self, index):
            return torch.tensor(self.files[index]).reshape(8), self.labels[index]

    CENTRES = torch.randn(4, 8)
    train = DataLoader(Recordings(768), batch_size=32, shuffle=True)
    val = DataLoader(Recordings(192), batch_size=32)
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

    class Recordings(Dataset):
        def __init__(self, count):
            self.labels = torch.randint(0, 4, (count,))
            inputs = CENTRES[self.labels] + 0.5 * torch.randn(count, 8)
            self.files = [row.tolist() for row in inputs]
            self.files[37] = []  # cut short when it was copied
            self.whole = [index for index, file in enumerate(self.files) if len(file) == 8]

        def __len__(self):
            return len(self.whole)

        def __getitem__(self, index):
            index = self.whole[index]
            return torch.tensor(self.files[index]).reshape(8), self.labels[index]

    CENTRES = torch.randn(4, 8)
    train = DataLoader(Recordings(768), batch_size=32, shuffle=True)
    val = DataLoader(Recordings(192), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.data import UnreadableSample
    >>> from lightning_debug.record import Record
    >>> seen = UnreadableSample(stage="train", index=37, dataset="Images", length=60, error="ValueError",
    ...                         message="a corrupt file", line="data.py:31")
    >>> [claim.message for claim in unreadable_sample(Record([seen]))]
    ['Sample 37 of the training dataset raises ValueError: a corrupt file (data.py:31).']
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.data import UnreadableSample
from lightning_debug.finding import ERROR, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule


@rule("LD521", severity=ERROR, needs=UnreadableSample, explains=("LD101", "LD102", "LD105", "LD107"))
def unreadable_sample(record: Record) -> Iterator[Claim]:
    """Claims one finding for each sample that raised."""
    for seen in record.of(UnreadableSample):
        name = "training" if seen.stage == "train" else "validation"
        which = "A sample" if seen.index is None else f"Sample {seen.index}"
        after = f" after {seen.delivered} were delivered" if seen.index is None else ""
        said = f"{seen.error}: {seen.message}" if seen.message else seen.error
        where = f" ({seen.line})" if seen.line else ""
        place = "" if seen.index is None else f" {seen.dataset}[{seen.index}]"
        yield Claim(
            message=f"{which} of the {name} dataset raises {said}{where}{after}.",
            subject=f"{seen.dataset}[{'' if seen.index is None else seen.index}]",
            measured={"index": seen.index, "samples": seen.length, "delivered": seen.delivered},
            fix=_by_key(seen)
            or f"Look at{place or ' what it reads'}: repair it, or leave it out when the dataset is made.",
            at=seen.at,
        )


def _by_key(seen: UnreadableSample) -> str:
    """The edit where an index was looked up among names: a dict by id, a table's labels that a split has left out."""
    if seen.error != "KeyError" or seen.index is None or seen.message != str(seen.index):
        return ""
    last = "..." if seen.length is None else seen.length - 1
    return (
        f"The loader asks for positions 0 to {last}, and {seen.dataset} looks {seen.index} up as a key: keep its keys "
        "in a list, self.keys = list(self.rows), and read self.rows[self.keys[index]] (a pandas table by .iloc[index])."
    )
