"""Targets far from what the untrained model predicts: what is no fault while they are reached, and what is one."""

import pytest

from lightning_debug.evidence import Moment
from lightning_debug.evidence.curves import CurveReading, TrainingCourse
from lightning_debug.evidence.data_values import RegressionFit
from lightning_debug.evidence.loss import LossCall, LossGraph, Operand, Operation
from lightning_debug.evidence.lr_range import EarlyLosses, LRContest, LRRange
from lightning_debug.evidence.model import InputDependence
from lightning_debug.finding import Claim, Skip
from lightning_debug.record import Record
from lightning_debug.registry import get


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
