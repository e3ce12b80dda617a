"""The corpus of origins, backward: the loss is finite, and a derivative is not."""

import pytest
import torch

from tests.guarded import mse
from tests.origins import ONE_ZERO, ZERO_ROW, Case, check, far, names


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setenv("LIGHTNING_DEBUG_STRICT", "1")
    monkeypatch.setenv("LIGHTNING_DEBUG_CONSOLE", "0")


def hidden_log(part, x):
    return torch.where(x != 0, torch.log((x * part.p).abs()), 0.0)


def hidden_exp(part, x):
    return torch.where(x < 50, torch.exp(x * part.p), 1.0)


def hidden_ratio(part, x):
    return torch.where(x != 0, part.p / x, 0.0)


def length(part, x):
    return x / ((x * part.p).square().sum(1, keepdim=True).sqrt() + 1.0)


def spread(part, x):
    return x / ((x * part.p).var(1, keepdim=True).sqrt() + 1.0)


def hidden_softmax(part, x):
    nothing = (x == 0).all(1, keepdim=True)
    mask = torch.zeros_like(x).masked_fill(nothing, -torch.inf)
    return torch.softmax(x * part.p + mask, 1).masked_fill(nothing, 0.0)


def vectors(part, x):
    return x @ torch.linalg.eigh(torch.eye(x.shape[1]) * part.p).eigenvectors


P = "net.1.p"
GRADIENT = {"code": "LD303", "last": True}
FOUR = [0.0, 1.0, 1.0, 1.0]

CASES = {
    "log input": Case(hidden_log, "log", "masked-branch", "abs", "LD303", cells=ONE_ZERO),
    "log parameter": Case(
        lambda m, x: x * torch.where(m.p > 0, m.p.log(), 0.0), "log", "masked-branch", "-Inf", parameter=FOUR, **GRADIENT
    ),
    "log tiny parameter": Case(
        lambda m, x: x * m.p.log(), "log", "log-of-tiny", P, parameter=[1e-40, 1.0, 1.0, 1.0], fix="1e-8", **GRADIENT
    ),
    "exp input": Case(hidden_exp, "exp", "masked-branch", "+Inf", "LD303", cells={(5, 2): 99.0}),
    "exp parameter": Case(
        lambda m, x: x * torch.where(m.p < 50, m.p.exp(), 1.0), "exp", "masked-branch", parameter=[1.0, 99.0, 1.0, 1.0],
        **GRADIENT,
    ),
    "exp rate": Case(
        lambda m, x: x * 0.1 + torch.where(m.p < 50, m.p.exp(), 1.0), "exp", "masked-branch", parameter=3.0, rate=0.2,
        loss=far, **GRADIENT,
    ),
    "division input": Case(hidden_ratio, "div", "masked-branch", "batch[0]", "LD303", cells=ONE_ZERO),
    "division tiny parameter": Case(
        lambda m, x: (x * 1e-39) / m.p, "div", "division-by-tiny", P, parameter=[1.0, 1.0, 1.0, 1e-39], fix="1e-8",
        **GRADIENT,
    ),
    "sqrt input": Case(length, "sqrt", "sqrt-at-zero", "sum", "LD303", cells=ZERO_ROW, fix="1e-8"),
    "sqrt of variance": Case(spread, "sqrt", "sqrt-at-zero", "var", "LD303", cells=ZERO_ROW, fix="1e-8"),
    "sqrt parameter": Case(lambda m, x: x * m.p.sqrt(), "sqrt", "sqrt-at-zero", P, parameter=0.0, **GRADIENT),
    "pow parameter": Case(lambda m, x: x * m.p.abs() ** 0.5, "pow", "sqrt-at-zero", "abs", parameter=0.0, **GRADIENT),
    "acos input": Case(
        lambda m, x: torch.acos((x * m.p).clamp(-1, 1)), "acos", "edge-of-domain", "clamp", "LD303", cells={(5, 2): 1.0},
        fix="1 - 1e-6",
    ),
    "asin parameter": Case(lambda m, x: x * m.p.asin(), "asin", "edge-of-domain", P, parameter=-1.0, **GRADIENT),
    "softmax input": Case(hidden_softmax, "softmax", "masked-branch", "NaN", "LD303", cells=ZERO_ROW),
    "half input": Case(
        lambda m, x: (x * m.p).half().float() * 1e5, "float", "half-overflow", "65504", "LD303", cells={(5, 2): 999.0}
    ),
    "half loss": Case(
        lambda m, x: (x * m.p).half().float(), "float", "half-overflow", "65504", loss=lambda m, b: mse(m, b) * 1e8,
        **GRADIENT,
    ),
    "eigh parameter": Case(vectors, "linalg_eigh", "singular-matrix", fix="torch.eye", **GRADIENT),
    "overflow parameter": Case(
        lambda m, x: x * (m.p * 1e-30) * 1e30, "mul", "overflow", fix="gradients", loss=lambda m, b: mse(m, b) * 1e20, **GRADIENT
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", names(CASES))
def test_origin(name):
    check(CASES[name])
