"""A loss on probabilities gets values outside 0..1.

What it sees: the exception of binary_cross_entropy (nn.BCELoss), which takes probabilities, and compares them with
    probabilities: raw outputs, or targets such as the grey values of an image. Or that of gaussian_nll_loss, which
    takes a variance, and gets one below 0.
Why it hurts: the run ends; where raw outputs happen to lie in 0..1 it goes on for some steps first.
How to fix: F.binary_cross_entropy_with_logits (nn.BCEWithLogitsLoss) on the raw outputs, or a sigmoid before. Targets:
    divide by the largest value that is possible; classes of -1 and 1 are (y + 1) / 2; amounts need another loss. A
    variance: torch.exp of what the net gives, or softplus.
When to ignore: never: the loss has raised. A NaN in the outputs is another fault, and told by LD302.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 1))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            return F.binary_cross_entropy(5 * self.net(inputs).squeeze(1), labels)

        def validation_step(self, batch, batch_idx):
            pass

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(640, 12)
    labels = (inputs[:, 0] > 0).float()
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 1))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.binary_cross_entropy_with_logits(self.net(inputs).squeeze(1), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            self.log("val_loss", F.binary_cross_entropy_with_logits(self.net(inputs).squeeze(1), labels))

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(640, 12)
    labels = (inputs[:, 0] > 0).float()
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.errors import ErrorRaised
    >>> from lightning_debug.record import Record
    >>> error = ErrorRaised(error="RuntimeError", message="all elements of input should be between 0 and 1",
    ...                     line="train.py:9",
    ...                     phase="training_step", operation="binary_cross_entropy")
    >>> for claim in logits_for_probabilities(Record([error])):
    ...     print(claim.message)
    ...     print(claim.fix)
    binary_cross_entropy at train.py:9 gets values outside 0..1: raw outputs.
    Use F.binary_cross_entropy_with_logits (nn.BCEWithLogitsLoss) on the raw outputs, or apply torch.sigmoid before.

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


@rule("LD117", severity=ERROR, needs=ErrorRaised)
def logits_for_probabilities(record: Record) -> Iterator[Claim]:
    """Claims one finding for each exception that comes from this."""
    yield from claims(record, "LD117")
