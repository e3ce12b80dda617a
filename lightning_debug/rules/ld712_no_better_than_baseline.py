"""The model never does better than one that does not look at its inputs.

What it sees: at the end of a run of at least `steps` steps and `epochs` epochs (or `steps_once` steps of fewer
    epochs, as of a stream): the training loss, in eval mode too, and the validation loss lie within `margin` of
    what predicting the label distribution (or the mean) costs, no longer fall, do not jump between validations by
    `jitter` (or were driven far up by the first steps: that is LD702), and never were lower by twice that, while
    the nearest neighbours get to `better` of it on the same training samples.
Why it hurts: the inputs do not reach the output, or the weights that would carry them are not trained.
How to fix: follow the inputs through the forward pass: constant features, dead units, a mean over the wrong
    dimension; check that the optimizer holds the parameters.
When to ignore: in runs that only try the code out. Silent where no simple method does better either, as on
    random data.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1), nn.Softmax(dim=1), nn.Linear(1, 4))

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
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    labels = torch.randint(0, 4, (1200,))
    inputs = 1.5 * torch.randn(4, 8)[labels] + torch.randn(1200, 8)
    train = DataLoader(TensorDataset(inputs[:960], labels[:960]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[960:], labels[960:]), batch_size=32)
    trainer = Trainer(max_epochs=8)
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
    >>> from lightning_debug.evidence.curves import LossKind
    >>> from lightning_debug.record import Record
    >>> reading = CurveReading(final=True, epochs=5, training=TrainingCourse(
    ...     steps=150, start=1.4, end=1.38, lowest=1.37))
    >>> reference = ReferenceLoss(function="cross_entropy", samples=256, baseline=1.39, neighbours=0.4, error=0.02)
    >>> [claim.subject for claim in no_better_than_baseline(Record([LossKind(supervised=True), reference, reading]))]
    ['training loss']
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.curves import CurveReading
from lightning_debug.finding import ERROR, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._curves import (
    LOSS,
    at_baseline,
    learnable,
    length,
    newest,
    still_falls,
    too_long_steps,
    training,
    warming_up,
)


@rule("LD712", severity=ERROR, needs=CurveReading, explains=("LD705",))
def no_better_than_baseline(
    record: Record,
    *,
    steps: int = 60,
    steps_once: int = 480,
    epochs: int = 2,
    margin: float = 0.05,
    better: float = 0.8,
    jitter: float = 0.05,
) -> Iterator[Claim | Skip]:
    """Claims one finding where the loss never gets below what knowing nothing costs, though neighbours do."""
    course = training(record, steps=steps, final=True)
    if isinstance(course, Skip):
        yield course
        return
    if warming_up(record) or (newest(record).epochs < epochs and length(course) < steps_once):
        yield Skip("the run is too short, or was still warming up")
        return
    stuck = at_baseline(record, course, margin=margin)
    if stuck is None:
        return
    price, now = stuck
    seen = newest(record).validation
    if seen is not None and seen.end < (1 - margin) * price:
        return
    if still_falls(record, course):
        return  # LD704
    if too_long_steps(record, course, jitter=jitter):
        return  # LD702
    reference = learnable(record, price, share=better)
    if isinstance(reference, Skip):
        yield reference
        return
    yield Claim(
        message=f"After {length(course)} steps the training loss is {now:.3g}, no better than the {price:.3g} of "
        f"predicting without the inputs; the nearest neighbours reach {reference.neighbours:.3g} with them.",
        subject=LOSS,
        measured={"level": now, "baseline": price, "neighbours": reference.neighbours, "samples": reference.samples},
        fix="Follow the inputs through the forward pass (constant features, dead units, a wrong dimension), check that "
        "the labels still match them, and that the optimizer holds the model's parameters; a model without hidden "
        "layers may lack the capacity to use them.",
    )
