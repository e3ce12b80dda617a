"""Trains one seeded program with and without callbacks, and tells what differs. Also run as a script by ranks."""

from __future__ import annotations

import copy
import os
import random
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.plugins.precision import MixedPrecision
from torch.utils.data import DataLoader

from lightning_debug.callbacks.lr_range_finder import LRRangeFinder
from lightning_debug.callbacks.overfit_batch_check import OverfitBatchCheck
from lightning_debug.experiments.isolation import isolated
from tests.identity_modules import (
    Base,
    Compiled,
    CompiledInPlace,
    CompiledWhole,
    Drawing,
    Manual,
    Recurrent,
    Stateful,
    Transformer,
    digest,
)

Outcome = dict[str, Any]


class Experiments(pl.Callback):
    """Steps, backward passes and updates in isolation: on start, on the first batch, in mid-epoch."""

    def __init__(self) -> None:
        self.count = 0

    def on_train_start(self, trainer, pl_module):
        data = trainer.train_dataloader.dataset
        with isolated(trainer, pl_module, updates=True, also=(data,), together=True) as sandbox:
            batch = torch.utils.data.default_collate([data[index] for index in range(8)])
            self.sweep(sandbox, trainer, pl_module, trainer.precision_plugin.convert_input(batch))

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) not in ((0, 0), (0, 1), (1, 2)):  # (0, 1): amid an accumulation
            return
        with isolated(trainer, pl_module, together=True) as sandbox, sandbox.mode(True):
            for _ in range(2):
                loss = sandbox.loss(sandbox.training_step(batch, batch_idx))
                if loss is not None and loss.requires_grad and pl_module.automatic_optimization:
                    sandbox.backward(loss, trainer.optimizers[0])
                sandbox.reseed()
        with isolated(trainer, pl_module, updates=True, offload="cpu", together=True) as sandbox:
            self.sweep(sandbox, trainer, pl_module, batch)

    def on_validation_start(self, trainer, pl_module):
        if not trainer.sanity_checking:
            with isolated(trainer, pl_module, together=True) as sandbox:
                source = trainer.val_dataloaders.dataset
                batch = torch.utils.data.default_collate([source[0], source[1]])
                sandbox.validation_step(trainer.precision_plugin.convert_input(batch))

    def sweep(self, sandbox, trainer, pl_module, batch):
        carries = hasattr(pl_module, "hidden")  # a state of one batch size
        smaller = batch if carries else {name: value[:3] for name, value in batch.items()}
        with sandbox.mode(True):
            for step in range(10):
                used = smaller if step % 3 == 2 else batch
                if not pl_module.automatic_optimization:
                    sandbox.training_step(used)
                    continue
                optimizer = trainer.optimizers[0]

                def closure(used=used, optimizer=optimizer):
                    loss = sandbox.loss(sandbox.training_step(used))
                    optimizer.zero_grad()
                    sandbox.backward(loss, optimizer)
                    return loss.detach()

                sandbox.optimizer_step(optimizer, closure)
                for group in optimizer.param_groups:
                    group["lr"] *= 1.3
                self.count += 1
        with sandbox.mode(False):
            sandbox.validation_step(batch)
            sandbox.validation_step(smaller)


def searches(at_step: int = 0) -> list[Any]:
    """Both experiments of the debugging plan, on start or amid an epoch (and an accumulation)."""
    finder = LRRangeFinder(steps=10, sweeps=1, trial_steps=10, progress=False, at_step=at_step)
    return [finder, OverfitBatchCheck(at_step)]


class Watch(pl.Callback):
    """Writes down what passes by."""

    def __init__(self) -> None:
        self.batches: list[str] = []
        self.rates: list[float] = []
        self.losses: list[str] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.batches.append(digest(batch))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(digest(outputs))
        self.rates += [group["lr"] for item in trainer.optimizers for group in item.param_groups]


def program(
    module: Callable[[], pl.LightningModule] = Stateful, workers: int = 0, **options: Any
) -> Callable[..., Outcome]:
    """A program that trains ``module`` and returns what came of it."""
    persistent = options.pop("persistent", False)
    before = options.pop("before", None)
    mixed = options.pop("mixed", False)
    checkpoints = options.pop("checkpoints", False)
    batch_size = options.pop("batch_size", 8)
    whole = options.pop("whole", False)

    def run(folder: Path, callbacks: list[Any]) -> Outcome:
        pl.seed_everything(3, workers=True, verbose=False)
        if "torch._dynamo" in sys.modules:
            torch._dynamo.reset()
            torch._dynamo.utils.counters.clear()
        settings = dict(options)
        if mixed:
            settings["plugins"] = [
                MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=3))
            ]
        path = before(folder) if before else None
        own: list[Any] = []
        if checkpoints:
            own = [
                EarlyStopping("val_loss", patience=1),
                ModelCheckpoint(monitor="val_loss", save_last=True, save_top_k=2),
            ]
        watch = Watch()
        trainer = pl.Trainer(
            **{
                "accelerator": "cpu",
                "max_epochs": 3,
                "logger": CSVLogger(str(folder), name="logs", version=0),
                "enable_progress_bar": False,
                "enable_model_summary": False,
                "enable_checkpointing": checkpoints,
                "default_root_dir": str(folder),
                "log_every_n_steps": 1,
                "callbacks": [*own, *callbacks, watch],
                **settings,
            }
        )
        pl.seed_everything(3, workers=True, verbose=False)
        model = module()
        train = DataLoader(
            Drawing(), batch_size, shuffle=True, num_workers=workers, persistent_workers=persistent and workers > 0
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fitted = torch.compile(model, backend="aot_eager") if whole else model
            trainer.fit(fitted, train, DataLoader(Drawing(12), 5), ckpt_path=path)
        return outcome(trainer, model, watch, folder)

    return run


def outcome(trainer: pl.Trainer, model: Any, watch: Watch, folder: Path) -> Outcome:
    """Everything that must not depend on us."""
    written = folder.rglob("*.ckpt") if trainer.is_global_zero else ()
    files = sorted(str(item.relative_to(folder)) for item in written)
    log = folder / "logs" / "version_0" / "metrics.csv"
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return {
        "weights": digest(dict(model.state_dict())),
        "training modes": digest([item.training for item in model.modules()]),
        "attributes": digest(
            {key: value for key, value in vars(model).items() if isinstance(value, (int, float, list, tuple))}
        ),
        "optimizers": [digest(item.state_dict()) for item in trainer.optimizers],
        "schedulers": [
            digest({k: v for k, v in item.scheduler.state_dict().items() if k != "anneal_func"})
            for item in trainer.lr_scheduler_configs
        ],
        "scaler": scaler.state_dict() if scaler is not None else None,
        "rates": watch.rates,
        "torch generator": digest(torch.get_rng_state()),
        "numpy generator": digest(list(numpy.random.get_state(legacy=False)["state"].values())),
        "python generator": digest(random.getstate()),
        "batches": watch.batches,
        "losses": watch.losses,
        "steps taken": copy.copy(model.live),
        "metrics": {key: digest(value) for key, value in trainer.callback_metrics.items()},
        "log": log.read_text() if log.exists() and trainer.is_global_zero else "",
        "global step": (trainer.global_step, trainer.current_epoch, trainer.should_stop),
        "checkpoints": files,
        "graphs compiled": torch._dynamo.utils.counters["stats"]["unique_graphs"]
        if "torch._dynamo" in sys.modules
        else 0,
    }


def differing(first: Outcome, second: Outcome) -> list[str]:
    """Names of what differs between two outcomes."""
    return [name for name in first if first[name] != second[name]]


def checkpoint(folder: Path) -> str:
    """Trains for an epoch without anything of ours and saves a checkpoint to resume from."""
    target = folder / "first"
    target.mkdir(parents=True)
    path = str(target / "resume.ckpt")
    pl.seed_everything(1, workers=True, verbose=False)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(Stateful(), DataLoader(Drawing(), 8, shuffle=True), DataLoader(Drawing(12), 5))
    trainer.save_checkpoint(path)
    Path(path).rename(folder / "resume.pt")  # not counted among the checkpoints that the run writes
    os.rmdir(target)
    return str(folder / "resume.pt")


PROGRAMS: dict[str, Callable[..., Outcome]] = {
    "plain": program(Base),
    "stateful": program(),
    "two workers": program(workers=2),
    "persistent workers": program(workers=2, persistent=True),
    "manual": program(Manual),
    "accumulated and clipped": program(accumulate_grad_batches=2, gradient_clip_val=0.5),
    "scaled": program(mixed=True),
    "scaled, manual": program(Manual, mixed=True),
    "bfloat16": program(precision="bf16-mixed"),
    "float64": program(Base, precision="64-true"),
    "compiled": program(Compiled, batch_size=16),
    "compiled in place": program(CompiledInPlace),
    "compiled as a whole": program(CompiledWhole, whole=True),
    "resumed": program(before=checkpoint),
    "stopped early": program(checkpoints=True, max_epochs=6),
    "transformer": program(Transformer),
    "recurrent": program(Recurrent),
    "validating often": program(val_check_interval=2),
}
"""Programs by name."""
