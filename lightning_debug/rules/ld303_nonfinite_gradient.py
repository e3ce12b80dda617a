"""A gradient is NaN or infinite.

What it sees: an optimizer step with a gradient that is not finite. The batch is run again in isolation with every
    node of the backward pass watched; the first that makes a bad gradient from a finite one is named: sqrt or a
    power at 0, a branch that ``torch.where`` hides but the backward pass enters, float16 that overflows. Where loss
    or gradient norm have grown ``growth``-fold up to that step, the learning rate is named instead. A gradient
    scaler's ordinary skips are no fault: under one it is claimed only if the gradient is bad without scaling too,
    or the scale has fallen below ``lowest_scale``.
Why it hurts: the update writes it into the weights, and Adam's averages never lose it again.
How to fix: the finding names the edit: sqrt(x + eps), a safe operand before ``torch.where``, clipping with a norm
    from the run's own history, a lower learning rate.
When to ignore: never. ``NonFiniteGuard(action="skip")`` leaves such steps out until it is repaired.
Broken:
    class Distances(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(8, 4)

        def training_step(self, batch, batch_idx):
            first, second = self.net(batch[0]), self.net(batch[1])
            distance = torch.sqrt(((first - second) ** 2).sum(1))  # a pair of twins lies at distance 0
            loss = F.mse_loss(distance, batch[2])
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-3)

    first, second = torch.randn(128, 8), torch.randn(128, 8)
    second[5] = first[5]
    target = (first - second).norm(dim=1) / 4
    loader = DataLoader(TensorDataset(first, second, target), batch_size=32, shuffle=True)
    trainer = Trainer(max_epochs=1)
    trainer.fit(Distances(), loader)
Repaired:
    class Distances(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(8, 4)

        def training_step(self, batch, batch_idx):
            first, second = self.net(batch[0]), self.net(batch[1])
            distance = torch.sqrt(((first - second) ** 2).sum(1) + 1e-8)
            loss = F.mse_loss(distance, batch[2])
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-3)

    first, second = torch.randn(128, 8), torch.randn(128, 8)
    second[5] = first[5]
    target = (first - second).norm(dim=1) / 4
    loader = DataLoader(TensorDataset(first, second, target), batch_size=32, shuffle=True)
    trainer = Trainer(max_epochs=1)
    trainer.fit(Distances(), loader)

Example:
    >>> from lightning_debug.evidence.numbers import NonFiniteStep, Operand, Origin, StepWindow
    >>> from lightning_debug.record import Record
    >>> x = Operand(numel=4, minimum=0.0, maximum=2.0, zeros=1)
    >>> origin = Origin(kind="backward", operation="sqrt", line="model.py:9", operands=(x,))
    >>> step = NonFiniteStep(loss=0.3, gradients=("net.bias",), gradient_count=1, gradient_total=2, origin=origin)
    >>> [claim.subject for claim in nonfinite_gradient(Record([StepWindow(), step]))]
    ['model.py:9']
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from lightning_debug.evidence import Unavailable
from lightning_debug.evidence.numbers import NonFiniteStep, StepWindow
from lightning_debug.finding import ERROR, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._operations import explain, place, subject
from lightning_debug.rules._step_history import (
    broken_before,
    divergence,
    driven,
    history,
    left_out,
    rate_fix,
    replay,
    unknown,
)


@rule("LD303", severity=ERROR, needs=StepWindow, explains=("LD304", "LD309", "LD312"))
def nonfinite_gradient(record: Record, *, growth: float = 1000.0, lowest_scale: float = 1.0) -> Iterator[Claim | Skip]:
    """Claims steps whose gradient is not finite, by the operation that made it so."""
    for gap in record.of(Unavailable):
        if gap.evidence == NonFiniteStep.__name__:
            yield Skip(gap.reason, hindrance=gap.hindrance)
    for event in record.of(NonFiniteStep):
        if event.gradient_count and not broken_before(event) and not _scaled(event, lowest_scale):
            yield _claim(record, event, growth)


def _scaled(event: NonFiniteStep, lowest_scale: float) -> bool:
    """Whether this is a gradient scaler that looks for its scale."""
    lost_loss = event.loss is not None and not math.isfinite(event.loss)
    if event.scale is None or lost_loss or event.unscaled_finite is False:
        return False
    return event.scale >= lowest_scale


def _claim(record: Record, event: NonFiniteStep, growth: float) -> Claim:
    past, origin = history(record, event), event.origin
    share = f"{event.gradient_count} of {event.gradient_total} parameters"
    what = f"The gradient of {share} is not finite, first {event.gradients[0] if event.gradients else 'unnamed'}"
    measured: dict[str, Any] = {
        "parameters": list(event.gradients),
        "count": event.gradient_count,
        "total": event.gradient_total,
        "loss": event.loss,
        "learning_rate": event.learning_rate,
        "scale": event.scale,
        "action": event.action,
        **left_out(record),
    }
    first = event.gradients[0] if event.gradients else "gradients"
    end = f" {event.cannot_skip[:1].upper()}{event.cannot_skip[1:]}: the step was applied." if event.cannot_skip else ""
    if event.loss is not None and not math.isfinite(event.loss):
        message, about, fix = f"{what}, as the loss is not.", first, "Repair the loss (LD302)."
    elif event.causes:
        message, about = f"{what}: {', '.join(event.causes)} is not finite.", first
        fix = "Repair the batch (LD301)."
    elif past.diverges(growth):
        measured |= {"loss_growth": past.growth, "norm_growth": past.norm_growth}
        outcome, about, fix = divergence(record, event, past, growth)
        message = f"{what}: {past.told()}, {outcome}."
    elif origin is not None:
        told = explain(origin)
        at = f", at {place(origin)}" if place(origin) else ""
        loss = "" if event.loss is None else f", although the loss is finite ({event.loss:.4g})"
        message = f"{what}{loss}: {told.what}{at}."
        about = subject(origin, first)
        fix = f"{told.fix[:1].upper()}{told.fix[1:]}.{driven(record, event, told.reason)}"
        if told.reason == "overflow" and event.at.step:
            fix = rate_fix(record, event, past)
        measured |= {"operation": origin.operation, "module": origin.module, "line": origin.line, "reason": told.reason}
    elif event.scale is not None and event.unscaled_finite is not False:
        message = f"{what} at every scale down to {event.scale:g}, {event.scaler_skips} steps in a row."
        about, fix = first, "Train with precision='bf16-mixed', whose range is float32's."
    else:
        message = f"{what}; where it begins is not known, because {unknown(event)}."
        about, fix = first, "NonFiniteGuard(action='raise') stops before the update and names the operation."
    return Claim(message=message + end, subject=about, measured=measured, fix=fix + replay(event), at=event.at)
