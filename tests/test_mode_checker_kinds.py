"""Which modules are named when they train in eval mode, however they are trained (LD401)."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.mode_programs import IGNORED_WARNINGS, Net, checked, network, only

pytestmark = [pytest.mark.filterwarnings(text) for text in IGNORED_WARNINGS]
SOURCE = Path(__file__).read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setenv("LIGHTNING_DEBUG_STRICT", "1")
    monkeypatch.setenv("LIGHTNING_DEBUG_CONSOLE", "0")


def test_frozen_parts_are_not_named():
    class Mixed(Net):
        def __init__(self):
            super().__init__()
            self.frozen = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.2)).requires_grad_(False)

        def forward(self, inputs):
            return self.net(self.frozen(inputs))

    model = Mixed()
    model.eval()
    found = only(checked(model), "LD401")
    assert found.measured["modules"] == ("net.1", "net.3")
    assert "2 of 4" in found.message


class SelfMade(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, inputs):
        return self.noisy(self.linear(inputs))

    def noisy(self, values):
        return values + torch.randn_like(values) if self.training else values


@pytest.mark.parametrize(
    ("layer", "role"),
    [
        (SelfMade(), "SelfMade"),
        (nn.LSTM(8, 8, 2, dropout=0.2, batch_first=True), "LSTM"),
        (nn.MultiheadAttention(8, 2, dropout=0.2), "MultiheadAttention"),
        (nn.Sequential(nn.Linear(8, 8), nn.RReLU()), "RReLU"),
        (nn.Sequential(nn.Linear(8, 8), nn.InstanceNorm1d(16, track_running_stats=True)), "InstanceNorm1d"),
        (nn.TransformerEncoderLayer(8, 2, 8, dropout=0.2, batch_first=True), "MultiheadAttention"),
    ],
    ids=lambda item: type(item).__name__ if isinstance(item, nn.Module) else "",
)
def test_kinds_of_modules(layer, role):
    class Model(Net):
        def __init__(self):
            super().__init__()
            self.part = nn.ModuleDict({"layer": layer})

        def forward(self, inputs):
            x = inputs[None]
            made = self.part["layer"](x, x, x) if isinstance(layer, nn.MultiheadAttention) else self.part["layer"](x)
            return self.net((made[0] if isinstance(made, tuple) else made)[0])

    model = Model()
    model.part.eval()
    found = only(checked(model), "LD401")
    assert role in found.message
    assert found.subject == "part"


def test_manual_optimization_and_accumulation():
    class Manual(Net):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch, batch_idx):
            optimizer = self.optimizers()
            self.manual_backward(super().training_step(batch, batch_idx))
            if batch_idx % 3 == 2:
                optimizer.step()
                optimizer.zero_grad()

    model = Manual()
    model.net.eval()
    assert only(checked(model), "LD401").subject == "net"
    model = Net()
    model.net.eval()
    found = only(checked(model, accumulate_grad_batches=3), "LD401")
    assert found.at.step <= 3


def test_compiled_model():
    class Compiled(Net):
        def __init__(self):
            super().__init__()
            self.net = torch.compile(network(), backend="eager")

    model = Compiled()
    model.eval()
    found = only(checked(model), "LD401")
    assert "net.1" in found.message


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing(reentrant):
    class Checkpointed(Net):
        def forward(self, inputs):
            return torch.utils.checkpoint.checkpoint(self.net, inputs.requires_grad_(), use_reentrant=reentrant)

    model = Checkpointed()
    model.eval()
    assert only(checked(model), "LD401")


def test_compiled_module_in_eval_and_put_back():
    class Compiled(Net):
        def __init__(self, careful):
            super().__init__()
            self.careful = careful

        def training_step(self, batch, batch_idx):
            if self.careful:
                self.net.train()
            loss = super().training_step(batch, batch_idx)
            if self.careful:
                self.net.eval()
            return loss

    def made(careful):
        model = Compiled(careful)
        model.net.eval()
        model.net = torch.compile(model.net, backend="eager")
        return model

    assert not checked(made(careful=True)).findings
    assert only(checked(made(careful=False)), "LD401").subject == "net"


def test_compiled_steps():
    class Careful(Net):
        def training_step(self, batch, batch_idx):
            self.net.train()
            loss = super().training_step(batch, batch_idx)
            self.net.eval()
            return loss

    model = Net()
    model.net.eval()
    assert only(checked(torch.compile(model, backend="eager")), "LD401").subject == "net"
    model = Careful()
    model.net.eval()
    report = checked(torch.compile(model, backend="eager"))
    assert not report.findings
    assert [skip.reason for skip in report.skips] == ["training_step is compiled, and may change modes within itself"]


class Functional(nn.Module):
    def forward(self, inputs):
        return F.dropout(inputs, 0.2, self.training)


def test_module_that_calls_dropout_as_a_function():
    model = Net()
    model.net = nn.Sequential(nn.Linear(8, 8), Functional(), nn.Linear(8, 2))
    model.net.eval()
    assert "`net.1` (Functional)" in only(checked(model), "LD401").message
