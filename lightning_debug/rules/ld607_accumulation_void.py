"""Gradients are meant to be accumulated over batches, and are not.

What it sees: one optimizer that steps every few batches, while at least ``share`` of the batches in between have their
    gradient deleted before any step uses it (over at least ``min_lost`` such batches); or an
    ``accumulate_grad_batches`` larger than the number of batches in an epoch, so that every window is cut at the
    epoch's end.
Why it hurts: deleted gradients are computed for nothing: the step sees one small batch, and where the loss is divided
    by the window its gradient is too small by that factor as well. A window that is never full steps once an epoch,
    with a gradient divided by batches that never came.
How to fix: call ``zero_grad()`` only after ``step()``. Choose ``accumulate_grad_batches`` so that several windows fit
    into an epoch.
When to ignore: where the gradients in between are wanted for something else than the step. It is silent with several
    optimizers, whose losses leave gradients in each other's parameters.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False
            self.body = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
            self.head = nn.Linear(32, 2)

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            optimizer = self.optimizers()
            loss = F.cross_entropy(self.head(self.body(inputs)), labels)
            optimizer.zero_grad()
            self.manual_backward(loss / 4)
            if (batch_idx + 1) % 4 == 0:
                optimizer.step()

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self.head(self.body(inputs))
            self.log("val_loss", F.cross_entropy(scores, labels))
            self.log("val_accuracy", (scores.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    inputs = torch.randn(640, 8)
    labels = (inputs[:, 0] + inputs[:, 1] > 0).long()
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=16, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=4)
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False
            self.body = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
            self.head = nn.Linear(32, 2)

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            optimizer = self.optimizers()
            loss = F.cross_entropy(self.head(self.body(inputs)), labels)
            self.manual_backward(loss / 4)
            if (batch_idx + 1) % 4 == 0:
                optimizer.step()
                optimizer.zero_grad()

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self.head(self.body(inputs))
            self.log("val_loss", F.cross_entropy(scores, labels))
            self.log("val_accuracy", (scores.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    inputs = torch.randn(640, 8)
    labels = (inputs[:, 0] + inputs[:, 1] > 0).long()
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=16, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=4)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.optimization import GradientCarryover
    >>> from lightning_debug.record import Record
    >>> seen = GradientCarryover(optimizer="Adam", batches=12, steps=3, lost=9, automatic=False)
    >>> [claim.measured["lost"] for claim in accumulation_void(Record([seen]))]
    [9]

References:
    https://lightning.ai/docs/pytorch/stable/model/manual_optimization.html (gradient accumulation)
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.optimization import GradientCarryover
from lightning_debug.evidence.schedules import AccumulationWindow
from lightning_debug.finding import ERROR, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule


@rule("LD607", severity=ERROR, needs=GradientCarryover, explains=("LD408", "LD602", "LD702", "LD704", "LD705", "LD712"))
def accumulation_void(record: Record, *, share: float = 0.8, min_lost: int = 3) -> Iterator[Claim | Skip]:
    """Claims gradients that are deleted unused, and windows that are never full."""
    for evidence in reversed(record.of(GradientCarryover)):
        between = evidence.batches - evidence.steps
        if evidence.optimizers != 1 or evidence.lost < min_lost or evidence.steps < 2 or between < evidence.steps:
            continue
        if evidence.lost >= share * between:
            yield _deleted(evidence)
            break
    window = record.last(AccumulationWindow)
    if window is not None and 1 <= window.batches < window.accumulate:
        yield Claim(
            message=f"accumulate_grad_batches={window.accumulate} is more than the {window.batches} batches of an "
            f"epoch: every window is cut at the epoch's end, and its gradient is "
            f"{window.batches / window.accumulate:.0%} of the mean.",
            subject="accumulate_grad_batches",
            measured={"accumulate_grad_batches": window.accumulate, "batches_per_epoch": window.batches},
            fix=f"Set accumulate_grad_batches to {max(1, window.batches // 4)} or less.",
            at=window.at,
        )


def _deleted(evidence: GradientCarryover) -> Claim:
    return Claim(
        message=f"{evidence.optimizer} makes {evidence.steps} steps in {evidence.batches} batches, and the gradients "
        f"of {evidence.lost} batches are zeroed before a step uses them: each step sees one batch instead of "
        f"{evidence.batches / evidence.steps:.0f}.",
        subject="training_step",
        measured={
            "steps": evidence.steps,
            "batches": evidence.batches,
            "lost": evidence.lost,
            "accumulate_grad_batches": evidence.accumulate,
        },
        fix="Call zero_grad() only right after optimizer.step().",
        at=evidence.at,
    )
