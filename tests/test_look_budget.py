"""Looks that come again wait until the run can bear them; the first of each kind is always taken."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug import Debugger
from lightning_debug.callbacks import _look_budget, activation_monitor, curve_diagnoser, model_inspector
from lightning_debug.callbacks._data_watch import StepWatch
from lightning_debug.callbacks._look_budget import (
    FLOOR,
    first_granted,
    granted,
    looking,
    may_begin,
    may_look,
    priced,
)
from lightning_debug.evidence import RunContext
from lightning_debug.evidence.curves import TrainingLossInEval
from lightning_debug.probes.batch_roles import batch_roles
from lightning_debug.session import Session
from lightning_debug.settings import Settings
from tests.helpers import debugged


class Clock:
    """Time that passes when it is told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(_look_budget, "working_time", found)
    return found


def test_looks_share_a_floor_and_then_a_share_of_the_run(clock):
    session = Session(Settings.resolve())
    assert granted(session) == FLOOR
    with looking(session):
        clock.now += 2.0
    assert may_look(session, 1.0)
    assert not may_look(session, 1.1)
    clock.now += 98.0
    assert granted(session) == pytest.approx(3.0), "a twentieth of the 100 s so far, less the 2 s"
    assert granted(Session(Settings.resolve())) == FLOOR, "every fit has its own"


def test_what_is_looked_at_first_keeps_to_a_share_of_the_plan(clock):
    session = Session(Settings.resolve())
    session.observe(RunContext(planned_steps=100))
    assert may_begin(session, passes=5), "no price is known yet"
    priced(session, 2.0)
    priced(session, 3.0)
    assert first_granted(session) == pytest.approx(20.0), "a tenth of 100 steps of 2 s: the least price counts"
    assert may_begin(session, passes=10)
    assert not may_begin(session, passes=11)
    with looking(session), looking(session):
        clock.now += 20.5
    assert not may_begin(session), "one look inside another is charged once, and all of it is spent"
    priced(session, 0.05)
    assert may_begin(session, passes=5), "what takes so little is always looked at"
    assert not may_begin(session, passes=6)


class Program(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


@pytest.mark.parametrize(
    ("seconds", "activations", "dependence", "measured"), [(60.0, 4, 3, [8, 16]), (-1.0, 1, 2, [3, 3])]
)
def test_where_looks_are_dear_only_the_first_are_taken(seconds, activations, dependence, measured, monkeypatch):
    monkeypatch.setattr(_look_budget, "FLOOR", seconds)
    monkeypatch.setattr(_look_budget, "SHARE", 0.0)
    monkeypatch.setattr(curve_diagnoser, "LEAST", seconds)
    looks = {"activations": 0, "dependence": 0}

    def counted(name, function):
        def run(*arguments, **named):
            looks[name] += 1
            return function(*arguments, **named)

        return run

    for name, module, function in (
        ("activations", activation_monitor, "_units"),
        ("dependence", model_inspector, "input_dependence"),
    ):
        monkeypatch.setattr(module, function, counted(name, getattr(module, function)))
    torch.manual_seed(0)
    inputs = torch.randn(320, 8)
    data = TensorDataset(inputs, (inputs[:, 0] > 0).long())
    debugger = Debugger(strict=True, console=False, experiment_seconds=0.0)
    debugged(Program(), DataLoader(data, 16, shuffle=True), DataLoader(data, 64), debugger=debugger, max_epochs=3)
    assert looks == {"activations": activations, "dependence": dependence}
    assert [item.batches for item in debugger.session.record.of(TrainingLossInEval)] == measured


def test_following_steps_is_charged_and_ends_where_it_is_dear(monkeypatch):
    session, told = Session(Settings.resolve()), []
    watch = StepWatch(told.append, lambda tell: tell(), session)
    model = Program()
    batch = torch.randn(4, 8), torch.tensor([0, 1, 1, 0])

    def followed():
        watch.train_batch(model, batch, 0, 0, batch_roles(batch))
        found = "training_step" in vars(model)
        model.training_step(batch, 0)
        return found

    assert followed()
    assert granted(session) < FLOOR
    watch._spent, watch._price = 5.0, 0.5
    monkeypatch.setattr(_look_budget, "FLOOR", 1.0)
    assert followed()
    watch._price = 2.0
    assert not followed()
    watch._spent = watch._price = 0.2
    assert followed(), "what is cheap goes on"
    watch.release()
