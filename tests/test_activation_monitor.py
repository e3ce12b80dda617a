"""ActivationMonitor: dead and saturated units are counted; sparse, gated and final activations are left alone."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug import ActivationMonitor
from lightning_debug.callbacks import activation_monitor
from lightning_debug.evidence.activations import ActivationHealth, UnitHealth
from lightning_debug.record import Record
from lightning_debug.rules.ld307_dead_units import dead_units
from tests.helpers import trainer

COUNT = 192


class Program(pl.LightningModule):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def training_step(self, batch, batch_idx):
        return F.binary_cross_entropy(self.net(batch[0]).squeeze(1), batch[1])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


class Gated(nn.Module):
    """Half of the gates are shut, and half wide open."""

    def __init__(self):
        super().__init__()
        self.value, self.gate, self.head = nn.Linear(8, 16), nn.Linear(8, 16), nn.Linear(16, 1)
        nn.init.constant_(self.gate.bias, 30.0)
        nn.init.constant_(self.gate.bias.data[:8], -30.0)

    def forward(self, inputs):
        return torch.sigmoid(self.head(self.value(inputs) * torch.sigmoid(self.gate(inputs))))


class Topped(nn.Module):
    """Of each sample's 64 units only four are left: sparse, and none dead."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(8, 32), nn.Linear(32, 1)

    def forward(self, inputs):
        hidden = self.first(inputs)
        least = hidden.topk(4, dim=1).values[:, -1:]
        return torch.sigmoid(self.head(torch.relu(hidden - least)))


def sequential(activation, change=None):
    net = nn.Sequential(nn.Linear(8, 16), activation, nn.Linear(16, 1), nn.Sigmoid())
    if change is not None:
        change(net)
    return net


def frozen_dead(net):
    nn.init.constant_(net[0].bias, -50.0)
    net[0].requires_grad_(False)


class ByHand(nn.Module):
    """Layers written as products with parameters."""

    def __init__(self, activation, scale=1.0, bias=0.0):
        super().__init__()
        self.activation = activation
        self.first, self.bias = nn.Parameter(scale * torch.randn(8, 16)), nn.Parameter(torch.full((16,), bias))
        self.second = nn.Parameter(torch.randn(16, 1) / 4)

    def forward(self, inputs):
        return torch.sigmoid(self.activation(inputs @ self.first + self.bias) @ self.second)


CASES = {
    "saturated products": (lambda: ByHand(torch.tanh, 40.0), ["LD308"]),
    "dead products": (lambda: ByHand(torch.relu, bias=-50.0), ["LD307"]),
    "healthy products": (lambda: ByHand(torch.tanh, 0.3), []),
    "dead": (lambda: sequential(nn.ReLU(), lambda net: nn.init.constant_(net[0].bias, -50.0)), ["LD307"]),
    "saturated": (lambda: sequential(nn.Tanh(), lambda net: nn.init.constant_(net[0].bias, 20.0)), ["LD308"]),
    "by hand": (lambda: sequential(nn.Sigmoid(), lambda net: nn.init.normal_(net[0].weight, std=80.0)), ["LD308"]),
    "healthy": (lambda: sequential(nn.ReLU()), []),
    "frozen": (lambda: sequential(nn.ReLU(), frozen_dead), []),
    "certain": (lambda: sequential(nn.ReLU(), lambda net: nn.init.constant_(net[2].bias, 40.0)), []),
    "gates": (Gated, []),
    "sparse": (Topped, []),
}


@pytest.mark.parametrize("case", CASES)
def test_units(case, monkeypatch):
    monkeypatch.setenv("LIGHTNING_DEBUG_STRICT", "1")
    monkeypatch.setenv("LIGHTNING_DEBUG_CONSOLE", "0")
    torch.manual_seed(0)
    make, expected = CASES[case]
    inputs = torch.randn(COUNT, 8)
    loader = DataLoader(TensorDataset(inputs, (inputs[:, 0] > 0).float()), batch_size=24, shuffle=True)
    watch = ActivationMonitor()
    trainer(watch, max_epochs=4).fit(Program(make()), loader)
    assert [item.code for item in watch.report.findings] == expected


def test_small_batches_take_more_looks(monkeypatch):
    """Three batches of 16 with a last one of 4 hold too few samples to say that a unit is dead."""
    monkeypatch.setenv("LIGHTNING_DEBUG_STRICT", "1")
    monkeypatch.setenv("LIGHTNING_DEBUG_CONSOLE", "0")
    torch.manual_seed(0)
    make, expected = CASES["dead"]
    inputs = torch.randn(36, 8)
    loader = DataLoader(TensorDataset(inputs, (inputs[:, 0] > 0).float()), batch_size=16, shuffle=True)
    watch = ActivationMonitor()
    trainer(watch, max_epochs=12).fit(Program(make()), loader)
    assert [item.code for item in watch.report.findings] == expected


def test_looks_grow_rare_and_come_again_where_units_fall_silent(monkeypatch):
    """Of 900 steps eight are looked at; where units have died half-way, two more follow, and tell."""
    monkeypatch.setenv("LIGHTNING_DEBUG_STRICT", "1")
    monkeypatch.setenv("LIGHTNING_DEBUG_CONSOLE", "0")
    looks = []

    def seen(trainer, pl_module, batch, batch_idx):
        looks.append(len(steps) - 1)
        dead = torch.full((16,), len(steps) > 700)
        facts = {"function": "relu", "module": "net.1", "module_type": "ReLU", "feeds_layer": True}
        return 64, {("relu", "net.1", "", 0, 16): activation_monitor._Unit(dead, torch.zeros_like(dead), facts)}

    monkeypatch.setattr(activation_monitor, "_units", seen)
    steps = []

    class Steps(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            steps.append(batch_idx)

    inputs = torch.randn(4 * 1000, 8)
    watch = ActivationMonitor()
    loader = DataLoader(TensorDataset(inputs, (inputs[:, 0] > 0).float()), batch_size=4)
    trainer(Steps(), watch, max_epochs=1).fit(Program(sequential(nn.ReLU())), loader)
    assert looks == [0, 20, 60, 180, 430, 680, 930, 940, 950]
    assert [item.code for item in watch.report.findings] == ["LD307"]


@pytest.mark.parametrize(("at_start", "silent", "expected"), [(0, 28, 1), (28, 28, 1), (16, 30, 1), (15, 25, 0)])
def test_units_that_chance_silenced_do_not_count_among_those_that_died(at_start, silent, expected):
    """Where the input hardly varies (a maximum over many points), half of the units are silent from the start."""
    layer = UnitHealth(function="relu", module="net.1", units=32, silent=silent, silent_at_start=at_start)
    seen = ActivationHealth(steps=100, looks=3, samples=96, layers=(layer,))
    assert len(list(dead_units(Record([seen])))) == expected
