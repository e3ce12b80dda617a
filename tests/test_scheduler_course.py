"""LD604 on what schedules lead to: plateaus, steps by hand, warm-ups without end, checkpoints of shorter runs."""

import pytest
import pytorch_lightning as pl
from torch.optim import lr_scheduler as schedules

from lightning_debug.callbacks.optimizer_inspector import OptimizerInspector
from lightning_debug.evidence.schedules import ScheduleForecast, ScheduleProgress
from lightning_debug.rules._schedules_course import Limits, driven
from tests.helpers import trainer
from tests.optimizer_programs import inspected, loader
from tests.scheduler_programs import (
    AtEachBatch,
    AtEpochEnd,
    AtEpochStart,
    FastForward,
    InItsOwnStep,
    Scheduled,
    SetAfterBatch,
    SetAtStart,
    SetByFraction,
    SetByOwnHook,
    SetInStep,
    Waiting,
    validation,
)

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's and torch's own words about such schedules
EXTRA = pytest.mark.slow


def exponential(optimizer):
    return schedules.ExponentialLR(optimizer, 0.95)


def warmed(optimizer):
    warm = schedules.LinearLR(optimizer, 0.01, total_iters=500)
    return schedules.SequentialLR(optimizer, [warm, schedules.CosineAnnealingLR(optimizer, 500)], [500])


def fitted(model, **options):
    data = loader(64)
    model.val_dataloader = validation
    return inspected(model, data, **{"max_epochs": 3, **options}).report


FAULTS = {
    "twice, at the end of epochs": (lambda: AtEpochEnd(exponential), "by hand"),
    "twice, at their start": (lambda: AtEpochStart(exponential), "by hand"),
    "with each batch as well": (lambda: AtEachBatch(exponential), "by hand"),
    "with each batch, of epochs": (lambda: AtEachBatch(lambda o: schedules.CosineAnnealingLR(o, 3)), "by hand"),
    "set back in the step": (lambda: SetInStep(exponential, interval="step"), "sets it back"),
    "set back after it": (lambda: SetAfterBatch(lambda o: schedules.StepLR(o, 9), interval="step"), "sets it back"),
    "set back each epoch": (
        lambda: SetAtStart(lambda o: schedules.CosineAnnealingLR(o, 12), interval="step"),
        "sets it back",
    ),
    "warm-up of many steps": (
        lambda: Scheduled(lambda o: schedules.LambdaLR(o, lambda step: min(1.0, step / 900)), interval="step"),
        "rises to the very end",
    ),
    "linear warm-up": (lambda: Scheduled(lambda o: schedules.LinearLR(o, 0.01, total_iters=400), interval="step"),
                       "total_iters=400"),
    "warm-up and cosine": (lambda: Scheduled(warmed, interval="step"), "rises to the very end"),
    "one cycle of a longer run": (
        lambda: Scheduled(lambda o: schedules.OneCycleLR(o, 1e-2, total_steps=900), interval="step"),
        "rises to the very end",
    ),
    "one cycle of twenty times as many steps": (
        lambda: Scheduled(lambda o: schedules.OneCycleLR(o, 1e-2, total_steps=240, pct_start=0.1), interval="step"),
        "rises to the very end",
    ),
    "gamma above 1": (lambda: Scheduled(lambda o: schedules.ExponentialLR(o, 2.0), 1e-3), "gamma=2"),
    "gamma of steps": (lambda: Scheduled(lambda o: schedules.StepLR(o, 1, 10.0), 1e-4), "gamma=10"),
    "gamma of milestones": (
        lambda: Scheduled(lambda o: schedules.MultiStepLR(o, [4, 8], 5.0), 1e-4, interval="step"),
        "gamma=5",
    ),
    "least of an accuracy": (lambda: Waiting(["val_acc"], monitor="val_acc"), "mode='min'"),
    "least of F1": (lambda: Waiting(["valid/f1", "valid/loss"], monitor="valid/f1"), "larger values"),
    "most of a loss": (lambda: Waiting(["val_loss"], monitor="val_loss", mode="max"), "mode='max'"),
    "not logged, and let be": (lambda: Waiting(["valid_loss"], monitor="val_loss", strict=False), "'valid_loss'"),
}  # fmt: skip
QUICK = ("twice, at the end of epochs", "set back in the step", "linear warm-up", "gamma of steps", "least of F1")


def parameters(programs, quick):
    return [name if name in quick else pytest.param(name, marks=EXTRA) for name in programs]


@pytest.mark.parametrize("name", parameters(FAULTS, QUICK))
def test_is_found(name):
    make, words = FAULTS[name]
    report = fitted(make())
    assert [item.code for item in report.headlines] == ["LD604"], report.headlines
    assert words in f"{report.headlines[0].message} {report.headlines[0].fix}"
    assert report.headlines[0].at.step <= 8  # two epochs


@pytest.mark.parametrize(
    ("warms", "fix"), [(True, "after each batch: "), (False, "after each epoch. Where it is counted")]
)
def test_one_that_is_stepped_by_hand_keeps_the_pace_it_was_made_for(warms, fix):
    seen = ScheduleProgress(scheduler="LambdaLR", expected=1, made=9)
    rates = ((0, 1e-4), (2, 4e-4)) if warms else ((0, 1e-2), (2, 4e-4))
    foreseen = ScheduleForecast(scheduler="LambdaLR", rates=rates, other_rates=((0, 1e-4), (30, 1e-2)))
    fault = driven(seen, Limits(0.5, 1e-3, 1 / 3, 0.12, 0.02, 3.0, 0.5, 0.75), foreseen)
    assert fault is not None
    assert fix in fault.fix
    assert '"interval": "step"' in fault.fix


MISSING = {
    "another word": (lambda: Waiting(["valid_loss"], monitor="val_loss"), '"monitor": "valid_loss"'),
    "another separator": (lambda: Waiting(["val/acc", "val/loss"], monitor="val_acc", mode="max"), '"val/acc"'),
    "nothing": (lambda: Waiting([], monitor="val_loss"), "self.log('val_loss'"),
    "each step": (lambda: Waiting(["val_loss"], monitor="val_loss", interval="step"), '"interval": "step"'),
}


@pytest.mark.parametrize("name", parameters(MISSING, ("another separator",)))
def test_a_monitor_that_is_missing_is_explained(name):
    make, fix = MISSING[name]
    model, inspector = make(), OptimizerInspector()
    with pytest.raises(Exception, match="conditioned on metric"):
        trainer(inspector, max_epochs=2).fit(model, loader(64), validation())
    [found] = inspector.report.headlines
    assert found.code == "LD604"
    assert fix in found.fix


HEALTHY = {
    "most of an accuracy": lambda: Waiting(["val_acc"], monitor="val_acc", mode="max"),
    "least of a loss": lambda: Waiting(["val_loss"], monitor="val_loss"),
    "most of a loss that was negated": lambda: Waiting(["val_neg_loss"], monitor="val_neg_loss", mode="max"),
    "a name that does not tell": lambda: Waiting(["val_score"], monitor="val_score"),
    "a loss of accuracies": lambda: Waiting(["val_acc_loss"], monitor="val_acc_loss"),
    "logged at the end of epochs": lambda: Waiting([], "train_loss", monitor="train_loss"),
    "logged there, and let be": lambda: Waiting([], "train_loss", monitor="train_loss", strict=False),
    "restarts set by fractions": lambda: SetByFraction(
        lambda o: schedules.CosineAnnealingWarmRestarts(o, 2), interval="step"
    ),
    "stepped by the model's own hook": lambda: SetByOwnHook(lambda o: schedules.StepLR(o, 2), interval="step"),
    "brought forward": lambda: FastForward(exponential),
    "range test": lambda: Scheduled(lambda o: schedules.ExponentialLR(o, 2.0), 1e-6, interval="step"),
    "range test by a function": lambda: Scheduled(
        lambda o: schedules.LambdaLR(o, lambda step: 1e-7 * 2**step), 1.0, interval="step"
    ),
    "slow rise": lambda: Scheduled(lambda o: schedules.LinearLR(o, 0.1, total_iters=12), interval="step"),
    "noam": lambda: Scheduled(
        lambda o: schedules.LambdaLR(o, lambda step: 0.1 * min((step + 1) ** -0.5, (step + 1) * 4**-1.5)), 0.1,
        interval="step",
    ),
    "steps made by hand alone": lambda: InItsOwnStep(lambda o: schedules.OneCycleLR(o, 0.05, total_steps=13)),
    "steps made by hand": lambda: AtEachBatch(lambda o: schedules.CosineAnnealingLR(o, 12)),
    "a warm-up whose steps are made by hand": lambda: AtEachBatch(
        lambda o: schedules.LambdaLR(o, lambda step: min((step + 1) / 20, 1.0))
    ),
    "constant gamma": lambda: Scheduled(lambda o: schedules.ExponentialLR(o, 1.0)),
}  # fmt: skip
QUICK_HEALTHY = (
    "most of an accuracy",
    "steps made by hand alone",
    "logged there, and let be",
    "restarts set by fractions",
    "range test",
)


@pytest.mark.parametrize("name", parameters(HEALTHY, QUICK_HEALTHY))
def test_is_quiet(name):
    assert not fitted(HEALTHY[name]()).headlines


@pytest.mark.parametrize(("length", "interval", "found"), [(60, "epoch", 1), (3, "epoch", 0), (60, "step", 0)])
def test_epochs_are_known_where_accumulation_changes(length, interval, found):
    model = Scheduled(lambda o: schedules.LinearLR(o, 0.1, total_iters=length), interval=interval)
    model.val_dataloader, inspector = validation, OptimizerInspector()
    changes = pl.callbacks.GradientAccumulationScheduler({0: 2, 2: 1})
    trainer(changes, inspector, max_epochs=6).fit(model, loader(64))
    assert [item.code for item in inspector.report.headlines] == ["LD604"] * found


def test_a_warm_up_in_a_trial_is_not_judged():
    model = Scheduled(lambda o: schedules.LinearLR(o, 0.01, total_iters=400), interval="step")
    assert not fitted(model, limit_train_batches=2).headlines


@pytest.mark.slow
def test_validation_every_other_epoch_is_waited_for():
    model = Waiting(["val_loss"], monitor="val_loss", strict=False)
    assert not fitted(model, max_epochs=4, check_val_every_n_epoch=2).headlines


def resumed(make, folder, first=2, then=4):
    path = folder / "last.ckpt"
    run = trainer(max_epochs=first)
    run.fit(make(run), loader(64))
    run.save_checkpoint(path)
    inspector, again = OptimizerInspector(), trainer(max_epochs=then)
    again.callbacks.append(inspector)
    try:
        again.fit(make(again), loader(64), ckpt_path=path)
    except ValueError as error:
        assert "Tried to step" in str(error)  # noqa: PT017
    assert not [item for item in inspector.report.findings if item.code in ("LD001", "LD002")]
    return inspector.report


def per_epoch(make):
    return lambda run: Scheduled(lambda o: make(o, run.max_epochs))


def per_step(make):
    return lambda run: Scheduled(lambda o: make(o, 4 * run.max_epochs), interval="step")


def cosine(optimizer, steps):
    return schedules.CosineAnnealingLR(optimizer, steps)


def cycle(optimizer, steps):
    return schedules.OneCycleLR(optimizer, 1e-2, total_steps=steps)


@pytest.mark.parametrize(
    "make", [per_epoch(cosine), *(pytest.param(make(kind), marks=EXTRA) for make, kind in
                                  ((per_step, cosine), (per_step, cycle), (per_epoch, cycle)))]
)  # fmt: skip
def test_a_checkpoint_of_a_shorter_run_is_told(make, tmp_path):
    report = resumed(make, tmp_path)
    assert [item.code for item in report.headlines] == ["LD604"]
    assert "comes from the checkpoint" in report.headlines[0].message
    assert report.headlines[0].at.step <= 8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "then"),
    [
        (per_epoch(lambda o, steps: schedules.StepLR(o, 2)), 4),
        (per_epoch(lambda o, steps: schedules.LambdaLR(o, lambda epoch: 1 - epoch / (steps + 1))), 4),
        (lambda run: Scheduled(lambda o: schedules.CosineAnnealingLR(o, 4)), 4),
        (lambda run: Scheduled(lambda o: schedules.OneCycleLR(o, 1e-2, total_steps=16), interval="step"), 4),
    ],
)
def test_a_checkpoint_of_the_same_plan_is_not(make, then, tmp_path):
    assert not resumed(make, tmp_path, then=then).headlines
