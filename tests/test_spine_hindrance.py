"""Reasons that the user can change, from where they arise to the rule that is skipped."""

from lightning_debug.evidence import Hindrance, RunContext, Unavailable
from lightning_debug.experiments.isolation import Unrepeatable
from lightning_debug.experiments.loss_experiments import BrokenOff, NotJudged
from lightning_debug.finding import Skip
from lightning_debug.judge import judge
from lightning_debug.record import Record
from lightning_debug.registry import get


def test_a_hindrance_is_told_apart_from_a_rule_that_does_not_apply():
    told = Unavailable(evidence="LossGraph", reason=Hindrance("the model is compiled"))
    assert told.hindrance
    assert type(told.reason) is str
    assert Skip(Hindrance("time is up")).hindrance
    assert not Skip("there is no part").hindrance
    assert Skip(told.reason, hindrance=told.hindrance) == Skip(Hindrance("the model is compiled"))


def test_what_cannot_be_run_again_stays_a_hindrance_on_its_way():
    for reason in (NotJudged(str(Unrepeatable(["a lock"]))).reason, BrokenOff("training_step raises KeyError").reason):
        assert Unavailable(evidence="LossGraph", reason=reason).hindrance


def test_the_judge_passes_it_on():
    gaps = [
        Unavailable(evidence="LossGraph", reason=Hindrance("the model is compiled")),
        Unavailable(evidence="StepWindow", reason="there is no optimizer"),
    ]
    found = judge(Record([RunContext(), *gaps]), [get("LD201"), get("LD305")])
    assert {skip.code: skip.hindrance for skip in found.skips} == {"LD201": True, "LD305": False}
