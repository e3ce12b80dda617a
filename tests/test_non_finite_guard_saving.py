"""``save_batch=True`` writes a file and a script that reproduces the bad value in a process of its own making."""

import importlib
import runpy
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug import NonFiniteGuard
from tests.guarded import Program, loader, run
from tests.helpers import trainer

MODEL = """
import dataclasses
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from typing import NamedTuple


class Sample(NamedTuple):
    x: torch.Tensor
    y: torch.Tensor


class Net(pl.LightningModule):
    def __init__(self, width=4, kind="tuple", manual=False):
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = not manual
        self.net = nn.Sequential(nn.Linear(8, width), nn.Dropout(0.5), nn.Linear(width, 4))

    def training_step(self, batch, batch_idx):
        x, y = {"tuple": lambda: batch, "dict": lambda: (batch["x"], batch["y"]),
                "named": lambda: (batch.x, batch.y)}[self.hparams.kind]()
        kept = F.dropout(torch.ones(x.shape[0]), 0.03)  # bad for some draws only
        loss = F.mse_loss(self.net(x) / kept.unsqueeze(1), y)
        self.log("train_loss", loss)
        if not self.automatic_optimization:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
            return None
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())
"""


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setenv("LIGHTNING_DEBUG_STRICT", "1")
    monkeypatch.setenv("LIGHTNING_DEBUG_CONSOLE", "0")


@pytest.fixture
def model(tmp_path, monkeypatch):
    (tmp_path / "saved_model.py").write_text(MODEL)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("saved_model")
    del sys.modules["saved_model"]


@pytest.mark.parametrize(
    ("kind", "action", "manual"),
    [
        pytest.param("tuple", "warn", False, marks=pytest.mark.slow),
        pytest.param("dict", "skip", False, marks=pytest.mark.slow),
        ("named", "skip", False),
        pytest.param("tuple", "skip", True, marks=pytest.mark.slow),
    ],
)
def test_the_script_reproduces_the_value(kind, action, manual, model, tmp_path, capsys):
    x, y = torch.randn(64, 8), torch.randn(64, 4)
    rows = {"tuple": TensorDataset(x, y), "dict": [{"x": a, "y": b} for a, b in zip(x, y, strict=True)],
            "named": [model.Sample(a, b) for a, b in zip(x, y, strict=True)]}[kind]  # fmt: skip
    torch.manual_seed(0)
    guard = NonFiniteGuard(action, save_batch=True)
    net = model.Net(width=6, kind=kind, manual=manual)
    trainer(guard, max_epochs=3, default_root_dir=str(tmp_path)).fit(net, DataLoader(rows, batch_size=16))
    headline = guard.report.headlines[0]
    script = headline.fix.rpartition("Replay it: python ")[2].rstrip(".")
    assert script.startswith(str(tmp_path / "lightning_debug" / "bad_step_"))
    held = torch.load(script.replace(".py", ".pt"), weights_only=True)
    assert held["arguments"] == {"width": 6, "kind": kind, "manual": manual}
    torch.manual_seed(99)
    capsys.readouterr()
    runpy.run_path(script)
    told = capsys.readouterr().out
    assert "inf" in told or "nan" in told
    assert len(Path(script).read_text().splitlines()) <= 20


def test_what_cannot_be_saved_is_told(tmp_path):
    class Odd:
        def __init__(self, x):
            self.x = x

    data = DataLoader(
        TensorDataset(torch.randn(32, 8)), batch_size=16, collate_fn=lambda rows: Odd(torch.stack([r[0] for r in rows]))
    )
    guard, raised = run(
        Program(lambda m, b: torch.log(m.net(b.x)).mean()), data, NonFiniteGuard("skip", save_batch=True),
        default_root_dir=str(tmp_path),
    )  # fmt: skip
    assert raised is None
    assert "not saved: a batch that holds a Odd" in guard.report.headlines[0].fix


def test_a_class_made_in_a_function_is_saved_without_a_script(tmp_path):
    class Local(Program):
        pass

    guard, _ = run(
        Local(lambda m, b: torch.log(m.net(b[0])).mean()), loader(), NonFiniteGuard("skip", save_batch=True),
        default_root_dir=str(tmp_path),
    )  # fmt: skip
    assert "no script: Local is made in a function" in guard.report.headlines[0].fix
    assert list((tmp_path / "lightning_debug").glob("bad_step_*.pt"))
