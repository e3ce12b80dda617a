"""Programs that look as if something were not finite, and are healthy: not a word about any of them."""

import math

import pytest
import torch
from pytorch_lightning.plugins import MixedPrecision
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug import NonFiniteGuard
from lightning_debug.evidence.numbers import NonFiniteStep, StepWindow
from tests.guarded import Program, loader, mse, run, sgd, table


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setenv("LIGHTNING_DEBUG_STRICT", "1")
    monkeypatch.setenv("LIGHTNING_DEBUG_CONSOLE", "0")


def silent(program, data=None, **options):
    guard, raised = run(program, data, **options)
    assert raised is None, raised
    assert guard.report.status == "finished"
    assert not [item for item in guard.report.findings if item.code != "LD310"]
    return guard


def test_an_ordinary_run():
    guard = silent(Program())
    left = [skip.code for skip in guard.report.skips if skip.code.startswith("LD3")]
    assert set(left) <= {"LD311", "LD312"}  # nothing is scaled, and no step skipped


class Attention(nn.Module):
    """Causal attention whose mask is a buffer of -Inf."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 12)
        self.register_buffer("mask", torch.full((4, 4), -torch.inf).triu(1))

    def forward(self, x):
        q, k, v = self.linear(x).chunk(3, -1)
        return torch.softmax(q @ k.mT / 2 + self.mask, -1) @ v


def sequence_loss(module, batch):
    return F.mse_loss(module.net(batch[0].unflatten(0, (-1, 4))).flatten(0, 1), batch[1])


def test_a_mask_of_infinity_in_a_buffer():
    silent(Program(sequence_loss, net=Attention()))


def test_a_frozen_parameter_of_infinity():
    net = Attention()
    mask = net.mask
    del net.mask
    net.mask = nn.Parameter(mask, requires_grad=False)
    silent(Program(sequence_loss, net=net))


def masked_scores(module, batch):
    x, target, mask = batch
    return F.mse_loss(torch.softmax(module.net(x) + mask, -1), target)


@pytest.mark.parametrize("closed", [-torch.inf, float("-inf")])
def test_a_mask_of_infinity_in_the_batch(closed):
    x, y = table()
    mask = torch.zeros(64, 4)
    mask[:, 2:] = closed
    silent(Program(masked_scores), loader(x, y.softmax(-1), mask))


def test_a_run_with_a_mask_that_breaks_for_another_reason_does_not_blame_the_mask():
    x, y = table()
    mask = torch.zeros(64, 4)
    mask[:, 2:] = -torch.inf
    guard, _ = run(Program(masked_scores, sgd(1e30)), loader(x * 1e20, y * 1e20, mask), max_epochs=3)
    assert guard.report.findings
    assert not any(item.code == "LD301" for item in guard.report.findings)


def select_targets(module, batch):
    known = ~batch[1].isnan()
    return F.mse_loss(module.net(batch[0])[known], batch[1][known])


def replace_targets(module, batch):
    known = ~batch[1].isnan()
    target = torch.nan_to_num(batch[1])
    return torch.where(known, (module.net(batch[0]) - target) ** 2, torch.zeros(())).sum() / known.sum().clamp(min=1)


def nan_mean(module, batch):
    with torch.no_grad():
        target = torch.where(batch[1].isnan(), module.net(batch[0]), batch[1])
    return F.mse_loss(module.net(batch[0]), target)


@pytest.mark.parametrize("step", [select_targets, replace_targets, nan_mean])
def test_targets_of_nan_that_the_loss_masks(step):
    x, y = table()
    y[::3, 1] = torch.nan
    silent(Program(step), loader(x, y))


def impute(module, batch):
    return F.mse_loss(module.net(torch.nan_to_num(batch[0])), batch[1])


def impute_and_tell(module, batch):
    missing = batch[0].isnan()
    x = torch.where(missing, torch.zeros(()), batch[0])
    return F.mse_loss(module.net(x), batch[1]) + 0.0 * missing.float().mean()


def largest_wins(module, batch):
    x = batch[0].masked_fill(batch[0].isnan(), -torch.inf)
    return F.mse_loss(module.net(batch[0].nan_to_num() * x.amax(1, keepdim=True).clamp(0, 1)), batch[1])


@pytest.mark.parametrize("step", [impute, impute_and_tell, largest_wins])
def test_missing_features_that_the_model_fills_in(step):
    x, y = table()
    x[::5, 3] = torch.nan
    silent(Program(step), loader(x, y))


def test_missing_values_in_a_run_that_breaks_for_another_reason_are_not_blamed():
    x, y = table()
    x[::5, 3] = torch.nan
    guard, _ = run(Program(lambda m, b: impute(m, b) + torch.log(b[0][:1, :1] * 0).mean()), loader(x, y))
    assert [item.code for item in guard.report.headlines] == ["LD302"]
    assert guard.report.headlines[0].measured["operation"] == "log"


def huge(module, batch):
    return mse(module, batch) * 1e30


def test_a_huge_but_finite_loss_and_a_gradient_norm_whose_squares_overflow():
    guard = silent(Program(huge, sgd(0.0)))
    norms = guard.session.record.last(StepWindow).gradient_norms["gradient_norm"]
    assert all(math.isfinite(value) and value > 1e25 for value in norms)


@pytest.mark.parametrize("action", ["skip", "stop", "raise"])
def test_an_overflowing_norm_of_finite_gradients_is_no_reason_to_act(action):
    program = Program(huge, sgd(1e-33))
    before = program.net[0].weight.detach().clone()
    silent(program, guard=NonFiniteGuard(action=action, max_norm=1e31))
    assert not torch.equal(before, program.net[0].weight)


def negative(module, batch):
    mean, log_scale = module.net(batch[0]).chunk(2, -1)
    return (
        -torch.distributions.Normal(mean, log_scale.exp().clamp(1e-3, 1e3))
        .log_prob(batch[1][:, :2] * 1e-3)
        .sum(1)
        .mean()
    )


def spiky(module, batch):
    return mse(module, batch) * (1e4 if len(module.seen) == 5 else 1.0)


def summed(module, batch):
    return F.mse_loss(module.net(batch[0]), batch[1], reduction="sum") * 1e3


@pytest.mark.parametrize("step", [negative, spiky, summed])
def test_losses_of_odd_size(step):
    silent(Program(step), max_epochs=3)


def test_infinite_starting_values_of_trackers():
    class Tracker(nn.Linear):
        def __init__(self):
            super().__init__(8, 4)
            self.register_buffer("best", torch.tensor(torch.inf))
            self.register_buffer("lowest", torch.tensor(torch.inf))
            self.register_buffer("highest", torch.tensor(-torch.inf))
            self.register_buffer("not_yet", torch.tensor(torch.nan))
            self.register_buffer("counts", torch.zeros(3, dtype=torch.long))

    silent(Program(net=Tracker()))


@pytest.mark.filterwarnings("ignore:.training_step. returned .None.")
def test_no_loss_on_some_batches_and_a_loss_in_a_dict():
    silent(Program(lambda m, b: None if len(m.seen) % 2 else mse(m, b)))
    silent(Program(lambda m, b: {"loss": mse(m, b), "extra": torch.tensor(torch.nan)}))


def test_the_start_of_a_gradient_scaler():
    """The scale begins far too high, and the scaler leaves steps out until it fits."""

    def step(module, batch):
        return F.mse_loss(module.net(batch[0]).float(), batch[1]) * 100

    plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**20))
    guard = silent(Program(step), plugins=[plugin], max_epochs=4)
    windows = guard.session.record.of(StepWindow)
    assert sum(window.skipped_by_scaler for window in windows) >= 3
    assert plugin.scaler.get_scale() < 2.0**20


@pytest.mark.parametrize("action", ["skip", "stop", "raise"])
def test_the_start_of_a_gradient_scaler_is_no_reason_to_act(action):
    plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**22))
    guard = silent(
        Program(lambda m, b: mse(m, b) * 100), plugins=[plugin], max_epochs=4, guard=NonFiniteGuard(action=action)
    )
    assert not guard.session.record.seen(NonFiniteStep) or guard.session.record.last(NonFiniteStep).unscaled_finite


def test_unused_rows_and_sparse_gradients():
    net = nn.Sequential(nn.Embedding(50, 4, sparse=True))
    words = torch.randint(0, 20, (64,))
    data = DataLoader(TensorDataset(words, torch.randn(64, 4)), batch_size=16)
    program = Program(mse, lambda parameters: torch.optim.SparseAdam(list(parameters), lr=0.01), net)
    guard = silent(program, data)
    assert len(guard.session.record.last(StepWindow).gradient_norms["gradient_norm"]) == 4


def test_a_closure_that_is_called_again_and_again():
    silent(Program(optimizer=lambda parameters: torch.optim.LBFGS(parameters, lr=0.1, max_iter=5)), max_epochs=2)
