"""A step that is left out is no step at all: the run is, bit for bit, one in which that batch never was."""

import copy

import pytest
import torch
from pytorch_lightning.plugins import MixedPrecision
from torch import nn
from torch.nn import functional as F

from lightning_debug import FaultFound, NonFiniteGuard
from lightning_debug.evidence.numbers import NonFiniteStep, StepWindow
from tests.guarded import Program, loader, run, table

BAD = 2


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setenv("LIGHTNING_DEBUG_STRICT", "1")
    monkeypatch.setenv("LIGHTNING_DEBUG_CONSOLE", "0")


def net():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 4))


def adamw(parameters):
    return torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.5)


def heavy_sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=0.1, nesterov=True)


def fused(parameters):
    return torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.5, fused=True)


def rmsprop(parameters):
    return torch.optim.RMSprop(parameters, lr=0.01, momentum=0.5, weight_decay=0.1)


def of_loss(module, batch):
    """Its loss is NaN on the batch that holds the mark."""
    bad = (batch[1][0, 0] == 777.0).float()
    target = batch[1].masked_fill(batch[1] == 777.0, 0.0)
    return F.mse_loss(module.net(batch[0]), target) * (1 + torch.log(1 - 2 * bad))


def of_gradient(module, batch):
    """Its loss is finite, and its gradient NaN on the batch that holds the mark."""
    bad = batch[1][0, 0] == 777.0
    target = batch[1].masked_fill(batch[1] == 777.0, 0.0)
    prediction = module.net(batch[0])
    return F.mse_loss(prediction, target) + torch.sqrt((prediction * (~bad)).square().sum())


def data(bad=True, without=False, size=8):
    x, y = table(64)
    if bad:
        y[BAD * size, 0] = 777.0
    if without:
        keep = torch.ones(64, dtype=torch.bool)
        keep[BAD * size : (BAD + 1) * size] = False
        x, y = x[keep], y[keep]
    return loader(x, y, batch_size=size)


def state(program, trainer=None):
    optimizers = program.optimizers()
    optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
    return {
        "weights": {name: value.clone() for name, value in program.net.state_dict().items()},
        "optimizers": [copy.deepcopy(item.optimizer.state_dict()["state"]) for item in optimizers],
    }


def same(first, second):
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


@pytest.mark.parametrize(
    ("step", "optimizer", "clip"),
    [
        *((of_gradient, optimizer, {}) for optimizer in (adamw, heavy_sgd, fused, rmsprop)),
        *((of_loss, optimizer, {"gradient_clip_val": 0.5}) for optimizer in (adamw, heavy_sgd, fused)),
    ],
)
def test_a_skipped_step_never_was(step, optimizer, clip):
    skipping = Program(step, optimizer, net())
    guard, raised = run(skipping, data(), NonFiniteGuard(action="skip"), **clip)
    without = Program(step, optimizer, net())
    run(without, data(without=True), NonFiniteGuard(action="skip"), **clip)
    assert raised is None
    assert same(state(skipping), state(without))
    assert sum(window.skipped for window in guard.session.record.of(StepWindow)) == 1
    assert guard.session.record.first(NonFiniteStep).action == "skip"


@pytest.mark.parametrize(("step", "code"), [(of_gradient, "LD303"), (of_loss, "LD302")])
def test_how_many_steps_were_left_out_is_told(step, code):
    guard, _ = run(Program(step, adamw, net()), data(), NonFiniteGuard(action="skip"), max_epochs=3)
    assert next(item.measured["steps_left_out"] for item in guard.report.findings if item.code == code) == 3
    warned, _ = run(Program(step, adamw, net()), data(), NonFiniteGuard())
    assert all("steps_left_out" not in item.measured for item in warned.report.findings)


def test_a_skipped_step_of_our_own_clipping_never_was():
    skipping, without = Program(of_gradient, adamw, net()), Program(of_gradient, adamw, net())
    run(skipping, data(), NonFiniteGuard(action="skip", max_norm=0.3, clip_value=0.05))
    run(without, data(without=True), NonFiniteGuard(action="skip", max_norm=0.3, clip_value=0.05))
    assert same(state(skipping), state(without))


class Manual(Program):
    """Two optimizers, stepped by hand; the loss of the first is bad on the marked batch."""

    automatic_optimization = False

    def training_step(self, batch, batch_idx):
        for optimizer, step in zip(self.optimizers(), (self._step, mse_of_known), strict=True):
            optimizer.zero_grad()
            self.manual_backward(step(self, batch))
            optimizer.step()

    def configure_optimizers(self):
        layers = list(self.net)
        first = [*layers[0].parameters(), *layers[1].parameters()]
        return [adamw(first), heavy_sgd(layers[3].parameters())]


def mse_of_known(module, batch):
    return F.mse_loss(module.net(batch[0]), batch[1].masked_fill(batch[1] == 777.0, 0.0))


class Half(MixedPrecision):
    """Float16 autocast on the CPU, at a scale that fits from the start."""

    def __init__(self):
        super().__init__("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=1000))


def test_manual_optimization_leaves_out_the_optimizer_with_the_bad_gradient_only():
    program = Manual(of_gradient, net=net())
    guard, raised = run(program, data(), NonFiniteGuard(action="skip"))
    assert raised is None
    first, second = (item.optimizer for item in program.optimizers())
    assert {int(value["step"]) for value in first.state.values()} == {7}
    assert len(second.state) == 2
    assert all(torch.isfinite(value).all() for value in program.net.state_dict().values())
    norms = guard.session.record.last(StepWindow).gradient_norms
    assert set(norms) == {"gradient_norm_0", "gradient_norm_1"}


@pytest.mark.parametrize("optimizer", [adamw, heavy_sgd, fused])
def test_under_a_gradient_scaler(optimizer):
    """The scaler leaves the step out; the guard must not disturb it."""
    bare, guarded = Program(of_gradient, optimizer, net()), Program(of_gradient, optimizer, net())
    plugins = [Half(), Half()]
    torch.manual_seed(1)
    from tests.helpers import trainer

    trainer(max_epochs=1, plugins=[plugins[0]]).fit(bare, data())
    _, raised = run(guarded, data(), NonFiniteGuard(action="skip"), plugins=[plugins[1]])
    assert raised is None
    assert same(state(bare), state(guarded))
    assert plugins[0].scaler.get_scale() == plugins[1].scaler.get_scale() == 4.0


def test_manual_optimization_under_a_gradient_scaler():
    program = Manual(of_gradient, net=net())
    guard, raised = run(program, data(), NonFiniteGuard(action="skip"), plugins=[Half()])
    assert raised is None
    assert all(torch.isfinite(value).all() for value in program.net.state_dict().values())
    losses = guard.session.record.last(StepWindow).losses
    assert set(losses) == {"loss_0", "loss_1"}
    assert all(0 < value < 100 for value in losses["loss_1"])  # not multiplied by the scale


@pytest.mark.parametrize("step", [of_loss, of_gradient])
def test_a_bad_micro_batch_takes_its_window_along(step):
    """Four micro-batches of 4 to a step: the window of the bad one is left out, statistics included."""
    skipping, without = Program(step, adamw, net()), Program(step, adamw, net())
    x, y = table(64)
    y[20, 0] = 777.0
    guard, raised = run(skipping, loader(x, y, batch_size=4), NonFiniteGuard(action="skip"), accumulate_grad_batches=4)
    rest = torch.tensor([*range(16), *range(32, 64)])
    run(without, loader(x[rest], y[rest], batch_size=4), NonFiniteGuard(action="skip"), accumulate_grad_batches=4)
    assert raised is None
    assert same(state(skipping), state(without))
    event = guard.session.record.first(NonFiniteStep)
    assert event.origin is not None
    window = guard.session.record.first(StepWindow)
    assert window.losses["loss"][0] == pytest.approx(float(skipping.seen[0]), rel=1e-6)


def test_lbfgs_is_told_that_it_cannot_be_skipped():
    def lbfgs(parameters):
        return torch.optim.LBFGS(parameters, lr=0.1, max_iter=2)

    guard, _ = run(Program(of_gradient, lbfgs, net()), data(), NonFiniteGuard(action="skip"))
    event = guard.session.record.first(NonFiniteStep)
    assert "LBFGS" in event.cannot_skip
    assert any("LBFGS" in item.message for item in guard.report.findings if item.code == "LD303")


def test_stop_ends_the_fit_before_the_update():
    program = Program(of_gradient, adamw, net())
    guard, raised = run(program, data(), NonFiniteGuard(action="stop"), max_epochs=5)
    assert raised is None
    assert guard.report.status == "finished"
    assert program.trainer.should_stop
    assert program.trainer.global_step == BAD + 1
    assert {int(value["step"]) for value in program.optimizers().optimizer.state.values()} == {BAD}
    assert all(torch.isfinite(value).all() for value in program.net.state_dict().values())


@pytest.mark.parametrize(
    "step", [of_loss, of_gradient, lambda m, b: mse_of_known(m, b) + torch.log(b[1][0, 0].ne(777).float())]
)
def test_raise_ends_the_fit_with_the_report(step):
    program = Program(step, adamw, net())
    guard, raised = run(program, data(), NonFiniteGuard(action="raise"), max_epochs=5)
    assert isinstance(raised, FaultFound)
    assert {item.code for item in raised.report.findings} & {"LD302", "LD303"}
    assert program.trainer.global_step == BAD
    assert guard.report.status.startswith("failed: FaultFound")
    assert all(torch.isfinite(value).all() for value in program.net.state_dict().values())


def test_warn_changes_nothing_though_the_step_is_bad():
    from tests.helpers import trainer

    bare, guarded = Program(of_gradient, adamw, net()), Program(of_gradient, adamw, net())
    torch.manual_seed(1)
    trainer(max_epochs=1).fit(bare, data())
    guard, _ = run(guarded, data(), NonFiniteGuard())
    bits = [
        [value.view(torch.uint8) if value.ndim else value for value in item.net.state_dict().values()]
        for item in (bare, guarded)
    ]
    assert all(map(torch.equal, *bits))
    assert guard.report.headlines[0].code == "LD303"
    assert torch.isnan(guarded.net[0].weight).all()


def test_a_graph_that_is_kept_for_another_backward_pass_survives_the_re_run():
    class Kept(Program):
        automatic_optimization = False

        def training_step(self, batch, batch_idx):
            optimizer = self.optimizers()
            optimizer.zero_grad()
            hidden = self.net[:3](batch[0])
            bad = torch.sqrt((hidden * 0).square().sum()) if batch_idx == BAD else hidden.sum()
            self.manual_backward(bad, retain_graph=True)
            optimizer.step()
            optimizer.zero_grad()
            self.manual_backward(hidden.square().mean())

    guard, raised = run(Kept(optimizer=adamw, net=net()), data(), NonFiniteGuard(action="skip"))
    # the optimizer's own update of weights in the graph is the user's error, on good batches
    assert raised is None or "modified by an inplace operation" in str(raised)
    assert guard.report.status
