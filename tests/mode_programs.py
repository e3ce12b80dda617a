"""Small programs for the tests of ModeChecker: a base module, loaders, and one way to run them."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug import ModeChecker, Report
from tests.helpers import trainer

IGNORED_WARNINGS = (
    "ignore:Found .* in eval mode at the start of training",
    "ignore:Trying to infer the `batch_size`",
    "ignore:`torch.jit",
    "ignore:You defined a `validation_step` but have no",
    "ignore:The `LightningModule.toggle",
)
"""What Lightning and PyTorch say about these programs."""


def data(samples: int = 96, batch: int = 16) -> DataLoader:
    inputs = torch.randn(samples, 8, generator=torch.Generator().manual_seed(1))
    return DataLoader(TensorDataset(inputs, (inputs[:, 0] > 0).long()), batch_size=batch)


def network(width: int = 16) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(8, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, 2)
    )  # fmt: skip


class Net(pl.LightningModule):
    """A healthy classifier; programs override what they need."""

    def __init__(self):
        super().__init__()
        self.net = network()

    def forward(self, inputs):
        return self.net(inputs)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def checked(model: pl.LightningModule, *callbacks: Any, val: Any = True, train: Any = None, **options: Any) -> Report:
    """Fits with a ModeChecker between ``callbacks`` and returns what it reports."""
    checker = ModeChecker(action=options.pop("action", "warn"))
    before = options.pop("before", [])
    loaders = [train or data()] + ([data(32)] if val is True else [] if val is None else [val])
    trainer(*before, checker, *callbacks, **{"max_epochs": 2, **options}).fit(model, *loaders)
    return checker.report


def only(report: Report, code: str) -> Any:
    """The one finding, which must be of ``code``."""
    assert [item.code for item in report.findings] == [code], report.findings
    return report.findings[0]


def line_of(text: str, source: str) -> int:
    """Number of the line in a file's text that ends with ``text``."""
    return next(number for number, line in enumerate(source.splitlines(), 1) if line.rstrip().endswith(text))
