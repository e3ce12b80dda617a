"""NonFiniteGuard clips bit for bit as torch does, on the unscaled gradient, and never by a norm that is no number."""

import math

import pytest
import torch
from pytorch_lightning.plugins import MixedPrecision
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug import NonFiniteGuard
from lightning_debug.evidence.numbers import StepWindow
from tests.guarded import Program, loader, mse, run, sgd
from tests.helpers import trainer


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setenv("LIGHTNING_DEBUG_STRICT", "1")
    monkeypatch.setenv("LIGHTNING_DEBUG_CONSOLE", "0")


class Recorder(Program):
    """Keeps the gradients that its optimizer gets."""

    def on_before_optimizer_step(self, optimizer):
        self.received = [item.grad.clone() for item in self.net.parameters()]


def clipped_by_hand(norm_type=2.0, max_norm=None, clip_value=None, **options):
    """The gradients of the same run, clipped with torch's own functions in the module's hook."""

    class Clips(Recorder):
        def on_before_optimizer_step(self, optimizer):
            if max_norm is not None:
                self.norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), max_norm, norm_type)
            if clip_value is not None:
                torch.nn.utils.clip_grad_value_(self.net.parameters(), clip_value)
            super().on_before_optimizer_step(optimizer)

    torch.manual_seed(7)
    program = Clips(**options)
    torch.manual_seed(1)
    trainer(max_epochs=1).fit(program, loader())
    return program


@pytest.mark.parametrize(
    "how",
    [
        {"max_norm": 0.1},
        {"max_norm": 100.0},
        {"max_norm": 0.05, "norm_type": 1.0},
        {"max_norm": 0.05, "norm_type": math.inf},
        {"clip_value": 0.01},
        {"max_norm": 0.3, "clip_value": 0.02},
    ],
    ids=str,
)
def test_clipping_is_torchs_own_bit_for_bit(how):
    action = "skip" if "norm_type" in how else "warn"
    theirs = clipped_by_hand(**how)
    torch.manual_seed(7)
    ours = Recorder()
    guard, raised = run(ours, guard=NonFiniteGuard(action=action, **how))
    assert raised is None
    assert all(map(torch.equal, ours.received, theirs.received))
    assert all(map(torch.equal, ours.state_dict().values(), theirs.state_dict().values()))
    window = guard.session.record.last(StepWindow)
    assert window.norm_type == how.get("norm_type", 2.0)
    if "max_norm" in how:
        assert window.gradient_norms["gradient_norm"][-1] == float(theirs.norm)
        assert (window.clip_norm, window.clipped_by) == (how["max_norm"], "NonFiniteGuard(max_norm)")
        assert window.clipped == (0 if how["max_norm"] == 100.0 else 4)


def test_clipping_of_sparse_and_dense_gradients_together():
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.linear = nn.EmbeddingBag(20, 8, sparse=True), nn.Linear(8, 4)

        def forward(self, x):
            return self.linear(self.words(x))

    def once(guard):
        torch.manual_seed(5)
        program = Program(lambda m, b: mse(m, b) * 100, sgd(1.0), Words())
        before = [item.detach().clone() for item in program.net.parameters()]
        data = DataLoader(TensorDataset(torch.randint(0, 20, (16, 6)), torch.randn(16, 4)), batch_size=16)
        _, raised = run(program, data, guard)
        assert raised is None
        return torch.cat([(a.detach() - b).flatten() for a, b in zip(program.net.parameters(), before, strict=True)])

    free, clipped = once(NonFiniteGuard()), once(NonFiniteGuard(max_norm=0.5))
    assert float(clipped.norm()) == pytest.approx(0.5, rel=1e-4)
    assert torch.allclose(clipped / clipped.norm(), free / free.norm(), atol=1e-5)
    assert float(once(NonFiniteGuard(clip_value=0.01)).abs().max()) == pytest.approx(0.01, rel=1e-4)


def test_a_norm_that_is_no_number_scales_nothing():
    def step(module, batch):
        return mse(module, batch) + torch.sqrt((module.net[0].bias * 0).square().sum())

    torch.manual_seed(7)
    program = Recorder(step)
    run(program, guard=NonFiniteGuard(max_norm=0.1), limit_train_batches=1)
    weight, bias, *rest = program.received
    assert torch.isnan(bias).all()
    assert all(torch.isfinite(item).all() for item in (weight, *rest))


@pytest.mark.parametrize("fused", [False, True])
def test_clipping_under_a_gradient_scaler_is_of_the_unscaled_gradient(fused):
    def once(guard):
        torch.manual_seed(5)
        program = Program(lambda m, b: mse(m, b) * 50, lambda p: torch.optim.SGD(p, lr=1.0, fused=fused))
        before = [item.detach().clone() for item in program.net.parameters()]
        plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=64.0))
        _, raised = run(program, guard=guard, plugins=[plugin], limit_train_batches=1)
        assert raised is None
        return torch.cat([(a.detach() - b).flatten() for a, b in zip(program.net.parameters(), before, strict=True)])

    assert float(once(NonFiniteGuard(max_norm=0.5)).norm()) == pytest.approx(0.5, rel=1e-2)
    assert float(once(NonFiniteGuard(clip_value=0.01)).abs().max()) == pytest.approx(0.01, rel=1e-2)
    guard = NonFiniteGuard()
    free = once(guard)
    window = guard.session.record.last(StepWindow)
    assert window.gradient_norms["gradient_norm"][0] == pytest.approx(float(free.norm()), rel=1e-3)
