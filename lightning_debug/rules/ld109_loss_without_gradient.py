"""The loss that backward starts from has no gradient.

What it sees: the exception of the backward pass, and the operation at which the graph ends on the way to the loss:
    detach, .item(), torch.tensor(...), argmax, no_grad, or parameters that are all frozen.
Why it hurts: the run ends.
How to fix: compute the loss from the model's output with differentiable operations only, outside no_grad.
When to ignore: never: backward has raised. A training_step that returns None skips the batch, which is legal and is
    told nothing.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 3))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            logits = self.net(inputs).detach()
            return F.cross_entropy(logits, labels)

        def validation_step(self, batch, batch_idx):
            pass

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
            self.net = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 3))

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

    inputs = torch.randn(640, 12)
    labels = inputs[:, :3].argmax(dim=1)
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.errors import ErrorRaised
    >>> from lightning_debug.record import Record
    >>> notes = {"lost_how": "operation", "lost_by": "detach", "lost_at": "train.py:9"}
    >>> error = ErrorRaised(error="RuntimeError", phase="backward", line="train.py:20", notes=notes,
    ...                     message="element 0 of tensors does not require grad and does not have a grad_fn")
    >>> for claim in loss_without_gradient(Record([error])):
    ...     print(claim.message)
    ...     print(claim.fix)
    the loss has no gradient: detach at train.py:9 cuts it from the graph.
    Remove .detach() at train.py:9.

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


@rule("LD109", severity=ERROR, needs=ErrorRaised)
def loss_without_gradient(record: Record) -> Iterator[Claim]:
    """Claims one finding for each exception that comes from this."""
    yield from claims(record, "LD109")
