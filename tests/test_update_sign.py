"""The sign of a loss is read off its graph: of torch's losses, of squares written by hand, of likelihoods."""

import pytest
import torch
from torch.distributions import Normal
from torch.nn import functional as F

from lightning_debug.probes.update_sign import loss_sign

DATA = torch.randn(8)
LABELS = torch.arange(8) % 3


def rows():
    return F.log_softmax(torch.randn(8, 3, requires_grad=True), dim=1)


def out():
    return torch.randn(8, requires_grad=True)


SIGNS = {
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
    "policy of actions": (lambda: -(rows().gather(1, LABELS[:, None])[:, 0] * DATA).mean(), 0),
    "policy gradient": (lambda: -(Normal(out(), 1.0).log_prob(DATA) * torch.randn(8)).mean(), 0),
    "distance of two outputs": (lambda: -(out() - out()).pow(2).mean(), 0),
    "size of an output": (lambda: -out().pow(2).mean(), 0),
    "squares against squares": (lambda: (out() - DATA).pow(2).mean() - (out() - 2 * DATA).pow(2).mean(), 0),
}


@pytest.mark.parametrize("name", SIGNS)
def test_signs(name):
    make, expected = SIGNS[name]
    assert loss_sign(make())[0] == expected
