"""Trains a program while the peers of `detection_peers` watch it, each as its own quick start says."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import os
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import detection_fixes
import lightning.pytorch
import numpy as np
import pytorch_lightning
import torch

HINTS = re.compile(
    r"many workers|log_every_n_steps|logging interval|checkpoint|isinstance\(treespec|tensorboard|GPU available|"
    r"TPU available|litlogger|LitLogger|no `val_dataloader`|val_dataloader|`max_epochs`|Starting from v1.9|deprecat|"
    r"save_hyperparameters|srun|IterableDataset|Sanity|predict_dataloader|nested tensor|attribute 'loss"
    r"|Trainer.fit. stopped|torchmetrics|pin_memory|compile",
    re.IGNORECASE,
)
"""What Lightning and torch say of speed, folders and old names: no word on the training itself."""


def watched(path: str, folder: str, seed: int) -> None:
    """Trains one program and writes what every peer says of it to ``said.json``."""
    said: dict[str, list[str]] = defaultdict(list)
    os.environ["LIGHTNING_DEBUG"] = "0"
    for package in (pytorch_lightning, lightning.pytorch):
        equip(package, said, folder)
    error: BaseException | None = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            detection_fixes.train(path, folder, seed)
        except BaseException as raised:
            error = raised
    for text in {str(item.message) for item in caught}:
        if not HINTS.search(text):
            said["lightning"].append(kind_of(text))
    if error is not None:
        said["lightning"].append(f"raised {type(error).__name__}: {error}"[:300])
    read_logs(Path(folder), said)
    for finish in FINISH:
        with quiet():
            finish()
    (Path(folder) / "said.json").write_text(json.dumps({peer: sorted(set(texts)) for peer, texts in said.items()}))


FINISH: list[Any] = []
"""What asks a peer for its report, after training."""


def kind_of(text: str) -> str:
    """A warning with a word in front that tells what it is about."""
    kinds = {
        "eval mode": "eval mode",
        "will likely lead to incorrect results due to broadcasting": "broadcast",
        "lr_scheduler": "scheduler",
        "has shuffling enabled": "shuffling",
        "ambiguous collection": "ambiguous",
    }
    found = [kind for sign, kind in kinds.items() if sign in text]
    return f"{(found or ['warns'])[0]}: {text}"[:300]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """A peer that breaks down says nothing."""
    try:
        yield
    except Exception as error:
        print(f"peer failed: {type(error).__name__}: {error}")


@contextlib.contextmanager
def same_draws() -> Iterator[None]:
    """Leaves the random generators as they were."""
    state = np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        yield
    np.random.set_state(state)  # noqa: NPY002


def equip(package: Any, said: dict[str, list[str]], folder: str) -> None:
    """Gives every Trainer of a package a CSV log and the peers that watch."""
    trainer_class = package.Trainer
    original = trainer_class.__init__

    def equipped(self: Any, *args: Any, **options: Any) -> None:
        given = options.get("callbacks") or []
        given = given if isinstance(given, list) else [given]
        if not options.get("logger"):
            options["logger"] = package.loggers.CSVLogger(folder, name="logs")
        options.setdefault("log_every_n_steps", 5)
        options["callbacks"] = [*given, watcher(package, said)]
        original(self, *args, **options)

    trainer_class.__init__ = equipped


def watcher(package: Any, said: dict[str, list[str]]) -> Any:
    """A callback that passes what happens on to the peers."""
    peers = [make(said) for make in (Check, Finite, Snitch, Audit, Health, Spec)]  # Audit patches what Check copies

    class Watch(package.Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            for peer in peers:
                with quiet():
                    peer.start(trainer, pl_module)

        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            for peer in peers:
                with quiet():
                    peer.gradients(trainer, pl_module, optimizer)

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            for peer in peers:
                with quiet():
                    peer.step(trainer, pl_module, outputs, batch, batch_idx)

    FINISH.extend(peer.finish for peer in peers)
    return Watch()


class Peer:
    """A tool that watches; it does nothing where it has nothing to do."""

    def __init__(self, said: dict[str, list[str]]) -> None:
        self.said = said

    def start(self, trainer: Any, module: Any) -> None: ...

    def gradients(self, trainer: Any, module: Any, optimizer: Any) -> None: ...

    def step(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None: ...

    def finish(self) -> None: ...


class Finite(Peer):
    """``EarlyStopping(check_finite=True)`` and ``detect_anomaly``: a loss that is not finite."""

    def step(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if isinstance(loss, torch.Tensor) and not math.isfinite(float(loss.detach().sum())):
            self.said["lightning"].append("not finite: the loss")


class Snitch(Peer):
    """gradsnitch's own callback for Lightning."""

    def start(self, trainer: Any, module: Any) -> None:
        from gradsnitch import integrations

        self.callback = integrations.lightning()

    def gradients(self, trainer: Any, module: Any, optimizer: Any) -> None:
        self.callback.on_before_optimizer_step(trainer, module, optimizer)

    def step(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        self.callback.on_train_batch_end(trainer, module, outputs, batch, index)

    def finish(self) -> None:
        self.said["gradsnitch"] += [f"{item.code} {item.name}" for item in self.callback.monitor.report()]


class Audit(Peer):
    """torch-audit, patched in every 20 steps, with the first batch."""

    def start(self, trainer: Any, module: Any) -> None:
        from torch_audit import autopatch

        optimizer = trainer.optimizers[0] if trainer.optimizers else None
        self.auditor = autopatch(module, optimizer=optimizer, every_n_steps=20, reporters=[])
        with same_draws():
            self.auditor.audit_data(next(iter(trainer.train_dataloader)))

    def finish(self) -> None:
        for item in self.auditor.findings:
            if item.severity.value != "INFO":
                self.said["torch-audit"].append(f"{item.rule_id} {item.message}"[:200])


class Check(Peer):
    """torchtest2 on a copy of the module with the first batch."""

    def start(self, trainer: Any, module: Any) -> None:
        import torchtest2
        from torchtest2.plugins.lightning import LightningPlugin

        with same_draws():
            batch = next(iter(trainer.train_dataloader))
            held, module._trainer = module._trainer, None
            try:
                twin = copy.deepcopy(module)
            finally:
                module._trainer = held
            optimizers = twin.configure_optimizers
            twin.configure_optimizers = lambda: (  # schedules that ask the trainer are built without it
                optimizers() if "trainer" not in optimizers.__code__.co_names else torch.optim.Adam(twin.parameters())
            )
            pair = isinstance(batch, (list, tuple)) and len(batch) == 2 and not hasattr(batch, "_fields")
            x, y = batch if pair else (batch, None)
            base = type(module).forward in (pytorch_lightning.LightningModule.forward, torch.nn.Module.forward)
            bare = base or not pair or not isinstance(x, torch.Tensor)
            no_forward = ["forward", "output_finite", "output_varies", "eval_determinism", "input_dependency"]
            report = torchtest2.check_model(
                twin,
                x,
                y,
                plugin=LightningPlugin(make_batch=(lambda a, b: (a, b)) if pair else (lambda a, _: a)),
                skip=[*no_forward, "batch_independence", "output_shape"] if bare else [],
            )
        found = [item for item in report.results if item.status.value in ("WARN", "FAIL")]
        self.said["torchtest2"] += [f"{item.name}: {item.message}"[:200] for item in found]


class Health(Peer):
    """traintools' BatchInspector and GradientHealthMonitor on the first 20 steps and every tenth after them."""

    def start(self, trainer: Any, module: Any) -> None:
        from traintools import BatchInspector, GradientHealthMonitor

        self.batches, self.health, self.count = BatchInspector(), GradientHealthMonitor(), 0

    def gradients(self, trainer: Any, module: Any, optimizer: Any) -> None:
        self.count += 1
        if self.count <= 20 or self.count % 10 == 0:
            report = self.health.inspect(module, step=self.count, lr=optimizer.param_groups[0]["lr"])
            self.said["traintools"] += [re.sub(r"\(.*", "", text) for text in report.warnings]

    def step(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        pair = isinstance(batch, (list, tuple)) and len(batch) == 2 and isinstance(batch[1], torch.Tensor)
        if self.count <= 20:
            report = self.batches.inspect(batch[0], batch[1], step=index) if pair else self.batches.inspect(batch)
            self.said["traintools"] += [re.sub(r"\(.*", "", text) for text in report.warnings]


class Spec(Peer):
    """torcheck's checks that every trainable parameter changes and is finite, after each of the first 20 steps."""

    def start(self, trainer: Any, module: Any) -> None:
        from torcheck.param_spec import SpecItem

        self.items = [
            SpecItem(tensor=value, tensor_name=name, changing=True, check_nan=True, check_inf=True)
            for name, value in module.named_parameters()
            if value.requires_grad
        ]

    def step(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        if 0 < trainer.global_step <= 20 and trainer.global_step % max(trainer.accumulate_grad_batches, 1) == 0:
            for item in self.items:
                for text in (item.validate_changing(), item.validate_nan(), item.validate_inf()):
                    self.said["torcheck"] += [text] if text else []


def read_logs(folder: Path, said: dict[str, list[str]]) -> None:
    """losslint and runmedic on the CSV log."""
    for log in folder.rglob("metrics.csv"):
        with quiet():
            from losslint.checks import run_all_checks
            from losslint.parsing import load_run

            found = run_all_checks(load_run(log))
            said["losslint"] += [f"{item.check}: {item.message}"[:200] for item in found if item.severity != "info"]
        with quiet():
            from runmedic import loaders, roles
            from runmedic.checks import run_checks

            for run in loaders.load(str(log)):
                found = run_checks(run, roles.detect(run))
                said["runmedic"] += [f"{item.check}: {item.title}" for item in found if item.severity != "info"]
