"""Small programs for the tests of NonFiniteGuard: a net, a loss given as a function, one fit."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug import NonFiniteGuard
from tests.helpers import trainer


def mse(module, batch):
    return F.mse_loss(module.net(batch[0]), batch[1])


def scores(module, batch):
    return module.net(batch[0])


def distance(module, batch):
    return torch.sqrt(((scores(module, batch) * 0) ** 2).sum(1)).mean()


def adam(parameters):
    return torch.optim.Adam(parameters, lr=1e-3)


def sgd(lr=0.01):
    return lambda parameters: torch.optim.SGD(parameters, lr=lr)


class Program(pl.LightningModule):
    """A net of two layers under ``step(module, batch)``."""

    def __init__(self, step=mse, optimizer=adam, net=None):
        super().__init__()
        self.net = net or nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
        self._step, self._optimizer = step, optimizer
        self.seen = []

    def training_step(self, batch, batch_idx):
        loss = self._step(self, batch)
        value = loss["loss"] if isinstance(loss, dict) else loss
        if value is not None:
            self.seen.append(value.detach().clone())
        return loss

    def configure_optimizers(self):
        return self._optimizer(self.net.parameters())


def table(rows=64, seed=0):
    """Features and targets that a linear model fits."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 8, generator=generator)
    return x, x[:, :4] + 0.1 * torch.randn(rows, 4, generator=generator)


def loader(*tensors, batch_size=16):
    return DataLoader(TensorDataset(*(tensors or table())), batch_size=batch_size)


def run(program, data=None, guard=None, **options):
    """Fits and returns the guard and what the fit raised."""
    guard = guard or NonFiniteGuard()
    torch.manual_seed(1)
    raised = None
    try:
        trainer(guard, **{"max_epochs": 1, **options}).fit(program, data if data is not None else loader())
    except Exception as error:
        raised = error
    return guard, raised


def found(step, data=None, **options):
    """The headlines of a program's report."""
    program = step if isinstance(step, pl.LightningModule) else Program(step, options.pop("optimizer", adam))
    guard, raised = run(program, data, **options)
    assert raised is None, raised
    return guard.report.headlines
