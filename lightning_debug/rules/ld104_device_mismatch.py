"""An operation gets tensors that are on two devices.

What it sees: the devices of the tensors that met, and which of them never moved: an attribute that is not
    registered, layers in a plain list, a tensor that the step makes on the CPU, a field of the batch.
Why it hurts: the run ends; on the CPU the same program works, so that it shows first on the GPU.
How to fix: register_buffer for tensors, nn.ModuleList for layers, device=x.device for what the step makes.
When to ignore: never: the step has raised.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 3))
            self.scale = torch.ones(12, device="meta")  # as if the model had moved away from it

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs * self.scale), labels)
            self.log("train_loss", loss)
            return loss

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
            self.net = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 3))
            self.register_buffer("scale", torch.ones(12))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs * self.scale), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            self.log("val_loss", F.cross_entropy(self.net(inputs * self.scale), labels))

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(640, 12)
    labels = inputs[:, :3].argmax(dim=1)
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.errors import ErrorOperand, ErrorRaised
    >>> from lightning_debug.record import Record
    >>> operands = ErrorOperand(name="x", shape=(32, 12), device="cuda:0"), ErrorOperand(
    ...     name="scale", kind="attribute", shape=(12,), device="cpu")
    >>> error = ErrorRaised(error="RuntimeError", message="Expected all tensors to be on the same device",
    ...                     phase="training_step",
    ...                     line="train.py:9", operation="mul", operands=operands, notes={"device": "cuda:0"})
    >>> for claim in device_mismatch(Record([error])):
    ...     print(claim.message)
    ...     print(claim.fix)
    mul at train.py:9 gets tensors on two devices: x on cuda:0, scale on cpu.
    Register it, so that it moves with the model: self.register_buffer("scale", ...) instead of self.scale = ...

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


@rule("LD104", severity=ERROR, needs=ErrorRaised)
def device_mismatch(record: Record) -> Iterator[Claim]:
    """Claims one finding for each exception that comes from this."""
    yield from claims(record, "LD104")
