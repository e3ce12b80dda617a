"""Training and validation end low and close together.

What it sees: at the end, with at least `count` validations and `steps` steps: both losses below `low` of what
    knowing nothing costs, neither more than `gap` times the other (and a tenth of the baseline), the nearest
    neighbours not below `better` of them, and no significant rise.
Why it hurts: it does not: this is what a healthy run looks like.
How to fix: nothing.
When to ignore: always. This is information, no alarm.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            logits = self.net(inputs)
            self.log("val_loss", F.cross_entropy(logits, labels))
            self.log("val_accuracy", (logits.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    labels = torch.randint(0, 4, (1200,))
    inputs = 1.5 * torch.randn(4, 8)[labels] + torch.randn(1200, 8)
    train = DataLoader(TensorDataset(inputs[:960], labels[:960]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[960:], labels[960:]), batch_size=32)
    trainer = Trainer(max_epochs=6)
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            logits = self.net(inputs)
            self.log("val_loss", F.cross_entropy(logits, labels))
            self.log("val_accuracy", (logits.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    labels = torch.randint(0, 4, (1200,))
    inputs = 1.5 * torch.randn(4, 8)[labels] + torch.randn(1200, 8)
    train = DataLoader(TensorDataset(inputs[:960], labels[:960]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[960:], labels[960:]), batch_size=32)
    trainer = Trainer(max_epochs=6)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.curves import CurveReading, ReferenceLoss, TrainingCourse
    >>> from lightning_debug.evidence.curves import TrainingLossInEval, ValidationCourse
    >>> from lightning_debug.evidence.curves import LossKind
    >>> from lightning_debug.record import Record
    >>> reading = CurveReading(final=True, epochs=9, training=TrainingCourse(steps=400, start=1.4, end=0.2),
    ...     validation=ValidationCourse(name="val_loss", count=9, end=0.25, noise=0.01))
    >>> reference = ReferenceLoss(function="cross_entropy", samples=256, baseline=1.39, neighbours=0.4, error=0.02)
    >>> again = TrainingLossInEval(epoch=8, batches=8, train_mode=0.2, eval_mode=0.2, by_validation=0.2, error=0.01)
    >>> [claim.subject for claim in good_fit(Record([LossKind(supervised=True), reference, again, reading]))]
    ['val_loss']
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.curves import CurveReading
from lightning_debug.finding import INFO, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._curves import baseline, learnable, measured_again, training, validation


@rule("LD708", severity=INFO, needs=CurveReading)
def good_fit(
    record: Record, *, count: int = 3, steps: int = 50, low: float = 0.4, gap: float = 1.5, better: float = 0.5
) -> Iterator[Claim | Skip]:
    """Claims one finding where training and validation end low and close together."""
    course, seen = training(record, steps=steps, final=True), validation(record, count=count, final=True)
    if isinstance(course, Skip) or isinstance(seen, Skip):
        yield course if isinstance(course, Skip) else seen  # type: ignore[misc]
        return
    price, again = baseline(record), measured_again(record)
    if price is None or again is None or again.by_validation is None:
        yield Skip("neither a baseline nor the validation loss of training batches is known")
        return
    train = again.by_validation
    if max(train, seen.end) > low * price or (seen.rise.sigmas > 3 and seen.rise.amount > 0.1 * price):
        return
    if max(seen.end - gap * train, train - gap * seen.end) > 0.1 * price:
        return
    reference = learnable(record, min(train, seen.end), share=better)
    if not isinstance(reference, Skip):
        yield Skip(f"the nearest neighbours reach {reference.neighbours:.3g}")
        return
    yield Claim(
        message=f"Training ends at {train:.3g} and validation at {seen.end:.3g} (the mean of its last 3 values), where "
        f"knowing nothing costs {price:.3g}: a good fit.",
        subject=seen.name,
        measured={"train_loss": train, "val_loss": seen.end, "baseline": price},
        fix="Nothing needs to change.",
    )
