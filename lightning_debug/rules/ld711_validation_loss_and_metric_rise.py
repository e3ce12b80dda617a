"""Validation loss and metric rise together.

What it sees: with at least `count` validations: the validation loss has risen by `sigmas` standard errors from
    its lowest part, while the metric has improved since by `metric` standard errors and by a tenth of what it
    could (and twice the error of a share of so many samples). How sure the model is of right and of wrong answers
    is measured on a validation batch, early and now, as a whole and answer by answer.
Why it hurts: it hurts where probabilities are used: the model makes fewer errors, and is too sure of those it
    makes.
How to fix: choose the epoch by the metric. Where probabilities matter, divide the logits by the temperature
    told, or smooth the labels.
When to ignore: where only the decision counts. Silent where the training loss rises as well, as where the weights of
    its terms change over the epochs. This is information, no alarm, and no overfitting in the sense
    of errors.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(6, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 2))

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
            return torch.optim.Adam(self.parameters(), lr=3e-4)

    inputs = torch.randn(1600, 6)
    labels = (inputs[:, 0] * inputs[:, 1] + inputs[:, 2] * inputs[:, 3] > 0).long()
    labels[1200:] = torch.where(torch.rand(400) < 0.15, 1 - labels[1200:], labels[1200:])
    train = DataLoader(TensorDataset(inputs[:1200], labels[:1200]), batch_size=40, shuffle=True)
    val = DataLoader(TensorDataset(inputs[1200:], labels[1200:]), batch_size=100)
    trainer = Trainer(max_epochs=25)
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
    >>> from lightning_debug.evidence.curves import CurveReading, Shift, ValidationCourse
    >>> from lightning_debug.evidence.curves import LossKind
    >>> from lightning_debug.record import Record
    >>> reading = CurveReading(epochs=30, validation=ValidationCourse(
    ...     name="val_loss", count=30, first=1.4, lowest=0.6, lowest_epoch=9, end=0.9, noise=0.02, all_above=True,
    ...     rise=Shift(amount=0.3, error=0.02), metric="val_acc", metric_since=Shift(amount=0.03, error=0.01)))
    >>> [claim.subject for claim in validation_loss_and_metric_rise(Record([reading]))]
    ['val_loss']
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.answers import AnswerConfidence
from lightning_debug.evidence.curves import CurveReading
from lightning_debug.finding import INFO, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._curves import improves, judged_samples, validation


@rule("LD711", severity=INFO, needs=CurveReading)
def validation_loss_and_metric_rise(
    record: Record, *, count: int = 6, sigmas: float = 3.0, metric: float = 2.0
) -> Iterator[Claim | Skip]:
    """Claims one finding where loss and metric both rise, and says which answers the loss comes from."""
    seen = validation(record, count=count)
    if isinstance(seen, Skip):
        yield seen
        return
    if not seen.metric:
        yield Skip("no validation metric was recognised among the logged names")
        return
    if seen.objective_moves(sigmas):
        yield Skip("the training loss rises as well: its terms, or their weights, change")
        return
    better = improves(seen, sigmas=metric, samples=judged_samples(record))
    if seen.rise.sigmas < sigmas or not seen.all_above or not better:
        return
    if seen.rise.amount < 0.05 * max(abs(seen.first), abs(seen.lowest)):
        return
    first, last = record.first(AnswerConfidence), record.last(AnswerConfidence)
    why, measured = "", {"lowest": seen.lowest, "end": seen.end, "metric_since": seen.metric_since.amount}
    if first is not None and last is not None and first is not last:
        right, wrong = last.loss_right - first.loss_right, last.loss_wrong - first.loss_wrong
        risen = max(right, 0.0) + max(wrong, 0.0)
        share = max(wrong, 0.0) / risen if risen else 1.0
        sure = (
            f"wrong answers are given with {last.confidence_wrong:.0%} confidence (at epoch {first.epoch} with "
            f"{first.confidence_wrong:.0%}), right ones with {last.confidence_right:.0%} ({first.confidence_right:.0%})"
        )
        why = f"; {sure}" + (f", and {share:.0%} of what rises comes from the wrong ones" if risen else "")
        if last.less_sure_right is not None and last.surer_wrong is not None:
            why += (
                f"; of the single answers {last.less_sure_right:.0%} are right with less confidence than then and "
                f"{last.surer_wrong:.0%} wrong with more"
            )
            measured.update(less_sure_right=last.less_sure_right, surer_wrong=last.surer_wrong)
        measured.update(
            temperature=last.temperature,
            share_of_wrong=share,
            confidence_wrong=last.confidence_wrong,
            confidence_right=last.confidence_right,
            right_answers=last.right,
        )
    cool = f" (divide the logits by {last.temperature:.2g})" if last is not None and last.temperature > 1 else ""
    yield Claim(
        message=f"Validation loss rises from {seen.lowest:.3g} at epoch {seen.lowest_epoch} to {seen.end:.3g}, while "
        f"{seen.metric} improves by {abs(seen.metric_since.amount):.3g}{why}.",
        subject=seen.name,
        measured=measured,
        fix=f"Choose the epoch by {seen.metric}; if probabilities matter, calibrate{cool}, or smooth the labels.",
    )
