"""The learning rate that is foreseen is the one that comes, step by step."""

import math

import pytest
import torch
from torch.optim import lr_scheduler as schedules

from lightning_debug.evidence.schedules import ScheduleForecast
from lightning_debug.probes.scheduler_forecast import misplaced_keys, private_copy, simulate, thinned, words_of
from tests.optimizer_programs import Classifier, inspected, loader

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's and torch's own words about such schedules

ALL = {
    "LambdaLR": lambda o: schedules.LambdaLR(o, lambda step: 1 / (1 + step)),
    "MultiplicativeLR": lambda o: schedules.MultiplicativeLR(o, lambda step: 0.9),
    "StepLR": lambda o: schedules.StepLR(o, 4),
    "MultiStepLR": lambda o: schedules.MultiStepLR(o, [2, 9]),
    "ConstantLR": lambda o: schedules.ConstantLR(o, 0.5, 3),
    "LinearLR": lambda o: schedules.LinearLR(o, 0.1, 1.0, 4),
    "ExponentialLR": lambda o: schedules.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda o: schedules.PolynomialLR(o, 12, 2.0),
    "CosineAnnealingLR": lambda o: schedules.CosineAnnealingLR(o, 6),
    "CosineAnnealingWarmRestarts": lambda o: schedules.CosineAnnealingWarmRestarts(o, 3, 2),
    "CyclicLR": lambda o: schedules.CyclicLR(o, 0.001, 0.1, 3),
    "OneCycleLR": lambda o: schedules.OneCycleLR(o, 0.1, total_steps=40),
    "SequentialLR": lambda o: schedules.SequentialLR(
        o, [schedules.LinearLR(o, 0.1, total_iters=3), schedules.ExponentialLR(o, 0.9)], [3]
    ),
    "ChainedScheduler": lambda o: schedules.ChainedScheduler(
        [schedules.ConstantLR(o, 0.5, 3), schedules.ExponentialLR(o, 0.9)]
    ),
}


def test_every_scheduler_of_torch_is_here():
    bases = ("LRScheduler", "_LRScheduler", "ReduceLROnPlateau")  # the last depends on values to come: refused
    kinds = {
        name
        for name, kind in vars(schedules).items()
        if isinstance(kind, type) and issubclass(kind, schedules.LRScheduler) and name not in bases
    }
    assert kinds == set(ALL)
    assert {name for name in schedules.__all__ if name not in bases} == kinds


class Scheduled(Classifier):
    def __init__(self, make, interval, frequency=1):
        super().__init__()
        self.make, self.interval, self.frequency, self.rates = make, interval, frequency, []

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(
            [{"params": self.body.parameters(), "lr": 0.03}, {"params": self.head.parameters()}], 0.05, momentum=0.9
        )
        schedule = {"scheduler": self.make(optimizer), "interval": self.interval, "frequency": self.frequency}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def on_before_optimizer_step(self, optimizer):
        self.rates.append(max(group["lr"] for group in optimizer.param_groups))


def compare(model, **options):
    inspector = inspected(model, loader(96), max_epochs=4, **options)
    forecast = inspector.session.record.last(ScheduleForecast)
    assert forecast is not None
    each = forecast.steps_per_epoch
    for step, rate in forecast.rates:
        assert rate == model.rates[step]
    seen = [step for step, _ in forecast.rates]
    assert seen == (list(range(len(model.rates))) if model.interval == "step" else [0, each, 2 * each, 3 * each])
    for step, rate in enumerate(model.rates):
        if model.interval == "epoch":
            assert rate == forecast.rates[step // each][1]


SHORT = ("LambdaLR", "OneCycleLR", "SequentialLR")


@pytest.mark.parametrize("interval", ["step", "epoch"])
@pytest.mark.parametrize(
    "name", [name if name in SHORT else pytest.param(name, marks=pytest.mark.slow) for name in ALL]
)
def test_what_is_foreseen_happens(name, interval):
    compare(Scheduled(ALL[name], interval))


@pytest.mark.parametrize(("interval", "frequency", "accumulate"), [("step", 2, 1), ("step", 1, 4), ("epoch", 2, 4)])
def test_frequency_and_accumulation_are_counted(interval, frequency, accumulate):
    compare(Scheduled(ALL["ExponentialLR"], interval, frequency), accumulate_grad_batches=accumulate)


def test_a_copy_leaves_the_scheduler_alone():
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([weight], 0.1)
    scheduler = schedules.OneCycleLR(optimizer, 0.1, total_steps=10)
    before = (str(scheduler.state_dict()), str(optimizer.state_dict()))
    rates = simulate(scheduler, 50, lambda step: True)
    assert len(rates) == 10 + 1 or len(rates) == 10
    assert (str(scheduler.state_dict()), str(optimizer.state_dict())) == before
    twin, stand = private_copy(scheduler)
    twin.step()
    assert twin.optimizer is stand
    assert math.isclose(optimizer.param_groups[0]["lr"], scheduler.get_last_lr()[0])


def test_words_and_keys_are_read_from_the_source():
    def configure(self):
        total_steps = 10
        return {"optimizer": self, "lr_scheduler": total_steps, "interval": "step"}

    assert words_of(configure) == ("total_steps",)
    assert misplaced_keys(configure) == {"interval": "step"}
    assert len(thinned([float(item) for item in range(1000)])) < 150
