"""``action="rollback"`` goes back to the last good weights and optimizer state, exactly; ``max_skips`` ends the fit."""

import copy

import pytest
import torch

from lightning_debug import NonFiniteGuard
from lightning_debug.evidence.numbers import NonFiniteStep, StepWindow
from tests.guarded import Program, loader, mse, run
from tests.test_non_finite_guard_quantile import saved
from tests.test_non_finite_guard_skip import BAD, Half, Manual, adamw, data, heavy_sgd, net, of_gradient, same, state


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setenv("LIGHTNING_DEBUG_STRICT", "1")
    monkeypatch.setenv("LIGHTNING_DEBUG_CONSOLE", "0")


class Watched(Program):
    """Keeps what its weights and its optimizer's state are before each update, and after each batch."""

    def __init__(self, *args):
        super().__init__(*args)
        self.before, self.after = [], []

    def on_before_optimizer_step(self, optimizer):
        self.before.append(state(self))

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.after.append(state(self))


def fused(parameters):
    return torch.optim.AdamW(parameters, lr=0.01, fused=True)


@pytest.mark.parametrize(
    "optimizer", [adamw, *(pytest.param(kind, marks=pytest.mark.slow) for kind in (heavy_sgd, fused))]
)
def test_a_bad_step_goes_back_to_the_last_copy_exactly(optimizer):
    """The marked batch is the third; with a copy before every second update it goes back to before the second."""
    program = Watched(of_gradient, optimizer, net())
    guard, raised = run(program, data(), NonFiniteGuard("rollback", keep_every=2))
    assert raised is None
    assert same(program.after[BAD], program.before[1])
    assert not same(program.after[BAD], program.after[1])
    assert guard.session.record.first(NonFiniteStep).action == "rollback"
    assert sum(window.skipped for window in guard.session.record.of(StepWindow)) == 1


def test_before_the_first_copy_it_goes_back_to_the_start():
    program = Watched(of_gradient, adamw, net())
    start = {name: value.clone() for name, value in program.net.state_dict().items()}
    run(program, data(), NonFiniteGuard("rollback"))
    weights = program.after[BAD]["weights"]
    assert same({name: item for name, item in weights.items() if "running" not in name and "num" not in name},
                {name: item for name, item in start.items() if "running" not in name and "num" not in name})  # fmt: skip
    assert program.after[BAD]["optimizers"] == [{}]


class Spoiling(torch.optim.SGD):
    """Its fourth update writes NaN, although every gradient is finite."""

    count = 0

    def step(self, closure=None):
        loss = super().step(closure)
        self.count += 1
        if self.count == 4:
            self.param_groups[0]["params"][0].data[0, 0] = torch.nan
        return loss


@pytest.mark.parametrize("plugins", [[], pytest.param([Half], marks=pytest.mark.slow)])
def test_weights_that_an_update_has_spoiled_are_mended(plugins):
    def fit(action):
        program = Program(mse, lambda p: Spoiling(p, lr=0.01), net())
        options = {"plugins": [kind() for kind in plugins]} if plugins else {}
        guard, raised = run(program, loader(batch_size=4), NonFiniteGuard(action, keep_every=2), **options)
        assert raised is None
        return program, guard

    program, _ = fit("skip")
    assert not all(item.isfinite().all() for item in program.net.parameters())
    program, guard = fit("rollback")
    assert all(item.isfinite().all() for item in program.net.parameters())
    assert any(item.code.startswith("LD30") for item in guard.report.findings) or plugins


def test_manual_optimization_with_two_optimizers_goes_back_as_a_whole():
    program = Manual(of_gradient, net=net())
    guard, raised = run(program, data(), NonFiniteGuard("rollback", keep_every=2))
    assert raised is None
    assert all(torch.isfinite(value).all() for value in program.net.state_dict().values())
    assert guard.session.record.first(NonFiniteStep).action == "rollback"


def always_bad(module, batch):
    return mse(module, batch) + torch.sqrt((module.net[0].bias * 0).square().sum())


@pytest.mark.parametrize("action", ["skip", "rollback"])
def test_a_budget_that_is_spent_ends_the_fit(action):
    program = Program(always_bad, adamw, net())
    start = copy.deepcopy(program.net.state_dict())
    guard, raised = run(program, loader(batch_size=4), NonFiniteGuard(action, max_skips=5), max_epochs=9)
    assert raised is None
    assert program.trainer.global_step == 6
    assert sum(window.skipped for window in guard.session.record.of(StepWindow)) == 6
    (headline,) = guard.report.headlines
    assert headline.code == "LD303"
    (budget,) = [item for item in guard.report.findings if item.code == "LD312"]
    assert "6 optimizer steps" in budget.message
    assert "max_skips=5" in budget.message
    assert budget.explained_by is not None
    parameters = dict(program.net.named_parameters())
    assert all(torch.equal(item, start[name]) for name, item in parameters.items())


def test_a_budget_that_suffices_is_silent():
    program = Program(of_gradient, adamw, net())
    guard, raised = run(program, data(), NonFiniteGuard("skip", max_skips=1))
    assert raised is None
    assert "LD312" not in [item.code for item in guard.report.findings]
    assert saved(program.trainer) == {"skips": 1}  # a resumed run goes on counting
    program = Program()
    run(program, guard=NonFiniteGuard("skip"))
    assert saved(program.trainer) is None
