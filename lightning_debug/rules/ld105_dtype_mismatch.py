"""An operation gets tensors whose dtypes do not go together.

What it sees: the dtypes of the tensors that met: float64 from NumPy beside float32 weights, whole numbers where
    floats are wanted, floats where indices or class labels are wanted, masks of the wrong kind; also where only the
    backward pass objects.
Why it hurts: the run ends, and the message often names C++ types and no tensor.
How to fix: cast the tensor that the finding names, best where the dataset makes it.
When to ignore: never: the step has raised. Autocast casts by itself, and is told nothing.
Broken:
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
            pass

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(640, 12, dtype=torch.float64)
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

    inputs = torch.randn(640, 12, dtype=torch.float64).float()
    labels = inputs[:, :3].argmax(dim=1)
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.errors import ErrorOperand, ErrorRaised
    >>> from lightning_debug.record import Record
    >>> given = ErrorOperand(name="batch[0]", kind="batch", shape=(32, 12), dtype="float64")
    >>> weight = ErrorOperand(name="net.weight", kind="parameter", argument="weight", shape=(3, 12))
    >>> error = ErrorRaised(error="RuntimeError",
    ...                     message="mat1 and mat2 must have the same dtype, but got Double and Float",
    ...                     phase="training_step", line="train.py:9", module="net", module_type="Linear",
    ...                     operation="linear",
    ...                     operands=(given, weight))
    >>> for claim in dtype_mismatch(Record([error])):
    ...     print(claim.message)
    ...     print(claim.fix)
    linear in net (Linear) gets batch[0] (32, 12) float64, and the weights are float32.
    Cast it: batch[0].float(), best where the dataset makes it (NumPy makes float64).

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


@rule("LD105", severity=ERROR, needs=ErrorRaised)
def dtype_mismatch(record: Record) -> Iterator[Claim]:
    """Claims one finding for each exception that comes from this."""
    yield from claims(record, "LD105")
