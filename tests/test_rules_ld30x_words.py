"""The words for a cause, from plain evidence: each reason, its number, and its fix; and the borders of LD303 and LD310."""

import dataclasses
import math
import re

import pytest

from lightning_debug.evidence import Moment, Unavailable
from lightning_debug.evidence.numbers import (
    NonFiniteStep,
    NonFiniteTensor,
    Operand,
    Origin,
    StepWindow,
    WeightsCheck,
)
from lightning_debug.finding import Skip
from lightning_debug.record import Record
from lightning_debug.rules._explanation import number, span
from lightning_debug.rules._operations import explain, subject
from lightning_debug.rules.ld301_nonfinite_input import nonfinite_input
from lightning_debug.rules.ld303_nonfinite_gradient import nonfinite_gradient
from lightning_debug.rules.ld304_nonfinite_parameter import nonfinite_parameter

POSITIVE = Operand(numel=4, minimum=1.0, maximum=2.0)
ZEROS = Operand(numel=4, minimum=0.0, maximum=2.0, zeros=1)
NEGATIVE = Operand(numel=4, minimum=-2.0, maximum=2.0, negatives=3)
ROUNDED = dataclasses.replace(NEGATIVE, minimum=-1e-7, source="sub")
NAN = Operand(numel=4, nan=4)
INFINITE = Operand(numel=4, positive=1)


def forward(operation, *operands, output=NAN, **numbers):
    return Origin(kind="forward", operation=operation, operands=operands, output=output, numbers=numbers)


def backward(operation, *operands, output=NAN, **how):
    return Origin(kind="backward", operation=operation, operands=operands, output=output, **how)


@pytest.mark.parametrize(
    ("origin", "reason", "fix"),
    [
        (forward("logit", ZEROS), "logit-at-edge", "eps=1e-6"),
        (forward("log1p", NEGATIVE), "log-of-negative", "clamp"),
        (forward("log", dataclasses.replace(NEGATIVE, source="conv2d (head)")), "log-of-negative", "F.softplus(x)"),
        (forward("log", dataclasses.replace(NEGATIVE, source="div")), "log-of-negative", "F.softplus(x) + 1e-8"),
        (forward("log", ROUNDED), "log-of-negative", "clamp before it: torch.log(x.clamp(min=1e-8))"),
        (forward("log", dataclasses.replace(NEGATIVE, kind="input")), "log-of-negative", "clamp before it: torch.log"),
        (
            forward("log1p", dataclasses.replace(NEGATIVE, kind="input")),
            "log-of-negative",
            "torch.log1p(x.clamp(min=-1",
        ),
        (forward("sqrt", ROUNDED), "sqrt-of-negative", "clamp before it: torch.sqrt(x.clamp(min=1e-8))"),
        (forward("sqrt", dataclasses.replace(NEGATIVE, source="mul")), "sqrt-of-negative", "F.softplus(x) + 1e-8"),
        (
            forward("pow", dataclasses.replace(NEGATIVE, source="add"), **{"1": 0.5}),
            "power-of-negative",
            "F.softplus(x)",
        ),
        (
            forward("exp", Operand(numel=1, minimum=1.0, maximum=200.0), output=INFINITE),
            "exp-overflow",
            "torch.softmax",
        ),
        (forward("log1p", Operand(numel=4, minimum=-1.0, maximum=0.0)), "log-of-zero", "clamp"),
        (forward("rsqrt", NEGATIVE), "sqrt-of-negative", "rsqrt"),
        (forward("rsqrt", ZEROS), "division-by-zero", "1e-8"),
        (forward("div", POSITIVE, **{"1": 0.0}), "division-by-zero", "1e-8"),
        (
            forward("div", POSITIVE, Operand(source="count", numel=1, minimum=0, maximum=0, zeros=1)),
            "division-by-zero",
            "y + 1e-8",
        ),
        (forward("pow", ZEROS, **{"1": -1.0}), "division-by-zero", "** p"),
        (forward("lgamma", NEGATIVE), "outside-domain", "lgamma"),
        (forward("empty", output=NAN), "uninitialised-memory", "torch.zeros"),
        (forward("softmax", POSITIVE), "unknown", "domain"),
        (forward("exp2", Operand(numel=1, minimum=1.0, maximum=200.0), output=INFINITE), "exp-overflow", "logsumexp"),
        (backward("std", POSITIVE, result=ZEROS), "sqrt-at-zero", "var"),
        (backward("atan2", ZEROS, ZEROS), "edge-of-domain", "second argument"),
        (backward("mul", POSITIVE, output=Operand(dtype="float16", positive=1)), "half-overflow", "bf16-mixed"),
        (backward("mul", POSITIVE, output=INFINITE, upstream=1e20), "overflow", "clip"),
        (backward("mul", POSITIVE), "unknown", "domain"),
    ],
)
def test_a_reason_and_its_fix(origin, reason, fix):
    told = explain(origin)
    assert told.reason == reason
    assert fix in told.fix


def test_infinite_masks_are_told():
    origin = Origin(kind="forward", operation="sub", operands=(INFINITE,), output=NAN, masked=("masked_fill",))
    assert explain(origin).reason == "infinite-mask"


def test_numbers_and_subjects():
    assert number(math.pi) == "3.142"
    assert span(NAN) == "the 4 values"
    assert subject(None, "loss") == "loss"
    assert subject(forward("log"), "loss") == "log"


def gradient(**how):
    event = NonFiniteStep(**{"loss": 0.5, "gradients": ("w",), "gradient_count": 1, "gradient_total": 2, **how})
    return list(nonfinite_gradient(Record([StepWindow(), event])))


def test_a_scaler_that_looks_for_its_scale_is_no_fault():
    scaled = {"scale": 1024.0, "scaler_skips": 4, "action": "scaler"}
    assert gradient(**scaled, unscaled_finite=True) == []
    assert gradient(**scaled, unscaled_finite=None) == []
    assert len(gradient(**scaled, unscaled_finite=False)) == 1
    (claim,) = gradient(**{**scaled, "scale": 0.5}, unscaled_finite=True)
    assert "every scale down to 0.5" in claim.message
    assert "bf16-mixed" in claim.fix


def test_a_run_that_diverges_in_its_gradient():
    window = StepWindow(
        steps=(0, 1, 2), losses={"loss": (1.0, 1.1, 1.2)}, gradient_norms={"gradient_norm": (1.0, 9.0, 5e6)}
    )
    event = NonFiniteStep(
        loss=2.0, gradients=("w",), gradient_count=1, gradient_total=1, learning_rate=0.5, optimizer="SGD"
    )
    (claim,) = nonfinite_gradient(Record([window, event]))
    assert claim.subject == "learning rate of SGD"
    assert "0.5" in claim.fix
    assert "max_norm=1" in claim.fix


@pytest.mark.parametrize("last", [-7e9, 7e9])
def test_a_loss_that_falls_without_end_is_no_matter_of_the_rate(last):
    window = StepWindow(
        steps=(0, 1, 2), losses={"loss": (40.0, 9.0, last)}, gradient_norms={"gradient_norm": (1.0, 2.0, 30.0)}
    )
    event = NonFiniteStep(
        loss=last, gradients=("w",), gradient_count=1, gradient_total=1, optimizer="SGD", at=Moment(step=2)
    )
    (claim,) = nonfinite_gradient(Record([window, event]))
    assert claim.message.endswith((", without end.", ", the run diverges."))
    assert claim.message.count(".") == len(re.findall(r"\d\.\d", claim.message)) + 1
    assert claim.subject == ("loss" if last < 0 else "learning rate of SGD")
    assert ("fallen below zero" in claim.message) is ("sign" in claim.fix) is (last < 0)


def test_an_origin_that_is_not_known_is_said_with_the_reason():
    (claim,) = gradient(unknown="of some reason", fields=(NonFiniteTensor(name="batch[0]", nan=1),))
    assert "of some reason (values that are not finite are in batch[0])" in claim.message


def test_an_engine_that_hides_gradients_is_a_reason_not_to_judge():
    outcomes = list(
        nonfinite_gradient(Record([StepWindow(), Unavailable(evidence="NonFiniteStep", reason="of DeepSpeed")]))
    )
    assert outcomes == [Skip("of DeepSpeed")]


def test_a_field_without_rows():
    field = NonFiniteTensor(name="batch", numel=1, positive=1)
    event = NonFiniteStep(loss=math.inf, fields=(field,), causes=("batch",))
    (claim,) = nonfinite_input(Record([StepWindow(), event]))
    assert "a single value" in claim.message
    assert "other batches at hand" in claim.message


def test_a_frozen_parameter_counts_only_with_nan():
    def told(**counts):
        weight = NonFiniteTensor(name="w", kind="parameter", numel=2, trainable=False, **counts)
        return list(nonfinite_parameter(Record([WeightsCheck(bad=(weight,), bad_count=1)])))

    assert told(positive=1) == []
    assert len(told(nan=1)) == 1


@pytest.mark.parametrize(("nan", "throughout"), [(128, True), (100, False)])
def test_samples_that_are_divided_by_nothing(nan, throughout):
    field = NonFiniteTensor(name="batch[0]", shape=(30, 1, 8, 8), numel=1920, nan=nan, rows=(3, 9), row_count=2)
    event = NonFiniteStep(loss=math.nan, fields=(field,), causes=("batch[0]",), proved=True)
    (claim,) = nonfinite_input(Record([StepWindow(), event]))
    assert ("x.std() + 1e-6" in claim.fix) is throughout
