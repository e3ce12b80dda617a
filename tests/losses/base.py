"""What these programs share: a net, a loss and data; and how a LossInspector alone watches one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lightning_debug import LossInspector
from lightning_debug.evidence.loss import LossGraph
from lightning_debug.finding import Report
from tests.helpers import trainer

ROWS = 48
BATCH = 16
QUICK = {
    f"LIGHTNING_DEBUG_{name}": value
    for name, value in (("STRICT", "1"), ("CONSOLE", "0"), ("HTML", "0"), ("JSON", "0"))
}
"""What a LossInspector alone is to be run with: no reports, and no exception of its own swallowed."""


def mlp(inputs: int, outputs: int, *more: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 12), nn.ReLU(), nn.Linear(12, outputs), *more)


def classes(count: int, features: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    inputs = torch.randn(ROWS, features)
    return inputs, (inputs @ torch.randn(features, count)).argmax(1)


def sequences(count: int, steps: int = 6, features: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    inputs = torch.randn(ROWS, steps, features)
    return inputs, (inputs @ torch.randn(features, count)).argmax(-1)


def images(count: int, size: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    inputs = torch.randn(ROWS, 3, size, size)
    return inputs, torch.randint(0, count, (ROWS, size, size))


def regression(*shape: int, features: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    inputs = torch.randn(ROWS, features)
    return inputs, (inputs[:, 0] - inputs[:, 1] + 0.1 * torch.randn(ROWS)).reshape(ROWS, *shape)


class Rows(Dataset):
    """A data set of dictionaries."""

    def __init__(self, **columns: torch.Tensor) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {name: column[index] for name, column in self.columns.items()}


class Program(pl.LightningModule):
    """A program that a subclass completes with ``build``, ``loss`` and ``data``."""

    rate = 0.05
    batch_size = BATCH

    def __init__(self) -> None:
        super().__init__()
        self.build()

    def build(self) -> None:
        self.net = mlp(8, 4)

    def data(self) -> Any:
        return classes(4)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(*batch) if isinstance(batch, (list, tuple)) else self.loss(**batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        result = self.training_step(batch, batch_idx) if self.automatic_optimization else None
        if isinstance(result, torch.Tensor):
            self.log("val_loss", result)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.rate)


@dataclass(frozen=True)
class Fault:
    """What is to be found in a program: the code, and words of its subject."""

    kind: type[Program]
    code: str
    subject: str


FAULTS: list[Fault] = []


def faulty(code: str, *, subject: str = "") -> Callable[[type[Program]], type[Program]]:
    """Marks a program as one that has a fault."""

    def register(kind: type[Program]) -> type[Program]:
        FAULTS.append(Fault(kind, code, subject))
        return kind

    return register


def programs(*modules: ModuleType) -> list[type[Program]]:
    """The programs that modules define."""
    return [
        item
        for module in modules
        for item in vars(module).values()
        if isinstance(item, type) and issubclass(item, Program) and item.__module__ == module.__name__
    ]


class Watcher(LossInspector):
    """A LossInspector that watches steps, and makes no experiments."""

    produces = (LossGraph,)

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Leaves the experiments out."""


def inspected(kind: type[Program], steps: int = 2, **options: Any) -> tuple[Report, tuple[LossGraph, ...]]:
    """Fits a program for a few steps with nothing but a LossInspector."""
    torch.manual_seed(0)
    program = kind()
    data = program.data()
    rows = data if isinstance(data, Dataset) else TensorDataset(*data)
    loader = DataLoader(rows, batch_size=program.batch_size)
    watcher = Watcher()
    settings = {
        "max_epochs": 1,
        "limit_train_batches": steps,
        "limit_val_batches": 1,
        "num_sanity_val_steps": 0,
        **options,
    }
    trainer(watcher, **settings).fit(program, loader, loader)
    return watcher.report, watcher.session.record.of(LossGraph)
