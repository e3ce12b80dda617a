"""Small training programs whose loss is the point: a net, a function from batch to loss, and what is logged."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug import Debugger, LossInspector
from tests.helpers import trainer

CODES = ("LD209", "LD210", "LD211", "LD212", "LD213")


class Trained(pl.LightningModule):
    """``loss(self, batch)`` in training."""

    def __init__(self, net, loss, validate=None, *, lr=1e-3, logged=None):
        super().__init__()
        self.net, self.loss, self.validate, self.lr, self.logged = net, loss, validate, lr, logged

    def training_step(self, batch, batch_idx):
        loss = self.loss(self, batch)
        if self.logged is not None:
            self.log_dict(self.logged(self, batch))
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.lr)


class Program(Trained):
    """The same with ``validate(self, batch)``, which gives what validation logs."""

    def validation_step(self, batch, batch_idx):
        self.log_dict(self.validate(self, batch))


def loader(*tensors: Any, batch_size: int = 32, shuffle: bool = True, **options: Any) -> DataLoader:
    return DataLoader(TensorDataset(*tensors), batch_size=batch_size, shuffle=shuffle, **options)


def held_out(*tensors: Any, batch_size: int = 32) -> DataLoader:
    return loader(*tensors, batch_size=batch_size, shuffle=False)


def mlp(inputs: int, outputs: int, *last: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 32), nn.ReLU(), nn.Linear(32, outputs), *last)


def digits(count: int = 160) -> tuple[torch.Tensor, torch.Tensor]:
    """Real digits, 64 features of mean 0."""
    data = load_digits()
    images = torch.tensor(data.data[:count], dtype=torch.float32) / 16 - 0.3
    return images, torch.tensor(data.target[:count])


def blobs(classes: int = 5, count: int = 160, features: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.randint(0, classes, (count,))
    return 1.5 * torch.randn(classes, features)[labels] + torch.randn(count, features), labels


def findings(model, *loaders, select=CODES, callbacks=(), debugger=None, **options):
    """What the rules of this file's tests say of a program, by code."""
    debugger = debugger or Debugger(strict=True, console=False, select=list(select))
    options = {"max_epochs": 1, "num_sanity_val_steps": 0, **options}
    trainer(*callbacks, LossInspector(), debugger, **options).fit(model, *loaders)
    found: dict[str, list[Any]] = {}
    for item in debugger.report.findings:
        found.setdefault(item.code, []).append(item)
    return found


def skips(model, *loaders, select=CODES, **options):
    """Reasons for what was not judged, by code."""
    debugger = Debugger(strict=True, console=False, select=list(select))
    options = {"max_epochs": 1, "num_sanity_val_steps": 0, **options}
    trainer(LossInspector(), debugger, **options).fit(model, *loaders)
    return {item.code: item.reason for item in debugger.report.skips}


def classify(self, batch):
    return F.cross_entropy(self.net(batch[0]), batch[1])


def segmenter(outputs):
    layers = [nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3)]
    return nn.Sequential(*layers, nn.Conv2d(8, outputs, 1))


def tagger(outputs=6):
    return nn.Sequential(nn.Embedding(12, 16), nn.Linear(16, outputs))


def sequences(count=160, length=9):
    tokens = torch.randint(0, 12, (count, length))
    return tokens, (tokens * 5 + 1) % 6


def segments(count=160):
    inputs, _ = digits(count)
    return inputs, torch.bucketize(inputs, torch.tensor([-0.2, 0.2])).reshape(-1, 8, 8)


def compared(net, train, validate, data, **options):
    """What LD212 says of two steps on the same data."""
    options = {"select": ("LD212",), "max_epochs": 1, **options}
    return findings(Program(net, train, validate, lr=1e-2), loader(*data), held_out(*data), **options).get("LD212", [])
