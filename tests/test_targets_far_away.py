"""Targets far from what the untrained model predicts: what is no fault while they are reached, and what is one."""

import contextlib

import pytest
import torch
from pytorch_lightning import LightningModule
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug import Debugger
from lightning_debug.evidence import Moment
from lightning_debug.evidence.curves import CurveReading, TrainingCourse
from lightning_debug.evidence.data_values import FitsOver, RegressionFit
from lightning_debug.evidence.loss import LossCall, LossGraph, Operand, Operation
from lightning_debug.evidence.lr_range import EarlyLosses, LRContest, LRRange
from lightning_debug.evidence.model import InputDependence
from lightning_debug.evidence.run import RunContext
from lightning_debug.finding import Claim, FaultFound, Skip
from lightning_debug.record import Record
from lightning_debug.registry import get
from tests.helpers import alarms, trainer


def claims(code, *evidence):
    return [item for item in get(code).function(Record(evidence)) if isinstance(item, Claim)]


@pytest.mark.parametrize(("end", "taken_back"), [(1.1e9, True), (5.9e10, False)])
def test_a_rate_is_not_too_low_where_the_run_learns_at_it(end, taken_back):
    """Prices in dollars: no trial of 19 steps comes near them, and 600 steps do."""
    contest = LRContest(other=2.0, steps=19, start=6.27e10, in_use=(6.27e10,) * 3, others=(1e10, 2.1e10, 1e10))
    early = EarlyLosses(losses=(6.4e10, 6.3e10), in_use=0.02, name="Adam", optimizers=1, update_ratio=0.01)
    trial = LRRange(in_use=0.02, name="Adam", contest=contest, planned_steps=600)
    course = TrainingCourse(steps=600, start=6.1e10, start_error=1.3e9, end=end, end_error=4e7)
    assert claims("LD602", early, trial)
    found = list(get("LD602").function(Record([early, trial, CurveReading(final=True, epochs=40, training=course)])))
    assert any(isinstance(item, Claim) for item in found) is not taken_back
    assert any(isinstance(item, Skip) and "the run itself" in item.reason for item in found) is taken_back


def prices(*steps, mean=0.4):
    """Prices on a log scale lie at 12."""
    return [
        RegressionFit(
            function="mse_loss", line="t.py:1", elements=32, target_mean=12.3, target_deviation=0.3,
            prediction_mean=mean if step else -0.1, prediction_deviation=0.1, at=Moment(step=step),
        )
        for step in steps
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("steps", "over", "found"),
    [
        ((0, 30), None, False),
        ((0, 300), None, False),
        ((0, 30), FitsOver(), True),
        ((0, 10), FitsOver(), False),
        ((0, 30), FitsOver(broken_off=True), False),
        ((0, 300), FitsOver(broken_off=True), True),
    ],
)
def test_large_targets_wait_for_the_end_of_the_run(steps, over, found):
    assert bool(claims("LD519", RunContext(planned_steps=600), *prices(*steps), *filter(None, [over]))) is found


@pytest.mark.parametrize(
    ("evidence", "claimed"),
    [
        ((), True),
        (prices(0, 10), False),
        ((*prices(0, 10), CurveReading(epochs=1)), False),
        ((*prices(0, 300), FitsOver()), True),
        ((*prices(0, 300), FitsOver(), CurveReading(epochs=20)), False),
        ((*prices(0, 300), FitsOver(), CurveReading(final=True)), True),
        ((*prices(0, 300), FitsOver(broken_off=True), CurveReading(final=True)), False),
    ],
)
def test_a_rate_waits_while_far_targets_may_be_reached(evidence, claimed):
    contest = LRContest(other=2.0, steps=19, start=150.0, in_use=(149.9,) * 3, others=(30.0, 42.0, 35.0))
    early = EarlyLosses(losses=(150.0, 150.0), in_use=0.001, name="Adam", optimizers=1, update_ratio=0.01)
    trial = LRRange(in_use=0.001, name="Adam", contest=contest, planned_steps=600)
    assert bool(claims("LD602", early, trial, *evidence)) is claimed


class Prices(LightningModule):
    def __init__(self, rate):
        super().__init__()
        self.rate = rate
        self.net = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 1))

    def training_step(self, batch, batch_idx):
        return F.mse_loss(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.rate)


@pytest.mark.parametrize(("rate", "end"), [(0.03, set()), (0.001, {"LD519"})])
def test_raw_prices_stop_no_run_that_reaches_them(tmp_path, rate, end):
    """With ``fail_on`` a finding that is taken back later has stopped the run for nothing."""
    torch.manual_seed(0)
    inputs = torch.randn(512, 4)
    targets = 500 + 150 * inputs[:, :1] + 60 * inputs[:, 1:2].relu()
    loader = DataLoader(TensorDataset(inputs, targets), batch_size=32, shuffle=True)
    debugger = Debugger(fail_on="warning", console=False, report_dir=str(tmp_path))
    run = trainer(debugger, max_epochs=30)
    with pytest.raises(FaultFound) if end else contextlib.nullcontext():
        run.fit(Prices(rate), loader)
    assert run.global_step == 480
    assert end == {item.code for item in debugger.report.findings if item.code == "LD519"}
    assert bool(end) is bool(alarms(debugger.report))


@pytest.mark.parametrize(
    ("change", "mean", "claimed"),
    [(0.53, 1.0, False), (0.53, 226_000.0, True), (1e-4, 1.0, True), (0.0, 1.0, True)],
)
def test_predictions_on_their_way_to_far_targets_depend_on_the_input(change, mean, claimed):
    """Small beside what they are to tell apart, they differ by half of themselves."""
    looks = [
        InputDependence(
            function="mse_loss", line="t.py:9", samples=13, steps=steps, change=change, scale=0.9, spread=7e4
        )
        for steps in (15, 30)
    ]
    fit = RegressionFit(
        function="mse_loss", line="t.py:9", elements=32, target_mean=227_000.0, target_deviation=68_000.0,
        prediction_mean=mean, prediction_deviation=0.3, at=Moment(step=30),
    )  # fmt: skip
    assert bool(claims("LD309", *looks, fit)) is claimed


def call(*origin, low=0.5, high=5.0):
    levels = tuple(low + (high - low) * index / 14 for index in range(15))
    target = Operand(shape=(64,), minimum=low, maximum=high, mean=3.0, deviation=1.0, quantiles=levels)
    scores = Operand(shape=(64,), minimum=0.0, maximum=1.0, mean=0.5, deviation=0.1)
    seen = LossCall(function="mse_loss", line="t.py:9", scores=scores, target=target, origin=origin, reaches_loss=True)
    return LossGraph(step="training_step", calls=(seen,), traced=True, batch_size=64)


SIGMOID = Operation(name="sigmoid", lowest=0.0, highest=1.0)
COSINE = Operation(name="cosine_similarity", lowest=-1.0, highest=1.0, merges=True)


def times(number):
    return Operation(name="mul", amount=number)


def plus(number):
    return Operation(name="add", amount=number)


@pytest.mark.parametrize(
    ("origin", "span"),
    [
        ((plus(0.0), times(1.0), SIGMOID), (0, 1)),
        ((plus(0.5), times(1.0), SIGMOID), (0.5, 1.5)),
        ((plus(0.0), times(5.5), SIGMOID), None),
        ((times(-2.0), plus(-1.0), SIGMOID), (0, 2)),
        ((Operation(name="rsub", amount=6.0), times(5.5), SIGMOID), None),
        ((Operation(name="mul"), SIGMOID), None),  # by a tensor
        ((times(0.1), Operation(name="linear", layer=True)), None),
        ((COSINE,), (-1, 1)),
        ((times(5.0), COSINE), None),
    ],
)
def test_the_range_of_an_activation_that_is_scaled_and_shifted(origin, span):
    found = claims("LD208", call(*origin))
    assert [(one.measured["lowest"], one.measured["highest"]) for one in found] == ([span] if span else [])
