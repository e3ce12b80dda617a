"""An index into an embedding is below 0, or not below its number of rows.

What it sees: the indices that reach an embedding (or a table that is indexed), beside its number of rows: tokens
    that the vocabulary lacks, negative padding, sequences longer than the positional table. On a GPU the first
    batch is checked in isolation before the embedding sees it.
Why it hurts: the run ends; on a GPU with "device-side assert triggered", often at another line, and without a
    value.
How to fix: make the table as long as the largest index + 1, map rare tokens to one index, cut sequences to the
    positions there are.
When to ignore: never: the embedding raises. padding_idx is an index like any other.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Embedding(10, 16), nn.Flatten(), nn.Linear(96, 3))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            pass

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randint(30, (640, 6))
    labels = inputs[:, 0] % 3
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Embedding(30, 16), nn.Flatten(), nn.Linear(96, 3))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            self.log("val_loss", F.cross_entropy(self.net(inputs), labels))

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randint(30, (640, 6))
    labels = inputs[:, 0] % 3
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.errors import ErrorOperand, ErrorRaised
    >>> from lightning_debug.record import Record
    >>> tokens = ErrorOperand(name="batch[0]", kind="batch", shape=(32, 6), dtype="int64", minimum=0, maximum=29)
    >>> table = ErrorOperand(name="embedding.weight", kind="parameter", argument="weight", shape=(10, 16))
    >>> error = ErrorRaised(error="IndexError", message="index out of range in self", phase="training_step",
    ...                     line="train.py:9",
    ...                     module="embedding", module_type="Embedding", operation="embedding",
    ...                     operands=(tokens, table))
    >>> for claim in index_out_of_vocabulary(Record([error])):
    ...     print(claim.message)
    ...     print(claim.fix)
    batch[0] (32, 6) int64 holds 29, and embedding has 10 rows (0..9).
    Make it nn.Embedding(30, ...) (num_embeddings = largest index + 1), or map rarer tokens to one index.

References:
    https://pytorch.org/docs/stable/torch.html
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.errors import ErrorRaised
from lightning_debug.finding import ERROR, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._errors import claims


@rule("LD107", severity=ERROR, needs=ErrorRaised)
def index_out_of_vocabulary(record: Record) -> Iterator[Claim]:
    """Claims one finding for each exception that comes from this."""
    yield from claims(record, "LD107")
