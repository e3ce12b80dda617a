"""The sign of a loss is read off its graph: of torch's losses, of squares written by hand, of likelihoods."""

import pytest
import torch
from torch.distributions import Normal
from torch.nn import functional as F

from lightning_debug.evidence.curves import CurveReading, TrainingCourse, TrainingLossInEval, ValidationCourse
from lightning_debug.evidence.optimization import GroupUpdate, ParameterCoverage, UpdateAudit, WatchedParameter
from lightning_debug.evidence.run import RunContext
from lightning_debug.probes.update_sign import SIZE, SQUARE, against, loss_sign
from lightning_debug.record import Record
from lightning_debug.rules.ld406_parameter_not_in_optimizer import parameter_not_in_optimizer
from lightning_debug.rules.ld608_steps_go_uphill import steps_go_uphill

DATA = torch.randn(8)
LABELS = torch.arange(8) % 3
ONE_HOT = F.one_hot(LABELS, 3).float()
SIDES = 1.0 - 2.0 * (torch.arange(8) % 2)


def rows():
    return F.log_softmax(torch.randn(8, 3, requires_grad=True), dim=1)


def out():
    return torch.randn(8, requires_grad=True)


def by_hand(share):
    sides = (LABELS > 0).float()
    return sides * torch.log(share) + (1 - sides) * torch.log(1 - share)


def hazard():
    """Cox's partial likelihood of eight patients, five of whom met the event."""
    risk = out() * 1.0
    return ((risk - torch.logcumsumexp(risk, 0)) * (LABELS > 0)).sum() / (LABELS > 0).sum()


def counts(sign, given=LABELS):
    """Poisson's likelihood of counts, written by hand, or of other numbers."""
    rate = out() * 1.0
    return (torch.exp(rate) - given * rate).mean() if sign > 0 else (given * rate - torch.exp(rate)).mean()


SIGNS = {
    "counts": (lambda: counts(1), 1),
    "counts, no minus": (lambda: counts(-1), -1),
    "counts, of torch": (lambda: -F.poisson_nll_loss(out() * 1.0, LABELS.float()), -1),
    "an exponential less numbers of both signs": (lambda: counts(-1, DATA), 0),
    "an exponential less another output": (lambda: (out() * LABELS - torch.exp(out() * 1.0)).mean(), 0),
    "partial likelihood": (lambda: -hazard(), 1),
    "partial likelihood, no minus": (hazard, -1),
    "free energy": (lambda: torch.logsumexp(out(), 0) - out().mean(), 0),
    "squares under weights": (lambda: (LABELS * (out() - DATA) ** 2).mean(), 1),
    "squares under weights of both signs": (lambda: (DATA * (out() - DATA) ** 2).mean(), 0),
    "mean of squares": (lambda: ((out() - DATA) ** 2).mean(), 1),
    "negated squares": (lambda: -(DATA - out()).pow(2).mean(), -1),
    "negative log-likelihood": (lambda: -Normal(out(), F.softplus(out())).log_prob(DATA).mean(), 1),
    "log-likelihood": (lambda: Normal(out(), F.softplus(out()) + 0.1).log_prob(DATA).mean(), -1),
    "log-likelihood of fixed width": (lambda: Normal(out(), 1.0).log_prob(DATA).sum(), -1),
    "likelihood by hand": (lambda: (-(((DATA - out()) / F.softplus(out())) ** 2) / 2 - out()).mean(), -1),
    "loss by hand": (lambda: ((((DATA - out()) / (F.softplus(out()) + 0.1)) ** 2) / 2 + out()).mean(), 1),
    "correlation": (lambda: -((out() / out().norm()) ** 2).mean(), 0),
    "kernel": (lambda: -torch.exp(-(((out() - DATA) / 2) ** 2)).mean(), 0),
    "labels chosen by hand": (lambda: -rows().gather(1, LABELS[:, None]).mean(), 1),
    "labels chosen, no minus": (lambda: rows()[torch.arange(8), LABELS].mean(), -1),
    "labels as rows of 0 and 1": (lambda: -(ONE_HOT * rows()).sum(1).mean(), 1),
    "labels as rows of 0 and 1, no minus": (lambda: (ONE_HOT * rows()).sum(1).mean(), -1),
    "labels as rows, softmax, no minus": (lambda: (torch.log(rows().exp().softmax(1) + 1e-8) * ONE_HOT).sum(), -1),
    "returns of actions": (lambda: -((ONE_HOT * DATA[:, None]) * rows()).sum(1).mean(), 0),
    "entropy": (lambda: (rows().exp() * rows()).sum(1).mean(), 0),
    "policy of actions": (lambda: -(rows().gather(1, LABELS[:, None])[:, 0] * DATA).mean(), 0),
    "policy gradient": (lambda: -(Normal(out(), 1.0).log_prob(DATA) * torch.randn(8)).mean(), 0),
    "distance of two outputs": (lambda: -(out() - out()).pow(2).mean(), 0),
    "size of an output": (lambda: -out().pow(2).mean(), 0),
    "hinge by hand": (lambda: torch.clamp(1 - SIDES * out(), min=0).mean() + 0.01 * out().pow(2).sum(), 1),
    "ranking of pairs": (lambda: -F.logsigmoid(out() - out()).mean(), 1),
    "ranking of pairs, no minus": (lambda: F.logsigmoid(out() - out()).mean(), -1),
    "logarithm of a sigmoid, no minus": (lambda: torch.log(torch.sigmoid(out() - out()) + 1e-8).mean(), -1),
    "cross-entropy by hand": (lambda: -by_hand(torch.sigmoid(out())).mean(), 1),
    "cross-entropy by hand, kept off 0": (lambda: -by_hand(torch.sigmoid(out()).clamp(1e-6, 1 - 1e-6)).sum(), 1),
    "cross-entropy by hand, no minus": (lambda: by_hand(torch.sigmoid(out())[:]).mean(), -1),
    "two players": (lambda: (F.logsigmoid(out()) - F.logsigmoid(out())).mean(), 0),
    "rewards": (lambda: -(F.logsigmoid(out()) * DATA).mean(), 0),
    "logarithm of an amount": (lambda: torch.log(out().exp() + 1).mean(), 0),
    "hinge, negated": (lambda: -F.relu(1 - out() * SIDES).mean(), -1),
    "hinge of a critic": (lambda: F.relu(1 - out()).mean(), 0),
    "hinge under returns": (lambda: -F.relu(1 - out() * DATA).mean(), 0),
    "squares against squares": (lambda: (out() - DATA).pow(2).mean() - (out() - 2 * DATA).pow(2).mean(), 0),
}


@pytest.mark.parametrize("name", SIGNS)
def test_signs(name):
    make, expected = SIGNS[name]
    assert loss_sign(make())[0] == expected


def costs():
    return F.cross_entropy(torch.randn(8, 3, requires_grad=True), LABELS)


def divergence(sign):
    mean, width = out(), out()
    return sign * -0.5 * (1 + width - mean.pow(2) - width.exp()).mean()


TERMS = {
    "two tasks": (lambda: costs() + 0.5 * F.mse_loss(out(), DATA), ""),
    "one negated": (lambda: 0.5 * costs() - F.mse_loss(out(), DATA), "mse_loss"),
    "all negated": (lambda: -costs() - F.mse_loss(out(), DATA), ""),
    "entropy as a bonus": (lambda: costs() - 0.01 * -(rows().exp() * rows()).sum(1).mean(), ""),
    "masked squares": (lambda: (DATA - out())[DATA > -9].pow(2).mean() - costs(), "cross_entropy"),
    "its own square": (lambda: (DATA - out())[DATA > -9].pow(2).mean() - (out() - out()).pow(2).mean(), SQUARE),
    "its own square, added": (lambda: costs() + (out() - out()).pow(2).mean(), ""),
    "its own square alone": (lambda: costs().exp() - (out() - out()).pow(2).mean(), ""),
    "divergence from normal": (lambda: costs() + divergence(1), ""),
    "divergence, negated": (lambda: costs() + divergence(-1), SIZE),
    "divergence under a weight": (lambda: costs() + 0.3 * divergence(-1), SIZE),
    "weighted by a learned width": (lambda: costs() * torch.exp(-out()[0]) + out()[0], ""),
    "penalty of size": (lambda: costs() + 0.01 * out().pow(2).mean(), ""),
    "hinge of two errors": (lambda: F.relu(1 + F.mse_loss(out(), DATA) - F.mse_loss(out(), -DATA)), ""),
}


@pytest.mark.parametrize("name", TERMS)
def test_terms_against_each_other(name):
    make, expected = TERMS[name]
    assert against(make()) == expected


@pytest.mark.parametrize(
    ("start", "end", "seen", "codes"),
    [
        (0.4, -800.0, {"against": "mse_loss"}, ["loss"]),
        (0.4, -0.6, {"against": "mse_loss"}, []),  # a term that two outputs keep within bounds
        (12.0, -90.0, {"against": "cross_entropy"}, []),
        (-1.6, -15.4, {"against": "cross_entropy"}, ["loss"]),
        (-1.6, -7.0, {"against": "cross_entropy"}, []),  # two players keep it within bounds
        (-220.0, -300.0, {"against": "cross_entropy"}, []),  # a sum
        (-1.6, -15.4, {"against": "mse_loss"}, []),
        (0.4, -800.0, {}, []),  # a likelihood may fall below zero
        (0.4, -800.0, {"against": "mse_loss", "words": ("adversarial",)}, []),
        (0.4, -800.0, {"against": "mse_loss", "optimizers": 2}, []),
        (0.4, -800.0, {"against": "mse_loss", "frozen_share": 0.9}, []),
    ],
)
def test_a_loss_that_falls_without_end(start, end, seen, codes):
    reading = CurveReading(training=TrainingCourse(steps=200, start=start, end=end))
    record = Record([UpdateAudit(**seen), UpdateAudit(**seen), reading])
    assert [claim.subject for claim in steps_go_uphill(record)] == codes


def _twice(signs=(-1, -1), values=(40.0, 900.0), name="val_nll", **audit):
    """What training batches cost in two epochs by training_step, and, with another sign, by validation_step."""
    again = [
        TrainingLossInEval(epoch=epoch, batches=8, train_mode=sign * value, eval_mode=sign * value, by_validation=value)
        for epoch, (sign, value) in enumerate(zip(signs, values, strict=True))
    ]
    reading = CurveReading(validation=ValidationCourse(name=name), training=TrainingCourse(steps=90, span=90))
    return Record([UpdateAudit(**audit), *again, reading])


QUIET = {
    "the same sign": {"signs": (1, 1)},
    "both fall: a log-likelihood below zero in validation's loss": {"values": (-40.0, -9.0)},
    "hardly larger": {"values": (40.0, 44.0)},
    "what is to be large": {"name": "val_elbo"},
    "other optimizers": {"optimizers": 2},
    "attacks on purpose": {"words": ("attack",)},
    "another sign in one epoch alone": {"signs": (1, -1)},
}


@pytest.mark.parametrize("other", QUIET.values(), ids=QUIET)
def test_quiet_on_a_validation_of_the_same_sign(other):
    assert list(steps_go_uphill(_twice(**other))) == []


def test_validation_logs_the_negative_and_grows():
    (claim,) = steps_go_uphill(_twice())
    assert "validation logs 900 as 'val_nll'" in claim.message


@pytest.mark.parametrize(("resumed", "maximize", "said"), [(False, False, 1), (True, False, 0), (True, True, 1)])
def test_momentum_of_a_checkpoint_may_lead_uphill(resumed, maximize, said):
    """As where the batches before it held one class, and the first ones after it another."""
    group = GroupUpdate(optimizer="AdamW", slope=0.3, update_norm=1.0, gradient_norm=1.0, maximize=maximize)
    steps = [UpdateAudit(groups=(group,), loss_sign=1, loss_function="mse_loss", optimizers=1) for _ in range(2)]
    assert len(list(steps_go_uphill(Record([RunContext(resumed=resumed), *steps])))) == said


def test_the_rest_of_a_part_that_is_named_is_not_named_again():
    weight, bias = (
        WatchedParameter(name=f"body.{name}", owner=owner, shape=(4, 4), numel=16, batches=2, untrained=True)
        for name, owner in (("0.weight", "body.0"), ("2.bias", "body.2"))
    )
    other = WatchedParameter(name="gate.weight", owner="gate", shape=(4,), numel=4, batches=2, untrained=True)
    second = WatchedParameter(name="body.1.weight", owner="body.1", shape=(4,), numel=4, batches=2, untrained=True)
    found = parameter_not_in_optimizer(
        Record([ParameterCoverage(missing=(weight, second)), ParameterCoverage(missing=(weight, second, bias, other))])
    )
    assert [claim.subject for claim in found] == ["body", "gate"]
