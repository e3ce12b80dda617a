"""The corpus of origins, forward: an operation spoiled by the input, by a parameter, or by the updates."""

import pytest
import torch
from torch.nn import functional as F

from tests.origins import ONE_ZERO, ZERO_ROW, Case, check, far, names


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setenv("LIGHTNING_DEBUG_STRICT", "1")
    monkeypatch.setenv("LIGHTNING_DEBUG_CONSOLE", "0")


def closed(x):
    return x.masked_fill(x == 0, -torch.inf)


def rate(x, **how):
    return F.poisson_nll_loss(x, torch.ones_like(x), reduction="none", **how)


def additive_mask(part, x):
    return torch.softmax(x * part.p + (x == 0).float() * -torch.inf, 1)


def gram(part, x):
    return x * torch.logdet(x.T @ x * part.p)


def inverse(part, x):
    return x @ torch.linalg.inv(x.T @ x * part.p)


P = "net.1.p"
AFTER = {"last": True}
FOUR = [1.0, 0.0, 1.0, 1.0]
LEARNED = {"last": True, "fix": "learning rate (0.2)", "rate": 0.2, "loss": far}
HALVES = {(None, None): 0.5}

CASES = {
    "log input": Case(lambda m, x: torch.log(x) * m.p, "log", "log-of-negative", "batch[0]"),
    "log magnitude": Case(lambda m, x: torch.log(x.abs()) * m.p, "log", "log-of-zero", "abs (net.0)", cells=ONE_ZERO),
    "log parameter": Case(lambda m, x: x * m.p.log(), "log", "log-of-negative", P, parameter=-0.5, **AFTER),
    "log rate": Case(lambda m, x: x - m.p.log(), "log", "log-of-negative", P, parameter=0.5, **LEARNED),
    "log1p input": Case(lambda m, x: torch.log1p(x) * m.p, "log1p", "log-of-zero", "batch[0]", cells={**HALVES, (3, 1): -1}),
    "logit input": Case(lambda m, x: torch.logit(x) * m.p, "logit", "logit-at-edge", "batch[0]", cells={**HALVES, (3, 1): 1}),
    "exp input": Case(lambda m, x: torch.exp(x) * m.p, "exp", "exp-overflow", "batch[0]", cells={(5, 2): 1e3}),
    "exp parameter": Case(lambda m, x: x * m.p.exp(), "exp", "exp-overflow", P, parameter=100.0, **AFTER),
    "exp rate": Case(lambda m, x: x + m.p.exp(), "exp", "exp-overflow", P, parameter=3.0, **LEARNED),
    "rate's logarithm": Case(
        lambda m, x: m.p * rate(x), "poisson_nll_loss", "exp-overflow", "batch[0]", cells={(5, 2): 1e3}, fix="x.clamp(max=20)"
    ),
    "rate of zero": Case(
        lambda m, x: m.p * rate(x.relu(), log_input=False, eps=0.0), "poisson_nll_loss", "log-of-zero", "relu (net.0)",
        fix="F.softplus",
    ),
    "rate below zero": Case(
        lambda m, x: m.p * rate(x, log_input=False), "poisson_nll_loss", "log-of-negative", "batch[0]", fix="log_input=True"
    ),
    "division input": Case(
        lambda m, x: m.p * x / x.abs().sum(1, keepdim=True), "div", "division-by-zero", "sum (net.0)", cells=ZERO_ROW,
        fix=".clamp(min=1)",
    ),
    "division tiny input": Case(lambda m, x: m.p / x, "div", "division-by-tiny", "batch[0]", cells={(5, 2): 1e-39}),
    "division parameter": Case(lambda m, x: x / m.p, "div", "division-by-zero", P, parameter=FOUR, **AFTER),
    "division rate": Case(
        lambda m, x: x + 1 / m.p.relu(), "rdiv", "division-by-zero", "relu (net.1)", parameter=0.3, last=True, rate=0.2,
        loss=far,
    ),
    "reciprocal input": Case(lambda m, x: x.reciprocal() * m.p, "reciprocal", "division-by-zero", "batch[0]", cells=ONE_ZERO),
    "rsqrt parameter": Case(lambda m, x: x * m.p.rsqrt(), "rsqrt", "division-by-zero", P, parameter=0.0, **AFTER),
    "norm input": Case(
        lambda m, x: m.p * x / x.norm(dim=1, keepdim=True), "div", "division-by-zero", "norm (net.0)", cells=ZERO_ROW,
        fix="F.normalize",
    ),
    "std input": Case(
        lambda m, x: m.p * (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True), "div", "division-by-zero", "std",
        cells=ZERO_ROW, fix="std + 1e-6",
    ),
    "sqrt input": Case(lambda m, x: x.sqrt() * m.p, "sqrt", "sqrt-of-negative", "batch[0]"),
    "sqrt parameter": Case(lambda m, x: x * m.p.sqrt(), "sqrt", "sqrt-of-negative", P, parameter=-1.0, **AFTER),
    "sqrt rate": Case(lambda m, x: x - m.p.sqrt(), "sqrt", "sqrt-of-negative", P, parameter=0.1, **LEARNED),
    "0 * Inf input": Case(additive_mask, "mul", "zero-times-infinity", "eq", fix="masked_fill"),
    "0 * Inf parameter": Case(
        lambda m, x: x * (m.p * torch.inf), "mul", "zero-times-infinity", P, parameter=FOUR, **AFTER
    ),
    "Inf constant": Case(lambda m, x: x.square() * m.p + torch.tensor(torch.inf), "add", "infinite-mask", "tensor", **AFTER),
    "square input": Case(
        lambda m, x: x.square() * m.p, "square", "large-input", "batch[0]", cells={(5, 2): 1e25}, fix="batch[0]"
    ),
    "square parameter": Case(lambda m, x: x * m.p.square(), "square", "overflow", parameter=1e25, **AFTER),
    "acos input": Case(lambda m, x: torch.acos(x) * m.p, "acos", "outside-domain", "batch[0]", fix="clamp"),
    "asin parameter": Case(lambda m, x: x * m.p.asin(), "asin", "outside-domain", P, parameter=1.5, **AFTER),
    "acos rate": Case(lambda m, x: x + m.p.acos(), "acos", "outside-domain", P, parameter=0.5, **LEARNED),
    "pow input": Case(lambda m, x: x.pow(1.5) * m.p, "pow", "power-of-negative", "batch[0]"),
    "pow parameter": Case(lambda m, x: x.abs() ** m.p, "pow", "division-by-zero", parameter=-1.0, cells=ONE_ZERO),
    "lgamma input": Case(lambda m, x: torch.lgamma(x) * m.p, "lgamma", "outside-domain", "batch[0]", cells={**HALVES, (2, 2): -1}),
    "softmax input": Case(lambda m, x: torch.softmax(closed(x) * m.p, 1), "softmax", "fully-masked-row", cells=ZERO_ROW),
    "log_softmax input": Case(
        lambda m, x: F.log_softmax(m.p * closed(x), 1), "log_softmax", "fully-masked-row", cells=ZERO_ROW
    ),
    "softmax parameter": Case(
        lambda m, x: torch.softmax(x + m.p.log(), 1), "log", "log-of-zero", P, parameter=0.0, **AFTER
    ),
    "half input": Case(
        lambda m, x: (x * m.p).half().mul(300).float(), "mul", "half-overflow", "65504", cells={(5, 2): 999.0},
        fix="bf16-mixed",
    ),
    "half parameter": Case(lambda m, x: (x.half() * m.p.half() * 9).float(), "mul", "half-overflow", parameter=6e4, **AFTER),
    "half conversion": Case(lambda m, x: (x * m.p).half().float(), "half", "half-overflow", cells={(5, 2): 1e5}),
    "logdet input": Case(gram, "logdet", "singular-matrix", cells={(None, 1): 0.0}, fix="torch.eye"),
    "logdet parameter": Case(gram, "logdet", "singular-matrix", parameter=0.0, **AFTER),
    "full constant": Case(lambda m, x: x * m.p * torch.full((4,), torch.nan), "full", "written", **AFTER),
    "setitem constant": Case(lambda m, x: x * m.p * marked(x), "setitem", "written", **AFTER),
    "divergence": Case(lambda m, x: x * m.p, "", "", "diverges", rate=30.0, last=True, fix="learning rate (30)"),
    "divergence, momentum of depth": Case(
        lambda m, x: (x * m.p) ** 3, "", "", "diverges", rate=1.0, last=True, fix="NonFiniteGuard(max_norm="
    ),
}  # fmt: skip


def marked(x):
    weights = torch.ones_like(x)
    weights[2, 1] = torch.nan
    return weights


@pytest.mark.parametrize("name", names(CASES))
def test_origin(name):
    check(CASES[name])
