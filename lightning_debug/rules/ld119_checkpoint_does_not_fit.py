"""A state dict is loaded into a module whose names or shapes are others.

What it sees: the exception of ``load_state_dict``, wherever a fit calls it (``setup``, ``configure_model``, a step, a
    resumed run), and from its frames the keys and shapes of both sides: whether all names differ by one beginning,
    whether a whole checkpoint was given for its ``"state_dict"``, whether it is the state dict of a part, or which
    weights have another shape.
Why it hurts: the run ends. The message of PyTorch lists every key of both sides, and not what they have in common.
How to fix: take the beginning off the names (a LightningModule's keys begin with the attribute that holds the net),
    load ``checkpoint["state_dict"]``, or build the module as it was when it was saved.
When to ignore: never: loading has raised. ``strict=False`` loads what fits, and with names that all differ that is
    nothing at all.
Broken:
    class Classifier(LightningModule):
        def __init__(self, pretrained):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 3))
            self.pretrained = pretrained

        def setup(self, stage):
            self.net.load_state_dict(self.pretrained)

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
    saved = Classifier(None).state_dict()
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(saved), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self, pretrained):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 3))
            self.pretrained = pretrained

        def setup(self, stage):
            self.net.load_state_dict({name.removeprefix("net."): value for name, value in self.pretrained.items()})

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
    saved = Classifier(None).state_dict()
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(saved), train, val)

Example:
    >>> from lightning_debug.evidence.errors import ErrorRaised
    >>> from lightning_debug.record import Record
    >>> error = ErrorRaised(error="RuntimeError", phase="loading", message="Error(s) in loading state_dict for Linear:",
    ...                     notes={"refused_by": "Linear", "surplus": "net.", "first_missing": "weight",
    ...                            "first_unexpected": "net.weight"})
    >>> for claim in checkpoint_does_not_fit(Record([error])):
    ...     print(claim.message)
    the names in the state dict begin with 'net.' (net.weight), and those of Linear do not (weight).

References:
    https://pytorch.org/docs/stable/generated/torch.nn.Module.html#torch.nn.Module.load_state_dict
    https://lightning.ai/docs/pytorch/stable/common/checkpointing_intermediate.html
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.errors import ErrorRaised
from lightning_debug.finding import ERROR, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._errors import claims


@rule("LD119", severity=ERROR, needs=ErrorRaised)
def checkpoint_does_not_fit(record: Record) -> Iterator[Claim]:
    """Claims one finding for each exception that comes from this."""
    yield from claims(record, "LD119")
