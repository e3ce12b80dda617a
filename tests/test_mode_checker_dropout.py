"""Dropout that ignores the mode (LD404), proven by one isolated step."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.mode_programs import IGNORED_WARNINGS, Net, checked, only

pytestmark = [pytest.mark.filterwarnings(text) for text in IGNORED_WARNINGS]
SOURCE = Path(__file__).read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setenv("LIGHTNING_DEBUG_STRICT", "1")
    monkeypatch.setenv("LIGHTNING_DEBUG_CONSOLE", "0")


def line(mark: str) -> str:
    found = [number for number, text in enumerate(SOURCE.splitlines(), 1) if text.endswith(f"# {mark}")]
    assert len(found) == 1, mark
    return f"{Path(__file__).name}:{found[0]}"


class Functional(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind, self.linear = kind, nn.Linear(8, 8)

    def forward(self, inputs):
        x = self.linear(inputs)
        if self.kind == "default":
            return F.dropout(x, 0.3)  # default
        if self.kind == "keyword":
            return F.dropout(x, p=0.3, training=True)  # keyword
        if self.kind == "torch":
            return torch.dropout(x, 0.3, True)  # torch
        if self.kind == "channels":
            return F.dropout1d(x[:, None], 0.3)[:, 0]  # channels
        if self.kind == "made":
            return nn.Dropout(0.3)(x)  # made
        if self.kind == "named":
            drop = nn.Dropout(0.3)
            return drop(x)  # named
        if self.kind == "alpha":
            return F.alpha_dropout(x, 0.3, training=True)  # alpha
        x = x[:, None]
        return F.scaled_dot_product_attention(x, x, x, dropout_p=0.3)[:, 0]  # attention


@pytest.mark.parametrize("val", [True, None], ids=["val", "no-val"])
@pytest.mark.parametrize("kind", ["default", "keyword", "torch", "channels", "alpha", "attention", "made", "named"])
def test_functional_dropout(kind, val):
    class Model(Net):
        def __init__(self):
            super().__init__()
            self.part = Functional(kind)

        def forward(self, inputs):
            return self.net(self.part(inputs))

    found = only(checked(Model(), val=val), "LD404")
    assert found.subject.endswith(line(kind))
    assert "`part` (Functional) drops values with probability 0.3 in eval mode" in found.message
    assert found.measured["probability"] == 0.3
    assert ("once, in __init__" in found.fix) == (kind in ("made", "named"))


def helper(values):
    return F.dropout(values)  # helper


def test_dropout_in_a_function_of_the_module():
    class Model(Net):
        def forward(self, inputs):
            return self.net(helper(inputs))

    found = only(checked(Model()), "LD404")
    assert found.subject.endswith(line("helper"))
    assert "Model drops values with probability 0.5" in found.message


def test_dropout_is_not_looked_for_where_nothing_mentions_it(monkeypatch):
    import lightning_debug.experiments.dropout_in_eval as experiment

    monkeypatch.setattr(experiment, "isolated", None)
    report = checked(Net())
    assert not report.findings
    assert not report.skips


def test_unrepeatable_step_is_said():
    class Odd(Net):
        def __init__(self):
            super().__init__()
            self.generator = (number for number in range(10**6))

        def forward(self, inputs):
            return self.net(F.dropout(inputs, 0.1, training=next(self.generator) >= 0))

    report = checked(Odd())
    assert not report.findings
    assert [skip.code for skip in report.skips] == ["LD404"]
