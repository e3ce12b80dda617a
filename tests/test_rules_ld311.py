"""LD311: gradients that are clipped while a gradient scaler's scale is on them, and all that only looks like it."""

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins import MixedPrecision
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug import NonFiniteGuard
from lightning_debug.evidence.optimization import ScaledClipping
from tests.helpers import trainer


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setenv("LIGHTNING_DEBUG_STRICT", "1")
    monkeypatch.setenv("LIGHTNING_DEBUG_CONSOLE", "0")


class Net(pl.LightningModule):
    """Classifies; ``after``, ``before`` and ``manual`` are functions called at those places."""

    def __init__(self, manual=None, after=None, before=None):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
        self.scaler = torch.amp.GradScaler("cpu") if getattr(manual, "own", False) else None
        self.automatic_optimization = manual is None
        self._manual, self._after, self._before = manual, after, before

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        if self._manual is not None:
            self._manual(self, self.optimizers(), loss)
        return loss

    def on_after_backward(self):
        if self._after is not None:
            self._after(self)

    def on_before_optimizer_step(self, optimizer):
        if self._before is not None:
            self._before(self)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


def clip(module, limit=1.0):
    torch.nn.utils.clip_grad_norm_(module.parameters(), limit)


def clip_after_manual_backward(module, optimizer, loss):
    optimizer.zero_grad()
    module.manual_backward(loss)
    clip(module)
    optimizer.step()


def clip_as_lightning_does(module, optimizer, loss):
    optimizer.zero_grad()
    module.manual_backward(loss)
    module.clip_gradients(optimizer, gradient_clip_val=0.5, gradient_clip_algorithm="norm")
    optimizer.step()


def clip_values(module, limit):
    torch.nn.utils.clip_grad_value_(module.parameters(), limit)


def with_own_scaler(unscale, clip=clip):
    def step(module, optimizer, loss):
        optimizer = optimizer.optimizer
        optimizer.zero_grad()
        module.scaler.scale(loss).backward()
        if unscale:
            module.scaler.unscale_(optimizer)
        clip(module, 0.1)
        module.scaler.step(optimizer)
        module.scaler.update()

    step.own = True
    return step


def plain_step(module, optimizer, loss):
    optimizer.zero_grad()
    module.manual_backward(loss)
    optimizer.step()


def in_halves(module, optimizer, loss):
    optimizer.zero_grad()
    module.manual_backward(loss)
    for item in module.parameters():
        item.grad /= 64.0
    optimizer.step()


def times_the_scale(module, optimizer, loss):
    optimizer.zero_grad()
    module.manual_backward(loss)
    clip(module, 0.1 * module.trainer.precision_plugin.scaler.get_scale())
    optimizer.step()


def fit(net, guard=None, *, half=True, **options):
    torch.manual_seed(0)
    x = torch.randn(160, 8)
    data = DataLoader(TensorDataset(x, x[:, :4].argmax(1)), batch_size=8)
    plugins = [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))] if half else []
    guard = guard or NonFiniteGuard()
    one = trainer(guard, max_epochs=1, plugins=plugins, **options)
    one.fit(net, data)
    return guard, one


@pytest.mark.parametrize(
    ("net", "half", "limit", "fix"),
    [
        (lambda: Net(clip_after_manual_backward), True, 1.0, "NonFiniteGuard(max_norm=1)"),
        pytest.param(
            lambda: Net(clip_as_lightning_does), True, 0.5, "on_before_optimizer_step", marks=pytest.mark.slow
        ),
        (lambda: Net(after=clip), True, 1.0, "gradient_clip_val=1"),
        (lambda: Net(with_own_scaler(unscale=False)), False, 0.1, "scaler.unscale_(optimizer)"),
        (lambda: Net(with_own_scaler(unscale=False, clip=clip_values)), False, 0.1, "scaler.unscale_(optimizer)"),
    ],
    ids=["manual", "lightning", "after backward", "own scaler", "values"],
)
def test_clipping_before_unscaling(net, half, limit, fix):
    guard, one = fit(net(), half=half)
    (headline,) = guard.report.headlines
    assert headline.code == "LD311"
    assert headline.measured["threshold"] == pytest.approx(limit, rel=1e-3)
    used = headline.measured.get("used_norm", headline.measured.get("used_value"))
    assert used == pytest.approx(limit / headline.measured["scale"], rel=1e-3)
    assert fix in headline.fix
    if half:
        assert "unscale_" not in vars(one.precision_plugin.scaler)  # nothing of ours is left


@pytest.mark.parametrize(
    ("net", "half", "options"),
    [
        pytest.param(lambda: Net(plain_step), True, {}, marks=pytest.mark.slow),
        (lambda: Net(plain_step, before=clip), True, {}),
        pytest.param(lambda: Net(in_halves), True, {}, marks=pytest.mark.slow),
        (lambda: Net(times_the_scale), True, {}),
        (lambda: Net(), True, {"gradient_clip_val": 0.1}),
        pytest.param(
            lambda: Net(), True, {"accumulate_grad_batches": 2, "gradient_clip_val": 0.1}, marks=pytest.mark.slow
        ),
        pytest.param(lambda: Net(before=clip), True, {}, marks=pytest.mark.slow),
        (lambda: Net(with_own_scaler(unscale=True)), False, {}),
        (lambda: Net(with_own_scaler(unscale=True, clip=clip_values)), False, {}),
    ],
    ids=[
        "plain",
        "hook",
        "divided",
        "times the scale",
        "trainer",
        "accumulated",
        "automatic hook",
        "own unscaled",
        "values unscaled",
    ],
)
def test_what_only_looks_like_it(net, half, options):
    guard, _ = fit(net(), NonFiniteGuard(max_norm=0.05), half=half, **options)
    assert "LD311" not in [item.code for item in guard.report.findings]
    seen = guard.session.record.last(ScaledClipping)
    assert len(seen.arrived) >= 8


def test_a_run_without_a_scaler_is_not_watched():
    net = Net(plain_step)
    guard, _ = fit(net, half=False)
    assert guard.session.record.last(ScaledClipping) is None
    assert all(not item._post_accumulate_grad_hooks for item in net.parameters() if item._post_accumulate_grad_hooks)
