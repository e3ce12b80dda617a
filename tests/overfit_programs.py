"""What the programs for the check of two examples share; importing a family of them fills the tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

HEALTHY: dict[str, Callable[[], tuple[pl.LightningModule, Any]]] = {}
FAULTY: dict[str, tuple[str, Callable[[], tuple[pl.LightningModule, Any]]]] = {}
"""By name: a word that the finding holds, and the program."""


class Model(pl.LightningModule):
    """A net, and a step given as a function."""

    def __init__(self, net: nn.Module, step: Callable[[Any, Any], Any], optimizer: Any = None) -> None:
        super().__init__()
        self.net, self.step, self.make = net, step, optimizer

    def training_step(self, batch, batch_idx):
        return self.step(self, batch)

    def configure_optimizers(self):
        if self.make is not None:
            return self.make(self.parameters())
        return torch.optim.Adam((item for item in self.parameters() if item.requires_grad), lr=1e-3)


def healthy(function):
    HEALTHY[function.__name__] = function
    return function


def faulty(word):
    def keep(function):
        FAULTY[function.__name__] = word, function
        return function

    return keep


def mlp(inputs=6, outputs=3, width=24):
    return nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, outputs))


def loader(*fields, size=8):
    data = list(zip(*fields, strict=True)) if len(fields) > 1 else list(fields[0])
    return DataLoader(data, size)


def x(*shape):
    return torch.randn(*(shape or (32, 6)))


def y(count=32, classes=3):
    return torch.randint(classes, (count,))


def classify(self, batch, **options):
    return F.cross_entropy(self.net(batch[0]), batch[1], **options)
