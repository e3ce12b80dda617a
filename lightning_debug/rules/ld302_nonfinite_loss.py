"""The loss is NaN or infinite.

What it sees: a training step whose loss is not finite, or that raises over such a value. Its batch is run again in
    isolation, and the value is followed back from the loss to the first operation that made it from finite
    operands: log of 0, exp that overflows, 0 / 0, a softmax over a row that is masked throughout, float16 that
    overflows, and so on. Where loss or gradient norm have grown ``growth``-fold up to that step, the run has
    diverged and the learning rate is named instead. A weight that was bad before is LD304, a bad batch LD301. Where
    every training step is finite and the validation loss is not, that is told by itself.
Why it hurts: every gradient of a NaN is NaN, and after one update every weight is.
How to fix: the finding names the edit for the operation: log(x + eps), log_softmax in place of log of softmax,
    a clamp, a divisor kept away from 0; for a run that diverges a lower learning rate or clipping.
When to ignore: never. ``NonFiniteGuard(action="skip")`` leaves such steps out until it is repaired.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 4))

        def training_step(self, batch, batch_idx):
            probabilities = torch.softmax(self.net(batch[0]), dim=-1)
            picked = probabilities.gather(1, batch[1].unsqueeze(1))
            loss = -torch.log(picked).mean()  # a probability that underflows to 0 has no logarithm
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-3)

    inputs = torch.randn(256, 16)
    labels = inputs[:, :4].argmax(1)
    inputs[7] *= 1e5  # one sample whose scores lie far apart
    labels[7] = (labels[7] + 1) % 4
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=32, shuffle=True)
    trainer = Trainer(max_epochs=1)
    trainer.fit(Classifier(), loader)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 4))

        def training_step(self, batch, batch_idx):
            loss = F.cross_entropy(self.net(batch[0]), batch[1])  # log-softmax inside: never the log of 0
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-3)

    inputs = torch.randn(256, 16)
    labels = inputs[:, :4].argmax(1)
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=32, shuffle=True)
    trainer = Trainer(max_epochs=1)
    trainer.fit(Classifier(), loader)

Example:
    >>> from lightning_debug.evidence.numbers import NonFiniteStep, Operand, Origin, StepWindow
    >>> from lightning_debug.record import Record
    >>> x = Operand(source="softmax", shape=(4,), numel=4, minimum=0.0, maximum=0.9, zeros=1)
    >>> origin = Origin(kind="forward", operation="log", line="model.py:12", operands=(x,))
    >>> record = Record([StepWindow(), NonFiniteStep(loss=float("inf"), origin=origin)])
    >>> next(iter(nonfinite_loss(record))).message
    'The loss is +Inf: log gets 1 value equal to 0, among the 4 values of softmax between 0 and 0.9, at model.py:12.'
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from lightning_debug.evidence.curves import EpochValues
from lightning_debug.evidence.numbers import NonFiniteStep, StepWindow
from lightning_debug.finding import ERROR, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._operations import explain, place, subject
from lightning_debug.rules._step_history import (
    broken_before,
    divergence,
    driven,
    history,
    kind,
    left_out,
    rate_fix,
    replay,
    unknown,
)


@rule("LD302", severity=ERROR, needs=StepWindow, explains=("LD303", "LD304", "LD312"))
def nonfinite_loss(record: Record, *, growth: float = 1000.0) -> Iterator[Claim]:
    """Claims steps whose loss is not finite, by the operation that made it so."""
    for event in record.of(NonFiniteStep):
        forward = event.origin is None or event.origin.kind != "backward"
        bad = (event.error and forward) or (event.loss is not None and not math.isfinite(event.loss))
        if bad and not broken_before(event):
            yield _claim(record, event, growth)
    if not any(record.of(NonFiniteStep)):
        yield from _in_validation_alone(record)


def _in_validation_alone(record: Record) -> Iterator[Claim]:
    """A validation loss that is not finite after epochs whose training losses are."""
    seen = [item for item in record.of(EpochValues) if item.val_loss is not None and item.train_loss is not None]
    bad = [item for item in seen if not math.isfinite(item.val_loss or 0.0) and math.isfinite(item.train_loss or 0.0)]
    if not bad:
        return
    first = bad[0]
    yield Claim(
        message=f"The validation loss is {kind(first.val_loss)} after epoch {first.at.epoch} ({len(bad)} of "
        f"{len(seen)} epochs), where the training loss is finite ({first.train_loss:.4g}).",
        subject="validation_step",
        measured={"loss": first.val_loss, "training_loss": first.train_loss, "epochs": len(bad)},
        fix="Look at what validation alone meets: rows that an attention mask hides altogether, a mean over nothing, a "
        "division by a count of 0, running statistics, batches with bad values.",
        at=first.at,
    )


_GROWS = (
    "Values grow from layer to layer before anything is learned: normalise the inputs, or use a smaller "
    "initialisation or a normalisation layer."
)


def _claim(record: Record, event: NonFiniteStep, growth: float) -> Claim:
    past = history(record, event)
    which = "validation loss" if event.at.stage == "validate" else "loss"
    lead = f"The {which} is {kind(event.loss)}" if not event.error else f"training_step raises {event.error}"
    measured: dict[str, Any] = {
        "loss": event.loss,
        "learning_rate": event.learning_rate,
        "gradients": event.gradient_count,
        **left_out(record),
    }
    origin = event.origin
    if event.causes:
        names = ", ".join(event.causes)
        message, about, fix = f"{lead}: {names} is not finite.", "loss", "Repair the batch (LD301)."
    elif past.diverges(growth):
        measured |= {"loss_growth": past.growth, "norm_growth": past.norm_growth}
        how = f"; it overflows in {origin.operation}, {place(origin)}" if origin is not None and place(origin) else ""
        outcome, about, fix = divergence(record, event, past, growth)
        message = f"{lead}: {past.told()}, {outcome}{how}."
    elif origin is not None:
        told = explain(origin)
        at = f", at {place(origin)}" if place(origin) else ""
        message = f"{lead}: {told.what}{at}."
        about = subject(origin, "loss")
        fix = f"{told.fix[:1].upper()}{told.fix[1:]}.{driven(record, event, told.reason)}"
        if told.reason == "overflow":
            fix = rate_fix(record, event, past) if event.at.step else _GROWS
        measured |= {"operation": origin.operation, "module": origin.module, "line": origin.line, "reason": told.reason}
    else:
        message = f"{lead}; where it begins is not known, because {unknown(event)}."
        about, fix = "training_step", "NonFiniteGuard(action='raise') stops before the update and names the operation."
    return Claim(message=message, subject=about, measured=measured, fix=fix + replay(event), at=event.at)
