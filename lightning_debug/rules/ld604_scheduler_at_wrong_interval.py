"""A learning-rate schedule does not do what it was built for: stepped at the wrong interval, twice, or to no end.

What it sees: the learning rate that will happen, from a private copy of each scheduler that is stepped when training
    starts as Lightning will step it, against the length that the schedule was built for. A schedule of so many steps
    that sees at most ``short`` of them and would be completed with the other interval; one that falls below
    ``collapse`` of its peak within the first ``early`` part of training and stays there; milestones of epochs reached
    within that part; a ``total_steps`` that is exceeded, which raises; a warm-up that reaches less than ``warm`` of
    what it was built for; ``interval`` or ``frequency`` beside ``"optimizer"`` instead of inside the
    ``"lr_scheduler"`` dictionary, where Lightning ignores them. A ``gamma`` above 1 that multiplies the rate by
    ``grows`` or more; a warm-up that rises to the very end of training and reaches at most ``reached`` of the rate it
    leads to (or, of a ``OneCycleLR`` that makes at most ``short`` of its ``total_steps``, anything below that rate);
    a checkpoint that brings the schedule of a shorter run back, so that it raises or a cosine rises again. In the
    first epochs: a scheduler stepped by hand and by Lightning; one that ``scheduler.step(epoch)`` sets back, so that
    it stands at most at ``behind`` of Lightning's steps; a ``ReduceLROnPlateau`` whose ``mode`` is "min" on an
    accuracy or "max" on a loss, or whose ``monitor`` is not logged. Under manual optimization, where Lightning steps
    none: a scheduler that nobody has stepped when training is over, and that no code of the model's steps.
Why it hurts: stepped too rarely, a warm-up never ends and a decay never comes; stepped too often, the learning rate is
    gone after the first moments of training, or swings up and down hundreds of times. A plateau in the wrong
    direction lowers the rate exactly while training goes well.
How to fix: name the interval where Lightning reads it: ``{"optimizer": optimizer, "lr_scheduler": {"scheduler":
    scheduler, "interval": "step"}}``; the default is ``"epoch"``. Take the number of steps from
    ``self.trainer.estimated_stepping_batches``, which knows accumulation and devices.
When to ignore: when a schedule is meant to end early or late. It is silent on warm restarts, on constant schedules,
    on range tests by hand, on schedules of steps that the model's code steps after each batch (what Lightning adds
    after each epoch is little beside that), on runs without a planned end, on schedules that read the state of the
    run, and on monitors whose names do not tell which values are better. ``exact`` says how closely a length must
    agree with the number of steps or epochs to tell its unit.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
            self.head = nn.Linear(32, 2)

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            return F.cross_entropy(self.head(self.body(inputs)), labels)

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self.head(self.body(inputs))
            self.log("val_loss", F.cross_entropy(scores, labels))
            self.log("val_accuracy", (scores.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            optimizer = torch.optim.Adam(self.parameters(), lr=3e-3)
            steps = self.trainer.estimated_stepping_batches
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=steps)
            return {"optimizer": optimizer, "lr_scheduler": schedule}

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
            self.body = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
            self.head = nn.Linear(32, 2)

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            return F.cross_entropy(self.head(self.body(inputs)), labels)

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self.head(self.body(inputs))
            self.log("val_loss", F.cross_entropy(scores, labels))
            self.log("val_accuracy", (scores.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            optimizer = torch.optim.Adam(self.parameters(), lr=3e-3)
            steps = self.trainer.estimated_stepping_batches
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=steps)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    inputs = torch.randn(640, 8)
    labels = (inputs[:, 0] + inputs[:, 1] > 0).long()
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=4)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.schedules import ScheduleForecast
    >>> from lightning_debug.record import Record
    >>> seen = ScheduleForecast(scheduler="OneCycleLR", interval="epoch", epochs=5, steps_per_epoch=20,
    ...                         optimizer_steps=100, scheduler_steps=5, length=100, length_name="total_steps",
    ...                         rates=((0, 4e-4), (80, 6e-4)), other_rates=((0, 4e-4), (30, 1e-2), (99, 1e-6)))
    >>> [claim.subject for claim in scheduler_at_wrong_interval(Record([seen]))]
    ['OneCycleLR']

References:
    https://lightning.ai/docs/pytorch/stable/common/lightning_module.html#configure-optimizers
    https://pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.OneCycleLR.html
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.schedules import PlateauWatch, ScheduleForecast, ScheduleInUse, ScheduleProgress
from lightning_debug.finding import ERROR, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._schedules import fault_of
from lightning_debug.rules._schedules_course import Fault, Limits, faults_met


@rule(
    "LD604",
    severity=ERROR,
    needs=ScheduleInUse,
    explains=("LD408", "LD601", "LD602", "LD605", "LD702", "LD703", "LD704", "LD705"),
)
def scheduler_at_wrong_interval(
    record: Record,
    *,
    short: float = 0.5,
    collapse: float = 1e-3,
    early: float = 1 / 3,
    warm: float = 0.12,
    exact: float = 0.02,
    grows: float = 3.0,
    reached: float = 0.5,
    behind: float = 0.75,
) -> Iterator[Claim | Skip]:
    """Claims one finding for each scheduler."""
    limits = Limits(short, collapse, early, warm, exact, grows, reached, behind)
    claimed: set[str] = set()
    for evidence in record.of(ScheduleForecast):
        fault = fault_of(evidence, limits)
        if evidence.by_hand and fault is not None and fault.by_steps and not evidence.misplaced:
            claimed.add(evidence.scheduler)  # it counts steps, and the model's code makes them
            continue
        if fault is not None and evidence.scheduler not in claimed:
            claimed.add(evidence.scheduler)
            yield _claim(evidence, fault)
    forecasts = record.of(ScheduleForecast)
    for met, fault in faults_met(record.of(ScheduleProgress), record.of(PlateauWatch), forecasts, limits):
        if met.scheduler not in claimed:
            claimed.add(met.scheduler)
            yield _claim_met(met, fault)
    for used in record.of(ScheduleInUse):
        if used.unforeseen and used.scheduler not in claimed:
            yield Skip(used.unforeseen)


def _claim_met(met: ScheduleProgress | PlateauWatch, fault: Fault) -> Claim:
    measured: dict[str, object] = {"line": met.line}
    if isinstance(met, ScheduleProgress):
        measured |= {"made": met.made, "expected": met.expected}
    else:
        measured |= {"monitor": met.monitor, "mode": met.mode, "value": met.value, "logged": ", ".join(met.logged)}
    return Claim(message=fault.message, subject=met.scheduler, measured=measured, fix=fault.fix, at=met.at)


def _claim(evidence: ScheduleForecast, fault: Fault) -> Claim:
    return Claim(
        message=fault.message,
        subject=evidence.scheduler,
        measured={
            "interval": evidence.interval,
            "scheduler_steps": evidence.scheduler_steps,
            "length": evidence.length,
            "optimizer_steps": evidence.optimizer_steps,
            "epochs": evidence.epochs,
            "first_rate": evidence.rates[0][1] if evidence.rates else None,
            "last_rate": evidence.rates[-1][1] if evidence.rates else None,
            "intended": fault.intended,
            "line": evidence.line,
        },
        fix=fault.fix,
        at=evidence.at,
    )
