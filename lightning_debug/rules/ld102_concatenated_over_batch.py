"""An operation changes the size of the batch on the way to the loss, which refuses it.

What it sees: a loss that is refused because it has more or fewer predictions than targets, and the operation (cat,
    view, reshape, stack, an index) at which the batch dimension changed, found by running the step again under
    watch.
Why it hurts: the loss raises far from the line that is wrong: joining along dimension 0 makes samples of what
    should be features, and view(-1, n) with the wrong n cuts samples in pieces.
How to fix: join along dim=1; flatten with x.flatten(1) or x.view(x.size(0), -1), and fit the next layer to the
    size.
When to ignore: never: the step has raised. Models that fold time, crops or pairs into the batch and unfold them
    again, or whose targets are folded alike, raise nothing and are told nothing.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.Linear(12, 16), nn.Linear(12, 16)
            self.head = nn.Linear(16, 3)

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            features = torch.cat([self.left(inputs), self.right(inputs)])
            return F.cross_entropy(self.head(features.relu()), labels)

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            assert len(inputs) == len(labels)

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(640, 12)
    labels = inputs[:, :3].argmax(dim=1)
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.Linear(12, 16), nn.Linear(12, 16)
            self.head = nn.Linear(32, 3)

        def forward(self, inputs):
            return self.head(torch.cat([self.left(inputs), self.right(inputs)], dim=1).relu())

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            self.log("val_loss", F.cross_entropy(self(inputs), labels))

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(640, 12)
    labels = inputs[:, :3].argmax(dim=1)
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.errors import ErrorOperand, ErrorRaised, ShapeRow
    >>> from lightning_debug.record import Record
    >>> scores, labels = ErrorOperand(shape=(64, 3)), ErrorOperand(name="labels", shape=(32,), dtype="int64")
    >>> row = ShapeRow(operation="cat", line="train.py:9", inputs=((32, 16), (32, 16)), output=(64, 16))
    >>> error = ErrorRaised(error="ValueError",
    ...                     message="Expected input batch_size (64) to match target batch_size (32).",
    ...                     phase="training_step", line="train.py:10", operation="cross_entropy", rows=(row,),
    ...                     operands=(scores, labels), batch_size=32)
    >>> for claim in concatenated_over_batch(Record([error])):
    ...     print(claim.message)
    ...     print(claim.fix)
    cat at train.py:9 makes 64 rows of a batch of 32 ((32, 16) and (32, 16) -> (64, 16)), and the loss has 32 targets.
    At train.py:9, join features, not samples: torch.cat(..., dim=1).

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


@rule("LD102", severity=ERROR, needs=ErrorRaised)
def concatenated_over_batch(record: Record) -> Iterator[Claim]:
    """Claims one finding for each exception that comes from this."""
    yield from claims(record, "LD102")
