"""clip_plain clips bit for bit as torch does, and leaves everything else to the long way."""

import math

import pytest
import torch
from torch import nn

from lightning_debug import NonFiniteGuard
from lightning_debug.evidence.numbers import StepWindow
from lightning_debug.probes.gradient_norms import clip_plain
from tests.guarded import Program, loader, mse, run


def optimizer_of(*gradients):
    """An optimizer of parameters with these gradients."""
    parameters = []
    for gradient in gradients:
        parameters.append(nn.Parameter(torch.zeros(gradient.shape, dtype=gradient.dtype, device=gradient.device)))
        parameters[-1].grad = gradient.clone()
    return torch.optim.SGD([*parameters, nn.Parameter(torch.zeros(3))], lr=1.0)


def received(optimizer):
    return [item.grad for item in optimizer.param_groups[0]["params"] if item.grad is not None]


SHARES = (0.0, 1e-6, 0.3, 0.98, 0.99, 0.999, 0.99999, 1.0, 1.00001, 1.001, 1.01, 7.0)


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64], ids=str
)
@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, math.inf])
def test_it_is_torchs_clipping_bit_for_bit(dtype, norm_type):
    torch.manual_seed(3)
    gradients = [torch.randn(5, 7, dtype=dtype), torch.randn(11, dtype=dtype), torch.randn((), dtype=dtype)]
    for share in SHARES:
        ours, theirs = optimizer_of(*gradients), optimizer_of(*gradients)
        limit = share * float(torch.nn.utils.get_total_norm(gradients, norm_type).abs())
        norm = clip_plain(ours, limit, norm_type)
        assert torch.equal(norm, torch.nn.utils.clip_grad_norm_(theirs.param_groups[0]["params"], limit, norm_type))
        assert all(map(torch.equal, received(ours), received(theirs)))


ODD = {
    "of two types": [torch.ones(3) * 9, torch.ones(3, dtype=torch.float64)],
    "sparse": [torch.eye(3).to_sparse() * 9, torch.ones(3)],
    "NaN": [torch.tensor([9.0, math.nan])],
    "infinite": [torch.tensor([9.0, math.inf]), torch.ones(3)],
    "overflowing": [torch.tensor([1e25, 1e25])],
    "on another device": [torch.ones(3, device="meta")],
    "none": [],
}


@pytest.mark.parametrize("name", ODD)
def test_it_does_nothing_about_gradients_that_are(name):
    optimizer = optimizer_of(*ODD[name])
    assert clip_plain(optimizer, 1.0, 2.0) is None
    for item, gradient in zip(received(optimizer), ODD[name], strict=True):
        assert gradient.is_meta or torch.equal(item.to_dense().nan_to_num(), gradient.to_dense().nan_to_num())


def test_it_does_nothing_about_gradients_with_a_graph():
    weight = nn.Parameter(torch.ones(3))
    weight.grad = weight * 27
    assert clip_plain(torch.optim.SGD([weight]), 1.0, 2.0) is None
    assert torch.equal(weight.grad.detach(), torch.full((3,), 27.0))


class Two(Program):
    """Two optimizers in each step; the gradients of the second are of two types."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.first, self.second = nn.Linear(8, 4), nn.Linear(8, 4)
        self.other = nn.Parameter(torch.ones(4, dtype=torch.float64))
        self.expected = []

    def configure_optimizers(self):
        mixed = [*self.second.parameters(), self.other]
        return [torch.optim.SGD(self.first.parameters(), lr=0.01), torch.optim.SGD(mixed, lr=0.01)]

    def training_step(self, batch, batch_idx):
        for optimizer, part in zip(self.optimizers(), (self.first, self.second), strict=True):
            optimizer.zero_grad()
            loss = (part(batch[0]) * self.other).square().sum()
            self.manual_backward(loss)
            norms = [float(item.grad.norm()) for group in optimizer.param_groups for item in group["params"]]
            self.expected.append(math.hypot(*norms))
            optimizer.step()


def test_norms_of_both_ways_stand_in_one_window():
    torch.manual_seed(0)
    program = Two()
    guard, raised = run(program, loader(), NonFiniteGuard(max_norm=0.25))
    assert raised is None
    window = guard.session.record.last(StepWindow)
    assert set(window.gradient_norms) == {"gradient_norm_0", "gradient_norm_1"}
    for place in (0, 1):
        assert window.gradient_norms[f"gradient_norm_{place}"] == pytest.approx(program.expected[place::2], rel=1e-5)
    assert len(window.losses["loss_0"]) == len(window.losses["loss_1"]) == len(window.steps)
    assert window.clipped == sum(norm > 0.25 for norm in program.expected) > 0


def test_the_window_is_the_same_by_either_way(monkeypatch):
    def once():
        torch.manual_seed(0)
        program = Program(mse)
        torch.manual_seed(1)
        guard, raised = run(program, loader(), NonFiniteGuard(max_norm=0.3), accumulate_grad_batches=2, max_epochs=3)
        assert raised is None
        return guard.session.record.of(StepWindow), program.state_dict()

    (quick, weights), seen = once(), []
    monkeypatch.setattr("lightning_debug.callbacks._guard_watch.clip_plain", lambda *how: seen.append(how))
    slow, others = once()
    assert seen
    assert quick == slow
    assert all(map(torch.equal, weights.values(), others.values()))
