"""Runs a program of the corpus under a Debugger, or a part of it."""

from __future__ import annotations

import linecache
import math
import random
import warnings
from typing import Any

import numpy
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lightning_debug import ErrorExplainer
from lightning_debug.finding import Report
from tests.errors import batches, calls, checkpoints, graphs, images, kinds, sequences, tabular, targets, types
from tests.errors.base import Case
from tests.helpers import trainer

CASES: tuple[Case, ...] = (
    *images.CASES, *sequences.CASES, *tabular.CASES, *targets.CASES, *types.CASES, *graphs.CASES, *batches.CASES,
    *calls.CASES, *checkpoints.CASES, *kinds.CASES,
)  # fmt: skip


class Base(pl.LightningModule):
    """A LightningModule with an optimizer."""

    def configure_optimizers(self) -> Any:
        """Plain gradient descent."""
        return torch.optim.SGD(self.parameters(), lr=0.01)


def loader(*tensors: torch.Tensor, batch_size: int = 8, **options: Any) -> DataLoader[Any]:
    """A loader over tensors."""
    return DataLoader(TensorDataset(*tensors), batch_size=batch_size, **options)


def run(text: str, name: str, callback: Any = None) -> tuple[Report, BaseException | None]:
    """Runs a program; what was reported, and what it raised."""
    watch = callback if callback is not None else ErrorExplainer()

    def fit(model: Any, train: Any, val: Any = None, **options: Any) -> None:
        options = {"max_epochs": 1, **options}
        trainer(watch, **options).fit(model, train, val)

    names = {
        "torch": torch, "nn": nn, "F": F, "pl": pl, "math": math, "numpy": numpy, "DataLoader": DataLoader,
        "Dataset": Dataset, "TensorDataset": TensorDataset, "Base": Base, "loader": loader, "fit": fit,
        "__name__": name,
    }  # fmt: skip
    path = f"{name}.py"
    linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
    torch.manual_seed(0)
    random.seed(0)
    raised = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a program of somebody else's, under their filters
            exec(compile(text, path, "exec"), names)
    except Exception as error:
        raised = error
    return watch.report, raised
