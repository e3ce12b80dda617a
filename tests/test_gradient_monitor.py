"""GradientMonitor, and the rules about gradients that explode or vanish, on plain evidence and on real runs."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug import GradientMonitor, NonFiniteGuard
from lightning_debug.evidence import Moment
from lightning_debug.evidence.gradients import GradientProfile, LayerGradient
from lightning_debug.evidence.numbers import StepWindow
from lightning_debug.finding import Claim
from lightning_debug.probes.gradient_profile import layer_norms, layers_of
from lightning_debug.record import Record
from lightning_debug.rules.ld305_exploding_gradient import exploding_gradient
from lightning_debug.rules.ld306_vanishing_gradient import vanishing_gradient
from tests.helpers import codes, pl, trainer


def window(losses, norms, name="loss"):
    steps = tuple(range(len(losses)))
    return Record(
        [StepWindow(steps=steps, losses={name: tuple(losses)}, gradient_norms={"gradient_norm": tuple(norms)})]
    )


def claims(rule, record):
    return [item for item in rule(record) if isinstance(item, Claim)]


FALLING = [2.0 - 0.02 * step for step in range(60)]


@pytest.mark.parametrize(
    ("losses", "norms"),
    [
        (FALLING + [0.8] * 40, [1.0] * 60 + [300.0] + [1.0] * 39),  # a jump that the loss does not follow
        (FALLING + [9.0] * 3 + [0.8] * 37, [1.0] * 60 + [300.0] + [1.0] * 39),  # that recovers
        ([2.0 * 0.99**step for step in range(100)], [0.01 * 1.1**step for step in range(100)]),  # warm-up
        ([2.0 * 0.75**step for step in range(60)] + [2e-6] * 40, [1e-7] * 60 + [1e-4] * 40),  # converged
        ([2.0, 1.5, 1.2, *[1.0] * 97], [500.0, 80.0, 10.0, *[1.0] * 97]),  # the first steps
    ],
)
def test_norms_that_jump_without_harm(losses, norms):
    assert not claims(exploding_gradient, window(losses, norms))


def test_several_losses_are_not_judged():
    record = Record([StepWindow(steps=(0, 1), losses={"loss_0": (1.0, 2.0), "loss_1": (1.0, 2.0)})])
    assert not claims(exploding_gradient, record)


def test_a_jump_that_costs_what_was_learned():
    record = window(FALLING + [30.0] * 40, [1.0] * 60 + [300.0] + [5.0] * 39)
    (found,) = claims(exploding_gradient, record)
    assert found.measured["step"] == 60
    assert "max_norm=3" in found.fix


def looks(sizes, steps=(50, 100, 200), index=0):
    layers = tuple(LayerGradient(name=f"net.{i}.weight", values=9, gradient=g, weight=1.0) for i, g in enumerate(sizes))
    return [GradientProfile(layers=layers, index=index, at=Moment(step=step)) for step in steps]


DYING = (1e-9, 1e-8, 1e-6, 1e-4, 1e-2)


def vanishing(losses, *profiles):
    record = window(losses, [1.0] * len(losses))
    for item in profiles:
        record.add(item)
    return claims(vanishing_gradient, record)


def test_it_vanishes_only_where_nothing_is_learned():
    assert vanishing([1.4] * 200, *looks(DYING))
    assert not vanishing([1.4 * 0.99**step for step in range(200)], *looks(DYING))
    assert not vanishing([1.4] * 200, *looks((1e-3, 2e-3, 5e-3, 1e-2, 3e-2)))
    assert not vanishing([1.4] * 200, *looks(DYING[::-1]))
    assert not vanishing([1.4] * 200, *looks(DYING), *looks(DYING, index=1))
    assert not vanishing([0.0] * 200, *looks(DYING))


class Net(pl.LightningModule):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def loader():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(320, 8, generator=generator)
    return DataLoader(TensorDataset(inputs, (inputs[:, 0] > 0).long()), batch_size=16, shuffle=True)


@pytest.mark.parametrize("deep", [False, True])
def test_a_deep_sigmoid_net_and_a_shallow_one(deep):
    torch.manual_seed(0)
    middle = [layer for _ in range(9) for layer in (nn.Linear(16, 16), nn.Sigmoid())] if deep else []
    net = nn.Sequential(nn.Linear(8, 16), nn.Sigmoid(), *middle, nn.Linear(16, 2))
    monitor, guard = GradientMonitor(), NonFiniteGuard()
    trainer(monitor, guard, max_epochs=6).fit(Net(net), loader())
    assert codes(monitor.report) == (["LD306"] if deep else [])


def test_norms_are_those_of_each_layer():
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    net(torch.randn(5, 3)).sum().backward()
    layers = layers_of(net, torch.optim.SGD(net.parameters()))
    assert [name for name, _ in layers] == ["0.weight", "1.weight"]
    expected = [net[0].weight.grad.norm(), net[1].weight.grad.norm(), net[0].weight.norm(), net[1].weight.norm()]
    found = [float(item) for item in layer_norms([item for _, item in layers])]
    assert found == pytest.approx([item.item() for item in expected])
