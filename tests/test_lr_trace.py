"""LRRangeFinder leaves no trace, applies a rate only if asked, and bad input costs nothing but a message."""

import contextlib

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from lightning_debug import Debugger
from lightning_debug.callbacks.lr_range_finder import LRRangeFinder
from lightning_debug.evidence import ProbeFailure, Unavailable
from lightning_debug.experiments.isolation import in_sandbox
from tests.helpers import trainer

SMALL = {"progress": False, "steps": 12, "sweeps": 1, "trial_steps": 10}


class Noisy(Dataset):
    """Draws from torch's generator, and counts."""

    read = 0

    def __len__(self):
        return 96

    def __getitem__(self, index):
        self.read += 1
        label = index % 3
        return torch.randn(6) + 2.0 * torch.eye(6)[label], label


class Model(pl.LightningModule):
    """Dropout, batch-norm, a counter, a schedule, two groups."""

    def __init__(self, lr=0.01, schedule=True):
        super().__init__()
        self.save_hyperparameters("lr")
        self.net = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))
        self.lr, self.schedule, self.seen, self.losses = lr, schedule, 0, []

    def training_step(self, batch, batch_idx):
        self.seen += len(batch[1])
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.losses.append(loss.detach())
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        groups = [{"params": self.net[0].parameters()}, {"params": self.net[1:].parameters(), "lr": self.lr / 10}]
        optimizer = torch.optim.AdamW(groups, lr=self.lr)
        if not self.schedule:
            return optimizer
        total = self.trainer.estimated_stepping_batches
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, [self.lr, self.lr / 10], total_steps=total)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


class Manual(Model):
    def __init__(self):
        super().__init__(schedule=False)
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        loss = super().training_step(batch, batch_idx)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()


def fit(make, *callbacks, **options):
    torch.manual_seed(3)
    model = make()
    runner = trainer(*callbacks, **options)
    loader = DataLoader(Noisy(), 12, shuffle=True, num_workers=options.pop("workers", 0))
    runner.fit(model, loader)
    [optimizer] = runner.optimizers
    moments = [state[key] for state in optimizer.state.values() for key in ("exp_avg", "exp_avg_sq")]
    weights = [item.clone() for item in (*model.state_dict().values(), *moments, *model.losses)]
    rates = [group["lr"] for group in optimizer.param_groups]
    return weights, (rates, model.seen, loader.dataset.read, torch.get_rng_state().tolist(), runner.global_step)


@pytest.mark.parametrize(
    ("make", "options"),
    [(Model, {}), (Model, {"accumulate_grad_batches": 2, "gradient_clip_val": 0.1}), (Manual, {})],
)
def test_the_run_is_the_same_to_the_last_bit(make, options):
    plain, rest = fit(make, **options)
    finder = LRRangeFinder(**SMALL)
    probed, others = fit(make, finder, **options)
    assert len(finder.results) == 1
    assert all(map(torch.equal, plain, probed))
    assert rest == others


def test_streams_leave_no_trace_either():
    class Once(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter([Noisy()[index] for index in range(384)])

    def run(*callbacks):
        torch.manual_seed(3)
        model = Model(schedule=False)
        trainer(*callbacks).fit(model, DataLoader(Once(), 12))
        return [*model.state_dict().values(), *model.losses]

    finder = LRRangeFinder(**SMALL)
    assert all(map(torch.equal, run(), run(finder)))
    assert len(finder.results) == 1


class Rates(pl.Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if not hasattr(self, "first"):
            self.first = [dict(group) for group in trainer.optimizers[0].param_groups]
            self.schedulers = [dict(vars(config.scheduler)) for config in trainer.lr_scheduler_configs]


@pytest.mark.parametrize("schedule", [False, True])
def test_applying_sets_the_rate_everywhere_and_keeps_ratios(schedule):
    rates, finder, model = Rates(), LRRangeFinder(**SMALL, apply=True), Model(1e-6, schedule)
    trainer(finder, rates).fit(model, DataLoader(Noisy(), 12, shuffle=True))
    [found] = finder.results
    assert found.applied
    assert found.in_use == pytest.approx(1e-6, rel=0.05)
    key = "max_lr" if schedule else "lr"
    assert rates.first[0][key] == pytest.approx(found.suggestion, rel=0.05)
    assert rates.first[0][key] == pytest.approx(10 * rates.first[1][key])
    assert model.lr == model.hparams.lr == pytest.approx(found.suggestion, rel=0.05)
    if schedule:
        assert rates.schedulers[0]["base_lrs"][0] == pytest.approx(rates.first[0]["initial_lr"])


class Stuck(Model):
    """What a user may ask for that cannot be swept."""

    def __init__(self, kind):
        super().__init__(schedule=False)
        self.kind = kind

    def configure_optimizers(self):
        return self.kind(self.parameters())


def told(finder, model=None, **options):
    with pytest.warns(UserWarning, match="LRRangeFinder makes no experiment"):
        trainer(finder, max_epochs=1, **options).fit(model or Model(), DataLoader(Noisy(), 12))
    assert finder.report.status == "finished"
    return next(item.reason for item in finder.session.record.of(Unavailable) if item.evidence == "LRRange")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"lr_min": 1.0, "lr_max": 0.1}, "lr_min=1.0 is not accepted; give a learning rate below lr_max=0.1"),
        ({"lr_min": -1.0}, "lr_min=-1.0 is not accepted; give a finite number above 0"),
        ({"steps": 9}, "steps=9 is not accepted; give a whole number from 10 on"),
        ({"steps": 10.5}, "steps=10.5 is not accepted"),
        ({"lr_max": "high"}, "lr_max='high' is not accepted"),
        ({"lr_max": float("nan")}, "lr_max=nan is not accepted"),
        ({"trial_steps": None}, "trial_steps=None is not accepted"),
        ({"seconds": -1}, "seconds=-1 is not accepted; give a finite number above 0, or None"),
        ({"at_step": -1}, "at_step=-1 is not accepted; give a whole number from 0 on"),
        ({"apply": "false"}, "apply='false' is not accepted; give True or False"),
    ],
)
def test_bad_arguments_are_told_before_the_run(given, words):
    with pytest.raises(ValueError, match="is not accepted") as caught:
        LRRangeFinder(**{**SMALL, **given})
    assert words in str(caught.value)


def test_a_step_that_never_comes_is_told_and_training_goes_on():
    assert "training ended before step 999" in told(LRRangeFinder(**{**SMALL, "at_step": 999}))


@pytest.mark.filterwarnings("ignore:.*LBFGS.*:UserWarning")
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (lambda parameters: torch.optim.LBFGS(parameters, max_iter=2), "LBFGS has no learning rate"),
        (lambda parameters: torch.optim.SGD(parameters, lr=0.0), "its learning rate is 0, so something else sets it"),
    ],
)
def test_optimizers_that_cannot_be_swept(kind, words):
    assert words in told(LRRangeFinder(**SMALL), Stuck(kind))


def test_what_yields_nothing_apart_is_told():
    assert "fast_dev_run" in told(LRRangeFinder(**SMALL), fast_dev_run=2)


def test_a_run_without_batches_is_told():
    assert "there are no training batches" in told(LRRangeFinder(**SMALL), Model(schedule=False), limit_train_batches=0)


class DeepSpeedStrategy(SingleDeviceStrategy):
    """By its name one whose engine keeps the optimizer's state."""


def test_strategies_that_keep_state_of_their_own_are_told():
    words = told(LRRangeFinder(**SMALL), strategy=DeepSpeedStrategy(torch.device("cpu")))
    assert "strategy DeepSpeedStrategy keeps state of its own that cannot be put back" in words


class Trap(Model):
    """Raises in the sandbox, after a few steps."""

    def __init__(self, error):
        super().__init__()
        self.error, self.count = error, 0

    def training_step(self, batch, batch_idx):
        self.count += in_sandbox()
        if self.count == 6:
            raise self.error
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("error", [RuntimeError("odd"), torch.OutOfMemoryError("no memory"), MemoryError("none")])
def test_an_exception_inside_leaves_training_intact(error):
    plain, _ = fit(Model)
    finder = LRRangeFinder(**SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)
        probed, _ = fit(lambda: Trap(error), finder)
    assert all(map(torch.equal, plain, probed))
    assert str(error) in finder.session.record.last(ProbeFailure).error
    assert [item.code for item in finder.report.findings] == ["LD001"]


class Carried(Model):
    """Carries a state from batch to batch, which a hook detaches."""

    state = torch.zeros(1)

    def on_train_batch_start(self, batch, batch_idx):
        self.state = self.state.detach()

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.state = 0.5 * self.state + loss
        return self.state.sum()


def test_a_state_that_a_hook_detaches_is_no_failure_of_ours(monkeypatch):
    monkeypatch.setattr("warnings.warn", lambda *_, **__: None)
    finder = LRRangeFinder(**SMALL)
    fit(Carried, finder)
    assert not finder.report.findings


class Broken(Model):
    """Raises on its second step, wherever that is made."""

    steps = 0

    def training_step(self, batch, batch_idx):
        self.steps += 1
        if self.steps == 2:
            raise RuntimeError("a bug of the program")
        return super().training_step(batch, batch_idx)


def test_what_training_raises_too_is_no_failure_of_ours(monkeypatch):
    monkeypatch.setattr("warnings.warn", lambda *_, **__: None)
    finder = LRRangeFinder(**SMALL)
    with pytest.raises(RuntimeError, match="a bug of the program"):
        fit(Broken, finder)
    assert not finder.report.findings


def test_an_interrupt_inside_ends_the_run_with_everything_put_back():
    torch.manual_seed(3)
    model = Trap(KeyboardInterrupt())
    kept = [item.clone() for item in model.state_dict().values()]
    runner = trainer(LRRangeFinder(**SMALL))
    with contextlib.suppress(KeyboardInterrupt, SystemExit):  # depends on Lightning's version
        runner.fit(model, DataLoader(Noisy(), 12))
    assert runner.interrupted
    assert all(map(torch.equal, kept, model.state_dict().values()))
    assert runner.global_step == 0


def test_a_debugger_can_do_without(monkeypatch):
    monkeypatch.setenv("LIGHTNING_DEBUG_EXPERIMENT_SECONDS", "0")
    debugger = Debugger(strict=True, console=False, select=["LD602"])
    trainer(debugger, max_epochs=1).fit(Model(), DataLoader(Noisy(), 12))
    assert any("experiment_seconds" in skip.reason for skip in debugger.report.skips)
