"""Runs training programs under a real Trainer with every callback on."""

from __future__ import annotations

import random
import textwrap
from pathlib import Path
from typing import Any

import numpy
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import lightning_debug
from lightning_debug import Debugger, Report

QUIET = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "enable_model_summary": False}


def trainer(*callbacks: Any, **options: Any) -> pl.Trainer:
    """A Trainer on the CPU that prints and writes nothing of its own."""
    return pl.Trainer(**{**QUIET, "accelerator": "cpu", "max_epochs": 2, "callbacks": list(callbacks), **options})


def debugged(model: pl.LightningModule, *loaders: Any, debugger: Debugger | None = None, **options: Any) -> Report:
    """Fits with a strict Debugger and returns what it reports."""
    debugger = debugger or Debugger(strict=True, console=False)
    callbacks = [*options.pop("callbacks", []), debugger]
    trainer(*callbacks, **options).fit(model, *loaders)
    return debugger.report


def alarms(report: Report) -> list[str]:
    """What a healthy program must have none of."""
    return [f"{item.code} {item.subject}: {item.message}" for item in report.findings if item.severity >= "warning"]


def codes(report: Report) -> list[str]:
    """Codes found, causes first."""
    return [item.code for item in report.findings]


def run_program(
    text: str, folder: Path, *, strict: bool = True, debugger: Debugger | None = None
) -> tuple[Report, BaseException | None]:
    """Runs a page's program with a Debugger in each of its Trainers.

    The program finds torch, nn, F, pl, LightningModule, Trainer, DataLoader, TensorDataset, Dataset,
    IterableDataset, numpy and lightning_debug imported.

    Returns:
        The report of its last fit, and what it raised.
    """
    used: list[Debugger] = []

    def make_trainer(**options: Any) -> pl.Trainer:
        watch = debugger or Debugger(strict=strict, console=False, report_dir=str(folder / "report"))
        used.append(watch)
        return trainer(*options.pop("callbacks", []), watch, **{"default_root_dir": str(folder), **options})

    path = folder / "program.py"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    namespace = {
        "__name__": "program",
        "torch": torch,
        "nn": nn,
        "F": F,
        "pl": pl,
        "numpy": numpy,
        "LightningModule": pl.LightningModule,
        "LightningDataModule": pl.LightningDataModule,
        "Trainer": make_trainer,
        "DataLoader": DataLoader,
        "TensorDataset": TensorDataset,
        "Dataset": Dataset,
        "IterableDataset": IterableDataset,
        "lightning_debug": lightning_debug,
        **{name: getattr(lightning_debug, name) for name in lightning_debug.__all__},
    }
    raised: BaseException | None = None
    torch.manual_seed(0)
    random.seed(0)
    numpy.random.seed(0)
    try:
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), namespace)
    except Exception as error:
        raised = error
    return (used[-1].report if used else Report()), raised
