"""What goes wrong inside the check of two examples leaves training as it is."""

from __future__ import annotations

import pytest
import torch

from lightning_debug import Debugger
from lightning_debug.callbacks.overfit_batch_check import OverfitBatchCheck
from lightning_debug.evidence.curves import CurveReading, TrainingCourse
from lightning_debug.evidence.overfit import OverfitCall, OverfitCheck, OverfitTrial
from lightning_debug.experiments.isolation import in_sandbox
from lightning_debug.finding import Claim
from lightning_debug.record import Record
from lightning_debug.rules.ld605_cannot_overfit_batch import cannot_overfit_batch
from tests import overfit_faulty, overfit_healthy_losses, overfit_healthy_nets  # noqa: F401 - they fill the tables
from tests.healthy import assert_same, fit, make_loaders, make_model
from tests.helpers import trainer
from tests.overfit_programs import FAULTY, HEALTHY


class Failing(OverfitBatchCheck):
    """Has the module raise in the sandbox, at the given step of the experiment."""

    def __init__(self, error: BaseException, at: int) -> None:
        super().__init__()
        self.error, self.at = error, at

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        original, count = pl_module.training_step, [0]

        def step(*arguments):
            count[0] += in_sandbox()
            if in_sandbox() and count[0] == self.at:
                raise self.error
            return original(*arguments)

        pl_module.training_step = step
        try:
            super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        finally:
            del pl_module.training_step


@pytest.mark.parametrize(("end", "codes"), [(None, ["LD605"]), (0.1, ["LD605"]), (0.03, [])])
def test_a_run_that_learns_what_two_examples_did_not(end, codes):
    """A recurrent decoder may stay on a plateau for as long as it is tried."""
    call = OverfitCall(function="l1_loss", line="train.py:9", value=0.137, after=0.131, floor=0.0, uninformed=0.037)
    trial = OverfitTrial(rate=0.003, losses=(0.137,) * 20 + (0.131,) * 20)
    seen = OverfitCheck(samples=2, batch=2, start=0.137, trials=(trial,), calls=(call,), steps=160, parameters=18)
    course = TrainingCourse(steps=1200, start=0.13, end=end or 0.0)
    reading = [] if end is None else [CurveReading(training=course)]
    found = [item for item in cannot_overfit_batch(Record([seen, *reading])) if isinstance(item, Claim)]
    assert len(found) == len(codes)


@pytest.mark.parametrize(("slow", "said"), [(1.2, False), (0.6, True)])
def test_a_loss_that_rises_at_each_rate_is_moved_by_something_else(slow, said):
    """A queue of keys fills up with those of the two examples."""
    call = OverfitCall(function="cross_entropy", value=0.6, after=0.9, floor=0.0, uninformed=0.0)
    trials = tuple(OverfitTrial(rate=rate, losses=(0.6, *(end,) * 28)) for rate, end in ((0.03, 0.9), (0.0003, slow)))
    seen = OverfitCheck(samples=2, batch=2, start=0.6, trials=trials, calls=(call,), steps=160, parameters=18)
    found = [item for item in cannot_overfit_batch(Record([seen])) if isinstance(item, Claim)]
    assert bool(found) is said


OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize(
    ("error", "at", "told"),
    [
        (OUT_OF_MEMORY, 1, "LD001"),
        (OUT_OF_MEMORY, 3, "LD001"),
        (ValueError("amid the trials"), 3, ""),
        (ValueError("two are too few"), 1, ""),
    ],
)
def test_training_goes_on_as_without_us(error, at, told):
    ours = Failing(error, at)
    bare, changed = fit(), fit(ours)
    assert_same(bare, changed)
    assert [item.code for item in ours.report.findings] == ([told] if told else [])
    assert ours.report.status == "finished"
    reasons = [item.reason for item in ours.report.skips if item.code == "LD605"]
    assert told or at == 1 or reasons == ["training_step raises ValueError when run again: amid the trials"]


def test_an_interrupt_ends_the_fit_with_everything_put_back():
    model, ours = make_model(), Failing(KeyboardInterrupt(), 3)
    before = {name: item.clone() for name, item in model.state_dict().items()}
    with pytest.raises(SystemExit):
        trainer(ours).fit(model, *make_loaders())
    assert all(torch.equal(item, before[name]) for name, item in model.state_dict().items())
    assert ours.report.status == "interrupted"
    assert not in_sandbox()


def test_a_budget_that_is_spent_is_told():
    torch.manual_seed(0)
    model, loader = FAULTY["softmax_twice"][1]()
    ours = OverfitBatchCheck(seconds=1e-6)
    trainer(ours, limit_train_batches=1, max_epochs=1).fit(model, loader)
    assert ours.session.record.first(OverfitCheck).cut_short
    assert any("cut short" in item.reason for item in ours.report.skips)


def test_no_seconds_at_all_inside_a_debugger():
    model, loader = HEALTHY["plain"]()
    debugger = Debugger(console=False, strict=True, experiment_seconds=0.0)
    trainer(debugger, limit_train_batches=1, max_epochs=1).fit(model, loader)
    assert not debugger.session.record.seen(OverfitCheck)
    assert any(item.code == "LD605" and "used up" in item.reason for item in debugger.report.skips)


def test_a_step_that_never_comes_is_told():
    model, loader = HEALTHY["plain"]()
    ours = OverfitBatchCheck(at_step=100)
    trainer(ours, limit_train_batches=1, max_epochs=1).fit(model, loader)
    assert [item.reason for item in ours.report.skips if item.code == "LD605"] == ["training ended before step 100"]


@pytest.mark.parametrize(("name", "word"), [("second_order", "LBFGS"), ("manual", "manual"), ("frozen", "trainable")])
def test_what_cannot_be_judged_is_told(name, word):
    model, loader = HEALTHY["plain" if name != "second_order" else name]()
    model.automatic_optimization = name != "manual"
    ours = OverfitBatchCheck()
    if name == "frozen":
        model.requires_grad_(False)
        model.step = lambda self, batch: torch.zeros((), requires_grad=True)
        model.make = lambda _: torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    trainer(ours, limit_train_batches=1, max_epochs=1).fit(model, loader)
    assert word in next(item.reason for item in ours.report.skips if item.code == "LD605")


@pytest.mark.parametrize("arguments", [{"at_step": -1}, {"seconds": 0}])
def test_bad_arguments(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        OverfitBatchCheck(**arguments)


def test_a_step_that_takes_only_the_batch_is_given_no_more():
    class Bare(type(HEALTHY["plain"]()[0])):
        def training_step(self, batch):
            return self.step(self, batch)

    model, loader = HEALTHY["plain"]()
    model.__class__ = Bare
    debugger = Debugger(console=False, strict=True)
    trainer(debugger, limit_train_batches=2, max_epochs=1).fit(model, loader)
    assert debugger.report.status == "finished"
    assert debugger.session.record.first(OverfitCheck).fits
