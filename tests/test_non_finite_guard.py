"""NonFiniteGuard: its arguments, what it reports, and what it costs."""

import collections
import copy
import math
import pickle

import pytest
import torch
from pytorch_lightning.cli import LightningCLI
from pytorch_lightning.plugins import MixedPrecision
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_debug import Debugger, NonFiniteGuard
from lightning_debug.evidence.curves import EpochValues
from lightning_debug.evidence.numbers import NonFiniteStep, StepWindow, WeightsCheck
from lightning_debug.record import Record
from lightning_debug.rules.ld302_nonfinite_loss import nonfinite_loss
from tests.guarded import Program, adam, loader, mse, run, sgd, table
from tests.helpers import trainer


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setenv("LIGHTNING_DEBUG_STRICT", "1")
    monkeypatch.setenv("LIGHTNING_DEBUG_CONSOLE", "0")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"action": "explode"}, "action='explode' is not accepted; choose from warn, skip, rollback, stop, raise"),
        ({"max_norm": 0}, "max_norm=0 is not accepted; give a finite number above 0"),
        ({"max_norm": -1.0}, "max_norm=-1.0"),
        ({"max_norm": math.nan}, "max_norm=nan"),
        ({"max_norm": True}, "max_norm=True"),
        ({"clip_value": "big"}, "clip_value='big'"),
        ({"clip_value": math.inf}, "clip_value=inf"),
        ({"clip_quantile": 1.5}, "clip_quantile=1.5 is not accepted; give a share such as 0.9"),
        ({"clip_warm_up": 0}, "clip_warm_up=0 is not accepted; give a whole number from 1 on"),
        ({"keep_every": True}, "keep_every=True"),
        ({"max_skips": 3}, "max_skips=3 is not accepted; give a whole number, with action='skip' or 'rollback'"),
        ({"norm_type": 0.0}, "norm_type=0.0 is not accepted; give a number above 0, or inf"),
    ],
)
def test_arguments_that_are_refused(arguments, told):
    with pytest.raises(ValueError, match="is not accepted") as caught:
        NonFiniteGuard(**arguments)
    assert told in str(caught.value)


@pytest.mark.parametrize("delay", [0, 3])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_losses_are_told_as_the_user_knows_them(accumulate, delay):
    program, guard = Program(), NonFiniteGuard()
    guard._delay = delay
    run(program, loader(batch_size=4), guard, accumulate_grad_batches=accumulate, max_epochs=4)
    windows = guard.session.record.of(StepWindow)
    told = [value for window in windows for value in window.losses["loss"]]
    assert told == pytest.approx([float(value) for value in program.seen], rel=1e-5)
    assert [len(window.steps) for window in windows] == [50, 14]
    assert windows[0].scalars().keys() == {"loss", "gradient_norm"}
    assert sum(window.optimizer_steps for window in windows) == (64 if accumulate == 1 else 4 * 6)


def test_losses_under_a_gradient_scaler():
    program, guard = Program(), NonFiniteGuard()
    plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=128.0))
    run(program, guard=guard, plugins=[plugin], accumulate_grad_batches=2)
    told = guard.session.record.last(StepWindow).losses["loss"]
    assert told == pytest.approx([float(value) for value in program.seen], rel=1e-5)


def test_other_dtypes_and_odd_losses():
    for dtype in (torch.float64, torch.bfloat16):
        x, y = table()
        program = Program(net=nn.Linear(8, 4).to(dtype))
        guard, raised = run(program, loader(x.to(dtype), y.to(dtype)))
        assert raised is None
        assert guard.session.record.last(StepWindow).losses["loss"] == pytest.approx([float(v) for v in program.seen])
    guard, raised = run(Program(lambda m, b: mse(m, b).reshape(1)))
    assert raised is None
    assert len(guard.session.record.last(StepWindow).losses["loss"]) == 4
    guard, raised = run(Program(lambda m, b: mse(m, b).double() * 1e200))
    assert guard.session.record.last(StepWindow).losses["loss"][0] > 1e199


class NoOptimizer(Program):
    def training_step(self, batch, batch_idx):
        return torch.tensor(0.0, requires_grad=True)

    def configure_optimizers(self):
        return None


class OwnLoop(Program):
    """Manual optimization past every hook of Lightning's."""

    automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers(use_pl_optimizer=False)
        optimizer.zero_grad()
        loss = self._step(self, batch)
        loss.backward()
        optimizer.step()
        return loss


@pytest.mark.filterwarnings("ignore:.*configure_optimizers. returned .None.")
def test_programs_without_optimizer_or_hooks():
    guard, raised = run(NoOptimizer())
    assert raised is None
    assert guard.report.findings == ()
    program = OwnLoop()
    guard, raised = run(program)
    assert raised is None
    assert len(guard.session.record.last(StepWindow).losses["loss"]) == 4
    x, y = table()
    x[20, 0] = torch.nan
    guard, raised = run(OwnLoop(), loader(x, y))
    assert raised is None
    assert guard.report.findings[0].code == "LD301"


@pytest.mark.parametrize(("delay", "known"), [(1, True), (4, False)])
def test_what_a_slow_device_lets_us_know(delay, known):
    """The bad loss is seen when the weights are gone; with the batch still held the field is named all the same."""
    x, y = table()
    x[20, 3] = torch.nan
    guard = NonFiniteGuard()
    guard._delay = delay
    _, raised = run(Program(), loader(x, y, batch_size=8), guard)
    assert raised is None
    codes = [item.code for item in guard.report.headlines]
    assert codes == (["LD301"] if known else ["LD302"])
    headline = guard.report.headlines[0]
    assert headline.at.step == 2
    assert known or "action='skip'" in headline.message


def test_what_a_slow_device_lets_us_know_of_a_loss_without_consequence():
    """Weights that are still finite allow the re-run."""
    guard = NonFiniteGuard()
    guard._delay = 1
    program = Program(lambda m, b: mse(m, b) + torch.log(F.relu(b[1][:1, 0] * 0)).detach().sum())
    run(program, guard=guard)
    (headline,) = guard.report.headlines
    assert (headline.code, headline.measured["operation"]) == ("LD302", "log")


def test_a_slow_device_and_a_norm_that_overflows():
    guard = NonFiniteGuard()
    guard._delay = 1
    run(Program(lambda m, b: mse(m, b) * 1e30, sgd(0.0)), guard=guard, max_epochs=3)
    assert guard.report.findings == ()


class Counter(TorchDispatchMode):
    """Counts calls by the name of the operator."""

    def __init__(self):
        super().__init__()
        self.calls = collections.Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def test_steps_cost_no_read_on_the_host_and_no_second_pass():
    """On the CPU numbers are read without a call to the dispatcher."""

    def calls(*callbacks):
        torch.manual_seed(1)
        with Counter() as counter:
            trainer(*callbacks, max_epochs=-1, max_steps=120).fit(Program(), loader(batch_size=4))
        return counter.calls

    without, guarded, clipping = calls(), calls(NonFiniteGuard()), calls(NonFiniteGuard(max_norm=1.0))
    for name in ("_local_scalar_dense", "is_nonzero", "equal", "item"):
        assert guarded[name] == without[name]
        assert clipping[name] == without[name]
    assert guarded["_foreach_norm"] - without["_foreach_norm"] < 120 + 20
    assert clipping["_foreach_norm"] == guarded["_foreach_norm"]


def test_both_clippings_are_told():
    guard, _ = run(Program(), guard=NonFiniteGuard(max_norm=0.5), gradient_clip_val=0.01, max_epochs=40)
    window = guard.session.record.last(StepWindow)
    assert (window.clip_norm, window.clipped_by) == (0.01, "Trainer(gradient_clip_val)")
    assert [item.code for item in guard.report.findings] == ["LD310"]
    assert guard.report.findings[0].severity == "info"


@pytest.mark.parametrize("threshold", [1e-3, None])
def test_clipping_on_every_step_is_told(threshold):
    guard, _ = run(Program(), guard=NonFiniteGuard(max_norm=threshold), max_epochs=40)
    assert [item.code for item in guard.report.findings] == (["LD310"] if threshold else [])


def test_it_is_dropped_by_pickle_and_copy():
    guard, _ = run(Program(), guard=NonFiniteGuard("skip", max_norm=2.0))
    for other in (pickle.loads(pickle.dumps(guard)), copy.deepcopy(guard)):
        assert (other.action, other.max_norm, other.norm_type) == ("skip", 2.0, 2.0)
        run(Program(), guard=other)
        assert other.report.status == "finished"


def test_it_takes_the_place_of_the_debuggers_own():
    x, y = table()
    x[20, 3] = torch.nan
    program, debugger, guard = Program(), Debugger(strict=True, console=False), NonFiniteGuard("skip")
    trainer(guard, debugger, max_epochs=1).fit(program, loader(x, y))
    assert debugger.session.record.seen(WeightsCheck) == 1
    assert debugger.report.headlines[0].code == "LD301"
    assert all(torch.isfinite(item).all() for item in program.parameters())


def test_flags_of_lightning_cli(monkeypatch):
    monkeypatch.setattr("sys.argv", ["train.py"])

    class Fitted(Program):
        def __init__(self):
            super().__init__()

        def train_dataloader(self):
            return loader()

    arguments = ["fit", "--trainer.callbacks+=lightning_debug.NonFiniteGuard", "--trainer.callbacks.max_norm=1.5",
                 "--trainer.callbacks.action=skip", "--trainer.max_epochs=1", "--trainer.accelerator=cpu",
                 "--trainer.logger=false", "--trainer.enable_checkpointing=false",
                 "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]  # fmt: skip
    cli = LightningCLI(Fitted, args=arguments, save_config_callback=None, seed_everything_default=False)
    (guard,) = [item for item in cli.trainer.callbacks if isinstance(item, NonFiniteGuard)]
    assert (guard.action, guard.max_norm, guard.clip_value) == ("skip", 1.5, None)
    assert guard.report.status == "finished"


def test_the_budget_of_re_runs(monkeypatch):
    def step(module, batch):
        return mse(module, batch) + torch.sqrt((module.net[0].bias * 0).square().sum())

    guard, _ = run(Program(step, adam), loader(batch_size=4), NonFiniteGuard("skip"), max_epochs=2)
    assert guard.session.record.seen(NonFiniteStep) == 3
    windows = guard.session.record.of(StepWindow)
    assert sum(window.skipped for window in windows) == 32
    assert sum(window.not_finite for window in windows) == 32


@pytest.mark.parametrize(("training", "bad"), [(0.7, 1), (float("nan"), 0)])
def test_a_validation_loss_that_is_not_finite_by_itself_is_told(training, bad):
    """Training meets no mask that hides a whole row; where training is broken too, its steps are told."""
    epochs = [EpochValues(train_loss=training, val_loss=value) for value in (0.8, float("nan"))]
    claims = list(nonfinite_loss(Record([StepWindow(), *epochs])))
    assert [claim.subject for claim in claims] == ["validation_step"] * bad
