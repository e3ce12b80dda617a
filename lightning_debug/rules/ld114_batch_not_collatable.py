"""The loader cannot put its samples together.

What it sees: the exception of the collate function, also from a worker: samples of unequal sizes, None, objects
    that are no tensors.
Why it hurts: the run ends, in the middle of an epoch where the sizes are only sometimes equal.
How to fix: a collate_fn that pads (torch.nn.utils.rnn.pad_sequence), or samples of one size.
When to ignore: never: the loader has raised.
Broken:
    class Texts(Dataset):
        def __init__(self, count):
            self.texts = [torch.randint(1, 30, (3 + index % 4,)) for index in range(count)]

        def __len__(self):
            return len(self.texts)

        def __getitem__(self, index):
            text = self.texts[index]
            return text, text[0] % 3


    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.embedding, self.head = nn.Embedding(30, 16, padding_idx=0), nn.Linear(16, 3)

        def forward(self, texts):
            return self.head(self.embedding(texts)[:, 0])

        def training_step(self, batch, batch_idx):
            texts, labels = batch
            loss = F.cross_entropy(self(texts), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            texts, labels = batch
            self.log("val_loss", F.cross_entropy(self(texts), labels))

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    train = DataLoader(Texts(512), batch_size=32, shuffle=True)
    val = DataLoader(Texts(128), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)
Repaired:
    class Texts(Dataset):
        def __init__(self, count):
            self.texts = [torch.randint(1, 30, (3 + index % 4,)) for index in range(count)]

        def __len__(self):
            return len(self.texts)

        def __getitem__(self, index):
            text = self.texts[index]
            return text, text[0] % 3

    def pad(samples):
        texts, labels = zip(*samples)
        return nn.utils.rnn.pad_sequence(texts, batch_first=True), torch.stack(labels)


    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.embedding, self.head = nn.Embedding(30, 16, padding_idx=0), nn.Linear(16, 3)

        def forward(self, texts):
            return self.head(self.embedding(texts)[:, 0])

        def training_step(self, batch, batch_idx):
            texts, labels = batch
            loss = F.cross_entropy(self(texts), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            texts, labels = batch
            self.log("val_loss", F.cross_entropy(self(texts), labels))

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    train = DataLoader(Texts(512), batch_size=32, shuffle=True, collate_fn=pad)
    val = DataLoader(Texts(128), batch_size=32, collate_fn=pad)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.errors import ErrorRaised
    >>> from lightning_debug.record import Record
    >>> message = "stack expects each tensor to be equal size, but got [3] at entry 0 and [5] at entry 1"
    >>> error = ErrorRaised(error="RuntimeError", message=message, phase="data")
    >>> for claim in batch_not_collatable(Record([error])):
    ...     print(claim.message)
    ...     print(claim.fix)
    the loader cannot stack samples of sizes [3] and [5] (samples 0 and 1).
    Pad them in a collate_fn: DataLoader(..., collate_fn=pad), where pad puts the samples together with
    torch.nn.utils.rnn.pad_sequence(samples, batch_first=True) and returns their lengths.

References:
    https://pytorch.org/docs/stable/data.html#working-with-collate-fn
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.errors import ErrorRaised
from lightning_debug.finding import ERROR, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._errors import claims


@rule("LD114", severity=ERROR, needs=ErrorRaised)
def batch_not_collatable(record: Record) -> Iterator[Claim]:
    """Claims one finding for each exception that comes from this."""
    yield from claims(record, "LD114")
