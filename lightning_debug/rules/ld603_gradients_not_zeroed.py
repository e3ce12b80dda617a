"""Gradients are not zeroed between optimizer steps.

What it sees: over consecutive steps of one optimizer, the gradient that a step has used is still in place, bit for
    bit, when the next one is added to it, and the next step uses the sum; at least ``min_steps`` times in a row.
Why it hurts: every step follows the sum of all gradients since training began: old directions never fade, steps grow
    with time, and training overshoots and diverges, or wanders.
How to fix: call ``optimizer.zero_grad()`` once for each ``optimizer.step()``, before the backward pass. With automatic
    optimization Lightning does it; delete an ``optimizer_zero_grad`` that does nothing.
When to ignore: never. Accumulation by hand, which steps and zeroes every few batches, is not this: there the gradient
    is zeroed after it was used. It is silent where another loss leaves gradients that are zeroed
    before the step (GANs).
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
            self.manual_backward(loss)
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
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
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
            optimizer.zero_grad()
            self.manual_backward(loss)
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
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=4)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.optimization import GradientCarryover
    >>> from lightning_debug.record import Record
    >>> seen = GradientCarryover(optimizer="Adam", batches=3, steps=3, carried=2, carried_norm=0.8, fresh_norm=0.4)
    >>> [claim.measured["carried"] for claim in gradients_not_zeroed(Record([seen]))]
    [2]

References:
    https://pytorch.org/tutorials/recipes/recipes/zeroing_out_gradients.html
    https://lightning.ai/docs/pytorch/stable/model/manual_optimization.html
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.optimization import GradientCarryover
from lightning_debug.finding import ERROR, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule


@rule(
    "LD603",
    severity=ERROR,
    needs=GradientCarryover,
    explains=(
        *("LD302", "LD303", "LD304", "LD305", "LD307", "LD308", "LD309", "LD310"),
        *("LD601", "LD605", "LD701", "LD702", "LD705", "LD712", "LD713"),
    ),
)
def gradients_not_zeroed(record: Record, *, min_steps: int = 2) -> Iterator[Claim]:
    """Claims one finding for each optimizer that keeps its gradients."""
    claimed: set[int] = set()
    for evidence in reversed(record.of(GradientCarryover)):
        if evidence.index in claimed or evidence.carried < min_steps:
            continue
        claimed.add(evidence.index)
        several = evidence.optimizers > 1 and evidence.index >= 0
        which = f"optimizers[{evidence.index}] ({evidence.optimizer})" if several else evidence.optimizer
        yield Claim(
            message=f"{evidence.carried} of {evidence.steps} steps of {which} add the new gradient (norm "
            f"{evidence.fresh_norm:.3g}) to the one that the step before has used (norm {evidence.carried_norm:.3g}): "
            f"it is not zeroed in between.",
            subject="training_step" if not evidence.automatic else "optimizer_zero_grad",
            measured={
                "optimizer": evidence.optimizer,
                "carried": evidence.carried,
                "steps": evidence.steps,
                "carried_norm": evidence.carried_norm,
                "fresh_norm": evidence.fresh_norm,
            },
            fix=f"Call zero_grad() of {which if several else 'the optimizer'} before each backward pass whose "
            "gradient a step is to use."
            if not evidence.automatic
            else "Have optimizer_zero_grad call optimizer.zero_grad(), or delete the override.",
            at=evidence.at,
        )
