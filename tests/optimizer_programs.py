"""Small programs for the tests of OptimizerInspector: how healthy and faulty ones optimise."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug.callbacks.optimizer_inspector import OptimizerInspector
from tests.helpers import trainer


def loader(samples: int = 160, batch_size: int = 16) -> DataLoader:
    """Points of the plane and beyond, labelled by a line."""
    inputs = torch.randn(samples, 8, generator=torch.Generator().manual_seed(0))
    labels = (inputs[:, 0] + inputs[:, 1] > 0).long()
    return DataLoader(TensorDataset(inputs, labels), batch_size=batch_size, shuffle=True)


class Classifier(pl.LightningModule):
    """A body, a head, Adam."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU())
        self.head = nn.Linear(16, 2)

    def scores(self, inputs):
        return self.head(self.body(inputs))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.scores(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


class ByHand(Classifier):
    """Manual optimization."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        loss = super().training_step(batch, batch_idx)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()


def inspected(model: pl.LightningModule, data: Any = None, **options: Any) -> OptimizerInspector:
    """Fits with the inspector alone, its failures let through."""
    torch.manual_seed(options.pop("seed", 0))
    inspector = OptimizerInspector()
    trainer(*options.pop("callbacks", []), inspector, **options).fit(model, loader() if data is None else data)
    failed = [item for item in inspector.report.findings if item.code in ("LD001", "LD002")]
    assert not failed, failed[0].measured
    return inspector


def found(model: pl.LightningModule, data: Any = None, **options: Any) -> list[str]:
    """Codes of the headlines."""
    return [item.code for item in inspected(model, data, **options).report.headlines]
