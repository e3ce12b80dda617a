"""The learning-rate search on training runs whose best rate is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_debug.experiments.lr_search import search
from lightning_debug.experiments.lr_trials import Budget, Plan, run_sweep
from lightning_debug.experiments.lr_valley import Sweep, pool


class Quadratic:
    """Gradient descent on ``curvature * x² / 2`` with noise: diverges above 2 / curvature, best at 1 / curvature."""

    def __init__(self, curvature: float, noise: float = 0.01) -> None:
        self.curvature, self.noise, self.steps = curvature, noise, 0

    def rewind(self, order: int) -> None:
        self.x, self.generator = 10.0, torch.Generator().manual_seed(order)

    def step(self, lr: float) -> float:
        self.steps += 1
        loss = self.curvature * self.x**2 / 2 * (1 + self.noise * torch.randn((), generator=self.generator).item())
        self.x -= lr * self.curvature * self.x
        return loss if abs(self.x) < 1e18 else math.inf

    def held_out(self) -> float:
        return self.curvature * self.x**2 / 2


class Network:
    """A small net on learnable (or random) labels."""

    def __init__(self, optimizer, learnable=True) -> None:
        self.optimizer = optimizer
        torch.manual_seed(1)
        self.inputs = torch.randn(512, 8)
        self.labels = (self.inputs[:, :4].argmax(1)) if learnable else torch.randint(0, 4, (512,))

    def rewind(self, order):
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
        self.used = self.optimizer(self.net.parameters())
        self.generator = torch.Generator().manual_seed(order)

    def step(self, lr):
        rows = torch.randint(0, 400, (32,), generator=self.generator)
        self.used.param_groups[0]["lr"] = lr
        loss = F.cross_entropy(self.net(self.inputs[rows]), self.labels[rows])
        self.used.zero_grad()
        loss.backward()
        self.used.step()
        return loss.item()

    def held_out(self):
        with torch.no_grad():
            return F.cross_entropy(self.net(self.inputs[400:]), self.labels[400:]).item()


@pytest.mark.parametrize("curvature", [0.5, 30.0, 2000.0])
def test_finds_the_rate_that_descends_and_the_one_that_blows_up(curvature):
    found = search(Quadratic(curvature), Plan(trial_steps=40))
    assert found.range is not None
    assert found.range.clear
    assert found.range.lr_min < found.range.lr_max < 30 / curvature
    assert 0.02 / curvature < found.suggestion < 2 / curvature
    assert not any(math.isfinite(one.score) for one in found.trials if one.lr > 4 / curvature)


@pytest.mark.parametrize(
    ("optimizer", "low", "high"),
    [(lambda p: torch.optim.Adam(p, 1.0), 1e-3, 0.2), (lambda p: torch.optim.SGD(p, 1.0, momentum=0.9), 3e-3, 0.7)],
    ids=["adam", "momentum"],
)
def test_finds_a_rate_that_trains_a_network(optimizer, low, high):
    found = search(Network(optimizer), Plan(trial_steps=60), also=[1e-6])
    assert low <= found.suggestion <= high
    useless = next(one for one in found.trials if one.lr == 1e-6)
    best = min(found.trials, key=lambda one: one.score)
    assert useless.score > found.start_loss - 0.1 > best.score + 0.2


def test_trials_go_through_the_schedule_and_a_good_peak_is_taken():
    class Noted(Network):
        def rewind(self, order):
            super().rewind(order)
            self.rates = []

        def step(self, lr):
            self.rates.append(lr)
            return super().step(lr)

    runner = Noted(lambda p: torch.optim.SGD(p, 1.0, momentum=0.9))
    found = search(runner, Plan(trial_steps=60), shape=lambda share: 1 - share)
    assert runner.rates[-1] == pytest.approx(runner.rates[0] / 60)
    best = min(one.merit for one in found.trials)
    taken = next(one for one in found.trials if one.lr == found.suggestion)
    assert taken.merit <= best + 0.015 * (found.start_loss - best)


def test_a_suggestion_that_held_out_examples_do_not_support_says_so():
    class Memory(Network):
        def held_out(self):
            return 1.4 + 0.01 * sum(
                float((one - two).abs().sum()) for one, two in zip(self.now(), self.first, strict=True)
            )

        def now(self):
            return [one.detach().clone() for one in self.net.parameters()]

        def rewind(self, order):
            super().rewind(order)
            self.first = self.now()

    found = search(Memory(lambda p: torch.optim.SGD(p, 1.0, momentum=0.9)), Plan(trial_steps=60))
    assert found.suggestion is not None
    assert not found.falls
    assert "but the held-out loss does not (1.4 before, " in found.reason
    assert search(Network(lambda p: torch.optim.SGD(p, 1.0, momentum=0.9)), Plan(trial_steps=60)).falls


def test_labels_that_cannot_be_learnt_give_no_rate():
    found = search(Network(lambda p: torch.optim.SGD(p, 1.0), learnable=False), Plan(trial_steps=30))
    assert found.suggestion is None or min(one.score for one in found.trials) > found.start_loss - 0.1


def test_a_loss_that_is_never_finite_says_so():
    class Broken(Quadratic):
        def step(self, lr):
            return math.nan

    found = search(Broken(1.0), Plan())
    assert (found.range, found.suggestion) == (None, None)
    assert "not finite" in found.reason


def test_time_that_runs_out_is_said():
    found = search(Quadratic(1.0), Plan(), budget=Budget(-1.0))
    assert found.cut_short
    assert found.suggestion is None


def test_a_sweep_stops_once_it_diverges():
    runner = Quadratic(1000.0)
    sweep = run_sweep(runner, Plan(), order=0)
    assert len(sweep.lrs) < 100
    assert sweep.lrs[-1] < 1.0


def test_noise_in_one_sweep_does_not_move_the_range():
    lrs = tuple(10 ** (-7 + 8 * index / 99) for index in range(100))
    clean = tuple(2.0 - 1.5 / (1 + math.exp(-3 * (math.log10(lr) + 3))) for lr in lrs)
    dented = (*clean[:20], -5.0, *clean[21:])
    alone = pool([Sweep(lrs, clean)] * 3)
    mixed = pool([Sweep(lrs, clean), Sweep(lrs, dented), Sweep(lrs, clean)])
    assert (mixed.lr_min, mixed.lr_max) == (alone.lr_min, alone.lr_max)
    assert 1e-5 < alone.lr_min < 1e-3 < alone.lr_max
