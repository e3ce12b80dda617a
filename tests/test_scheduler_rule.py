"""LD604 on programs: schedules at the wrong interval, and schedules that are meant as they are."""

import pytest
import torch
from torch.optim import lr_scheduler as schedules
from torch.utils.data import DataLoader, IterableDataset

from tests.optimizer_programs import ByHand, Classifier, found, inspected, loader

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's and torch's own words about such schedules


class Scheduled(Classifier):
    """10 batches an epoch."""

    def __init__(self, make, **keys):
        super().__init__()
        self.make, self.keys = make, keys

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), 1e-2)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.make(optimizer), **self.keys}}


class Misplaced(Classifier):
    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), 1e-2)
        schedule = schedules.StepLR(optimizer, 100)
        return {"optimizer": optimizer, "lr_scheduler": schedule, "interval": "step"}


class Twice(Classifier):
    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.lr_schedulers().step()
        return loss

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), 1e-2)
        schedule = schedules.ExponentialLR(optimizer, 0.99)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class OncePerEpoch(ByHand):
    """A schedule of steps, stepped by hand at the end of epochs."""

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), 1e-2)
        return [optimizer], [schedules.OneCycleLR(optimizer, 1e-2, total_steps=40)]

    def on_train_epoch_end(self):
        self.lr_schedulers().step()


class AtTheEndOfEpochs(Scheduled):
    """Its schedulers are at each batch offered, and stepped at the last."""

    def lr_scheduler_step(self, scheduler, metric):
        if self.trainer.is_last_batch:
            scheduler.step()


FAULTS = {
    "one cycle an epoch": lambda: Scheduled(lambda o: schedules.OneCycleLR(o, 1e-2, total_steps=40)),
    "cosine of steps": lambda: Scheduled(lambda o: schedules.CosineAnnealingLR(o, 40)),
    "warm-up of steps": lambda: Scheduled(lambda o: schedules.LambdaLR(o, lambda step: min(1.0, (step + 1) / 40))),
    "cosine of epochs": lambda: Scheduled(lambda o: schedules.CosineAnnealingLR(o, 4), interval="step"),
    "step size of epochs": lambda: Scheduled(lambda o: schedules.StepLR(o, 2, 0.1), interval="step"),
    "decay of epochs": lambda: Scheduled(lambda o: schedules.ExponentialLR(o, 0.5), interval="step"),
    "milestones of epochs": lambda: Scheduled(lambda o: schedules.MultiStepLR(o, [2, 3]), interval="step"),
    "polynomial of epochs": lambda: Scheduled(lambda o: schedules.PolynomialLR(o, 4), interval="step"),
    "warm-up and fall of epochs": lambda: Scheduled(
        lambda o: schedules.LambdaLR(o, lambda epoch: min(float(epoch), max(0.0, (4 - epoch) / 3))), interval="step"
    ),
    "warm-up and cosine of epochs": lambda: Scheduled(
        lambda o: schedules.SequentialLR(
            o, [schedules.LinearLR(o, 0.1, total_iters=1), schedules.CosineAnnealingLR(o, 3)], [1]
        ),
        interval="step",
    ),
    "misplaced": Misplaced,
    "twice": Twice,
    "by hand": OncePerEpoch,
}


@pytest.mark.parametrize("name", FAULTS)
def test_is_found(name):
    report = inspected(FAULTS[name](), max_epochs=4).report
    assert [item.code for item in report.headlines] == ["LD604"], report.headlines
    late = name in ("twice", "by hand")
    assert report.headlines[0].at.step <= (20 if late else 0)


def test_a_cycle_that_ends_too_soon_is_foretold():
    with pytest.raises(ValueError, match="Tried to step"):
        found(Scheduled(lambda o: schedules.OneCycleLR(o, 1e-2, total_steps=4), interval="step"), max_epochs=4)


def test_accumulation_is_counted():
    model = Scheduled(lambda o: schedules.OneCycleLR(o, 1e-2, total_steps=40), interval="step")
    assert found(model, max_epochs=4, accumulate_grad_batches=5) == ["LD604"]


class Chosen(Classifier):
    """One of several schedules, some of which count steps."""

    def __init__(self, which):
        super().__init__()
        self.which = which

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), 1e-2)
        total = int(self.trainer.estimated_stepping_batches)
        if self.which == "one cycle":
            schedule = {"scheduler": schedules.OneCycleLR(optimizer, 1e-2, total_steps=total), "interval": "step"}
        elif self.which == "steps":
            schedule = schedules.StepLR(optimizer, 3, 0.3)
        elif self.which == "computed":
            schedule = schedules.ExponentialLR(optimizer, 0.01 ** (1 / total))
        elif self.which == "warm-up and decay":  # a peak at step 6 of 40, and 4 epochs
            schedule = schedules.LambdaLR(optimizer, lambda step: min((step + 1) / 6, max(0.0, 1 - step / total)))
        elif self.which == "warm-up of two epochs":
            schedule = schedules.LambdaLR(optimizer, lambda epoch: min(1.0, (epoch + 1) / 2))
        else:
            schedule = schedules.ExponentialLR(optimizer, 0.9)
        return {"optimizer": optimizer, "lr_scheduler": schedule}


@pytest.mark.parametrize(
    ("which", "codes"),
    [
        ("decay", []),
        ("steps", []),
        ("warm-up of two epochs", []),
        ("computed", ["LD604"]),
        ("warm-up and decay", ["LD604"]),
    ],
)
def test_one_of_several_schedules_counts_steps(which, codes):
    assert found(Chosen(which), max_epochs=4) == codes


HEALTHY = {
    "one cycle": lambda: Scheduled(lambda o: schedules.OneCycleLR(o, 1e-2, total_steps=40), interval="step"),
    "one cycle, a little long": lambda: Scheduled(
        lambda o: schedules.OneCycleLR(o, 1e-2, total_steps=45), interval="step"
    ),
    "one cycle of epochs": lambda: Scheduled(lambda o: schedules.OneCycleLR(o, 1e-2, total_steps=4)),
    "cosine": lambda: Scheduled(lambda o: schedules.CosineAnnealingLR(o, 4)),
    "cosine by steps": lambda: Scheduled(lambda o: schedules.CosineAnnealingLR(o, 40), interval="step"),
    "cosine of a longer run": lambda: Scheduled(lambda o: schedules.CosineAnnealingLR(o, 30)),
    "restarts": lambda: Scheduled(lambda o: schedules.CosineAnnealingWarmRestarts(o, 5), interval="step"),
    "restarts of epochs": lambda: Scheduled(lambda o: schedules.CosineAnnealingWarmRestarts(o, 2, 2)),
    "cyclic": lambda: Scheduled(lambda o: schedules.CyclicLR(o, 1e-3, 1e-2, 5, cycle_momentum=False), interval="step"),
    "step": lambda: Scheduled(lambda o: schedules.StepLR(o, 2)),
    "step of a longer run": lambda: Scheduled(lambda o: schedules.StepLR(o, 30)),
    "steps": lambda: Scheduled(lambda o: schedules.StepLR(o, 15), interval="step"),
    "milestones": lambda: Scheduled(lambda o: schedules.MultiStepLR(o, [2, 3])),
    "milestones by steps": lambda: Scheduled(lambda o: schedules.MultiStepLR(o, [20, 30]), interval="step"),
    "slow decay": lambda: Scheduled(lambda o: schedules.ExponentialLR(o, 0.97), interval="step"),
    "decay": lambda: Scheduled(lambda o: schedules.ExponentialLR(o, 0.8)),
    "warm-up": lambda: Scheduled(lambda o: schedules.LinearLR(o, 0.1, total_iters=5), interval="step"),
    "warm-up of epochs": lambda: Scheduled(lambda o: schedules.LambdaLR(o, lambda epoch: min(1.0, (epoch + 1) / 3))),
    "warm-up and cosine": lambda: Scheduled(
        lambda o: schedules.SequentialLR(
            o, [schedules.LinearLR(o, 0.1, total_iters=5), schedules.CosineAnnealingLR(o, 35)], [5]
        ),
        interval="step",
    ),
    "constant": lambda: Scheduled(lambda o: schedules.ConstantLR(o, 0.5, 2)),
    "stepped by its own hook": lambda: AtTheEndOfEpochs(lambda o: schedules.MultiStepLR(o, [2, 3]), interval="step"),
}


SHORT = (
    "one cycle",
    "cosine",
    "restarts",
    "step",
    "milestones",
    "warm-up",
    "warm-up and cosine",
    "stepped by its own hook",
)


@pytest.mark.parametrize(
    "name", [name if name in SHORT else pytest.param(name, marks=pytest.mark.slow) for name in HEALTHY]
)
def test_is_quiet(name):
    assert not found(HEALTHY[name](), max_epochs=4)


def test_an_endless_run_is_not_judged():
    model = Scheduled(lambda o: schedules.CosineAnnealingLR(o, 1000))
    inspector = inspected(model, loader(64), max_epochs=-1, max_time="00:00:00:01")
    assert any(item.code == "LD604" for item in inspector.report.skips)


class Stream(IterableDataset):
    """Without an end."""

    def __iter__(self):
        while True:
            inputs = torch.randn(8)
            yield inputs, (inputs.sum() > 0).long()


@pytest.mark.parametrize(("interval", "codes"), [("epoch", ["LD604"]), ("step", [])])
def test_an_epoch_without_an_end_never_steps_a_warm_up_of_epochs(interval, codes):
    model = Scheduled(lambda o: schedules.LambdaLR(o, lambda step: min(1.0, (step + 1) / 20)), interval=interval)
    assert found(model, DataLoader(Stream(), 8), max_steps=30) == codes


class Plateau(Classifier):
    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), 1e-2)
        return {
            "optimizer": optimizer,
            "lr_scheduler": schedules.ReduceLROnPlateau(optimizer, patience=1),
            "monitor": "loss",
        }


def test_a_plateau_is_not_judged():
    assert not found(Plateau(), max_epochs=3)
