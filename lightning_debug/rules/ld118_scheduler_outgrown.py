"""The optimizer was given parameter groups that its scheduler does not know.

What it sees: the exception of a scheduler's step, and a scheduler that was built for fewer parameter groups than its
    optimizer has: ``add_param_group`` was called since, as ``BackboneFinetuning`` does when it unfreezes.
Why it hurts: the run ends in the middle of training, at the first step of the scheduler after that.
How to fix: all groups in ``configure_optimizers`` from the start, or a scheduler that takes whatever groups there
    are (``StepLR``, ``ExponentialLR``, ``CosineAnnealingLR``).
When to ignore: never: the scheduler has raised.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Sequential(nn.Linear(12, 32), nn.ReLU())
            self.head = nn.Linear(32, 3)

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.head(self.backbone(inputs)), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            self.log("val_loss", F.cross_entropy(self.head(self.backbone(inputs)), labels))

        def configure_optimizers(self):
            trained = [item for item in self.parameters() if item.requires_grad]
            optimizer = torch.optim.Adam(trained, lr=1e-2)
            return [optimizer], [torch.optim.lr_scheduler.MultiplicativeLR(optimizer, lambda epoch: 0.95)]

    inputs = torch.randn(640, 12)
    labels = inputs[:, :3].argmax(dim=1)
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=6, callbacks=[pl.callbacks.BackboneFinetuning(unfreeze_backbone_at_epoch=2)])
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Sequential(nn.Linear(12, 32), nn.ReLU())
            self.head = nn.Linear(32, 3)

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.head(self.backbone(inputs)), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            self.log("val_loss", F.cross_entropy(self.head(self.backbone(inputs)), labels))

        def configure_optimizers(self):
            trained = [item for item in self.parameters() if item.requires_grad]
            optimizer = torch.optim.Adam(trained, lr=1e-2)
            return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.95)]

    inputs = torch.randn(640, 12)
    labels = inputs[:, :3].argmax(dim=1)
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=6, callbacks=[pl.callbacks.BackboneFinetuning(unfreeze_backbone_at_epoch=2)])
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.errors import ErrorRaised
    >>> from lightning_debug.record import Record
    >>> error = ErrorRaised(error="ValueError", message="zip() argument 2 is longer than argument 1", phase="optimizer",
    ...                     notes={"scheduler": "LambdaLR", "groups": "1, 2"})
    >>> for claim in scheduler_outgrown(Record([error])):
    ...     print(claim.message)
    LambdaLR was built for 1 parameter group, and its optimizer now has 2: add_param_group (BackboneFinetuning calls it
    when it unfreezes) tells no scheduler.

References:
    https://pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.MultiplicativeLR.html
    https://lightning.ai/docs/pytorch/stable/api/lightning.pytorch.callbacks.BackboneFinetuning.html
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.errors import ErrorRaised
from lightning_debug.finding import ERROR, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._errors import claims


@rule("LD118", severity=ERROR, needs=ErrorRaised, explains=("LD604",))
def scheduler_outgrown(record: Record) -> Iterator[Claim]:
    """Claims one finding for each exception that comes from this."""
    yield from claims(record, "LD118")
