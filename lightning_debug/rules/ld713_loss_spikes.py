"""The training loss jumps far out of its noise.

What it sees: in a run of at least `steps` steps, after the share `early` of them: a jump to `times` the loss
    before it that undoes `part` of what training had gained and lasts `length` steps, or a jump of fewer steps
    to `single` times the loss before and `far` times the first loss, too high for one hard sample of the batch
    (a sample that costs `sample` times the first loss; `alone` times that where it comes once only in `again` epochs
    or more: what is wrong with the data comes again). For a model trained before, what knowing nothing costs stands
    for the first loss. Where such jumps are more than a share `often` of the steps, or fewer than a quarter of all
    that leave the noise, that is what the loss is like.
Why it hurts: one step like that can undo many: it is a batch with a wrong sample, or a gradient that should
    have been clipped.
How to fix: look at the batches named; clip the gradients; lower the learning rate.
When to ignore: when the loss of a batch is heavy-tailed by nature. Silent on the last batch of an epoch, which
    may hold a few samples only, on jumps with which other parameters begin to be trained, and on losses of several
    terms, adversarial, contrastive and reinforcement learning.
Broken:
    class Regressor(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))

        def training_step(self, batch, batch_idx):
            inputs, targets = batch
            loss = F.mse_loss(self.net(inputs), targets)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, targets = batch
            self.log("val_loss", F.mse_loss(self.net(inputs), targets))

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(1200, 8)
    targets = inputs[:, :1] - inputs[:, 1:2].abs() + 0.3 * torch.randn(1200, 1)
    targets = targets - targets.mean()
    inputs[100:104], targets[100:104] = 30 * inputs[100:104], 40.0
    train = DataLoader(TensorDataset(inputs[:960], targets[:960]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[960:], targets[960:]), batch_size=32)
    trainer = Trainer(max_epochs=6)
    trainer.fit(Regressor(), train, val)
Repaired:
    class Regressor(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))

        def training_step(self, batch, batch_idx):
            inputs, targets = batch
            loss = F.mse_loss(self.net(inputs), targets)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, targets = batch
            self.log("val_loss", F.mse_loss(self.net(inputs), targets))

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(1200, 8)
    targets = inputs[:, :1] - inputs[:, 1:2].abs() + 0.3 * torch.randn(1200, 1)
    targets = targets - targets.mean()
    train = DataLoader(TensorDataset(inputs[:960], targets[:960]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[960:], targets[960:]), batch_size=32)
    trainer = Trainer(max_epochs=6)
    trainer.fit(Regressor(), train, val)

Example:
    >>> from lightning_debug.evidence.curves import CurveReading, Spike, TrainingCourse
    >>> from lightning_debug.evidence.curves import LossKind
    >>> from lightning_debug.record import Record
    >>> spike = Spike(step=90, value=5.0, before=0.4, noise=0.05, length=6)
    >>> reading = CurveReading(epochs=5, training=TrainingCourse(steps=200, start=2.3, end=0.4, spikes=(spike,)))
    >>> [claim.measured["step"] for claim in loss_spikes(Record([LossKind(supervised=True), reading]))]
    [90]
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.curves import CurveReading
from lightning_debug.evidence.run import TrainedPart
from lightning_debug.finding import WARNING, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._curves import LOSS, baseline, newest, step_at, training

NEAR = 3
"""Steps from the beginning of a phase within which a jump begins with it."""


MOST_STEPS = 5
"""Steps that are named."""


@rule("LD713", severity=WARNING, needs=CurveReading)
def loss_spikes(
    record: Record,
    *,
    steps: int = 60,
    early: float = 0.1,
    times: float = 3.0,
    part: float = 0.5,
    length: int = 3,
    single: float = 10.0,
    far: float = 1.5,
    sample: float = 20.0,
    often: float = 0.08,
    again: int = 3,
    alone: float = 2.0,
) -> Iterator[Claim | Skip]:
    """Claims one finding where the loss jumps far out of its noise, for several steps or once very high."""
    course = training(record, steps=steps, final=False)
    if isinstance(course, Skip):
        yield course
        return
    begin = max(course.start, baseline(record) or 0.0)  # a model trained before begins low: its spikes are small
    phases = [phase.step for phase in record.of(TrainedPart)]  # what begins to be trained is not good at once
    late = [
        spike
        for spike in course.spikes
        if spike.step > step_at(course, early)
        and spike.before > 0
        and not any(0 <= spike.step - step <= NEAR for step in phases)
    ]
    lasting = [
        spike
        for spike in late
        if spike.length >= length
        and spike.value > times * spike.before
        and spike.value - spike.before > part * max(begin - spike.before, 0.0)
    ]
    hard = sample / max(1, newest(record).batch_size)  # a batch's mean where one sample costs so much
    lonely = [
        spike
        for spike in late
        if spike.length < length and spike.value > single * spike.before and spike.value > max(far, hard) * begin
    ]
    rare = len(lonely) <= max(1.0, often * course.steps) and 4 * len(lonely) >= len(late)
    if len(lonely) == 1 and newest(record).epochs >= again and lonely[0].value <= alone * hard * begin:
        lonely = []
    found = lasting + (lonely if rare else [])
    if not found:
        return
    worst = max(found, key=lambda spike: spike.value)
    steps_told = ", ".join(str(spike.step) for spike in sorted(found, key=lambda spike: spike.step)[:MOST_STEPS])
    one = len(found) == 1
    at = f"step{'' if one else 's'} {steps_told}{' and others' if len(found) > MOST_STEPS else ''}"
    such = "" if one else f" ({len(found)} such, at {at})"
    yield Claim(
        message=f"The training loss jumps from {worst.before:.3g} to {worst.value:.3g} at step {worst.step}, "
        f"{(worst.value - worst.before) / worst.noise:.0f} times its noise, for {worst.length} "
        f"step{'' if worst.length == 1 else 's'}{such}.",
        subject=LOSS,
        measured={"step": worst.step, "value": worst.value, "before": worst.before, "spikes": len(found)},
        fix=f"Look at the batch{'' if one else 'es'} at {at}; clip the gradients (Trainer(gradient_clip_val=1.0)), or "
        "lower the learning rate.",
    )
