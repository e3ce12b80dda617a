"""Programs for the corpus of origins: a net of two modules, of which one holds the operation that goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.guarded import Program, found, loader, mse, sgd

ALL = slice(None)
ZERO_ROW = {(5, None): 0.0}
ONE_ZERO = {(5, 2): 0.0}


class Part(nn.Module):
    """A module around a function of itself and its input, with one parameter ``p``."""

    def __init__(self, function, parameter):
        super().__init__()
        self.function, self.p = function, nn.Parameter(torch.as_tensor(parameter, dtype=torch.float32))

    def forward(self, x):
        return self.function(self, x)


def far(module, batch):
    """A loss that pulls the prediction up to 100."""
    return F.mse_loss(module.net(batch[0]), batch[1] + 100)


@dataclass
class Case:
    """A program, and what is expected of its one headline.

    Args:
        function: What the part does.
        operation: The operation that is to blame; empty where the run diverges.
        reason: Why.
        source: What the message names: the operand.
        code: The headline's code.
        parameter: The part's parameter.
        cells: Values of the inputs, by row and column (``None``: all of them).
        last: Whether the part comes after the linear layer.
        rate: The learning rate, where the updates are what goes wrong, in a later step than the first.
        fix: What the fix names.
        loss: The loss.
    """

    function: Callable[[Any, torch.Tensor], torch.Tensor]
    operation: str
    reason: str
    source: str = ""
    code: str = "LD302"
    parameter: Any = 1.0
    cells: dict[Any, float] = field(default_factory=dict)
    last: bool = False
    rate: float = 0.0
    fix: str = ""
    loss: Callable[..., Any] = mse


def program(case):
    """The program and its data."""
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    y = x[:, :4].clone()
    for (row, column), value in case.cells.items():
        x[ALL if row is None else row, ALL if column is None else column] = value
    part = Part(case.function, case.parameter)
    torch.manual_seed(2)
    net = nn.Sequential(nn.Linear(8, 4), part) if case.last else nn.Sequential(part, nn.Linear(8, 4))
    return Program(case.loss, sgd(case.rate or 1e-3), net), loader(x, y)


def check(case):
    """Fits, and holds the headline against what is expected."""
    headlines = found(*program(case), max_epochs=-1, max_steps=100 if case.rate else 1)
    assert len(headlines) == 1
    headline = headlines[0]
    told = f"{headline.subject} | {headline.message} | {headline.fix}"
    assert headline.code == case.code, told
    if case.operation:
        assert (headline.measured["operation"], headline.measured["reason"]) == (case.operation, case.reason), told
        assert headline.measured["module"] == ("net.1" if case.last else "net.0"), told
    assert case.source in headline.message, told
    assert case.fix in headline.fix, told
    assert (headline.at.step > 0) == bool(case.rate), told


def names(cases):
    """Every third case by default, the others with the slow tests."""
    return [name if index % 3 == 1 else pytest.param(name, marks=pytest.mark.slow) for index, name in enumerate(cases)]
