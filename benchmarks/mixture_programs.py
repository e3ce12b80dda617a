"""Programs of :mod:`benchmarks.mixtures`: a module whose ways are drawn, and what its batches look like."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
import torchmetrics
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import lr_scheduler
from torch.utils.data import Dataset

from benchmarks.mixture_data import Task, score

NAMES = (
    ("train_loss", "val_loss", "val_acc"),
    ("train/loss", "val/loss", "val/score"),
    ("loss", "validation_loss", "validation_metric"),
    ("training_loss", "valid_loss", "valid_acc"),
    ("Loss/train", "Loss/val", "Score/val"),
    ("tr_loss", "dev_loss", "dev_score"),
)
"""Of the training loss, the validation loss and the validation measure."""

RATES: dict[str, tuple[float, ...]] = {"SGD": (0.02, 0.05), "Adagrad": (0.02,), "RMSprop": (1e-3,)}
OPTIMIZERS = ("Adam", "Adam", "AdamW", "AdamW", "NAdam", "RAdam", "SGD", "SGD", "RMSprop", "Adagrad")
SCHEDULES = ("", "", "StepLR", "cosine", "cosine of steps", "OneCycleLR", "warm-up", "ExponentialLR", "plateau")
LOSSES = ("plain", "plain", "likelihood", "smooth", "by hand", "one-hot")


class Pair(NamedTuple):
    features: Any
    target: Any
    extra: Any = None


@dataclass
class Observations:
    seen: Any
    answer: Any


STRUCTURES: dict[str, tuple[Callable[[Any, Any, int], Any], Callable[[Any], tuple[Tensor, Tensor]]]] = {
    "tuple": (lambda x, y, _: (x, y), lambda batch: (batch[0], batch[1])),
    "list": (lambda x, y, _: [x, y], lambda batch: (batch[0], batch[1])),
    "dict": (lambda x, y, row: {"inputs": x, "labels": y, "index": row}, lambda b: (b["inputs"], b["labels"])),
    "named": (Pair, lambda batch: (batch.features, batch.target)),
    "nested": (lambda x, y, row: (x, {"y": y, "id": f"row{row}"}), lambda batch: (batch[0], batch[1]["y"])),
    "dataclass": (lambda x, y, _: (x, y), lambda batch: (batch.seen, batch.answer)),
}
"""How a sample is handed on, and how a batch is read."""


def observed(rows: list[Any]) -> Observations:
    return Observations(torch.stack([x for x, _ in rows]), torch.stack([y for _, y in rows]))


class Rows(Dataset[Any]):
    def __init__(self, inputs: Tensor, targets: Tensor, structure: str, noise: float) -> None:
        self.inputs, self.targets, self.noise = inputs, targets, noise
        self.make = STRUCTURES[structure][0]

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, row: int) -> Any:
        inputs = self.inputs[row]
        if self.noise:
            inputs = inputs + self.noise * torch.randn_like(inputs)
        return self.make(inputs, self.targets[row], row)


class Program(pl.LightningModule):
    def __init__(self, net: nn.Module, task: Task, choices: dict[str, Any]) -> None:
        super().__init__()
        self.net, self.task, self.choices = net, task, choices
        self.read = STRUCTURES[choices["structure"]][1]
        self.automatic_optimization = not choices["manual"]
        self.seen: list[tuple[float, float, int]] = []
        self.final = math.nan
        self.accuracy = None
        if task.kind == "classes" and choices["metric"] == "torchmetrics":
            self.accuracy = torchmetrics.Accuracy(task="multiclass", num_classes=task.outputs)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        how, kind = self.choices["loss"], self.task.kind
        if kind == "classes":
            if how == "likelihood":
                return F.nll_loss(F.log_softmax(outputs, 1), targets)
            if how == "by hand":
                return -F.log_softmax(outputs, 1).gather(1, targets[:, None]).mean()
            if how == "one-hot":
                return F.cross_entropy(outputs, F.one_hot(targets, self.task.outputs).to(outputs.dtype))
            return F.cross_entropy(outputs, targets, label_smoothing=0.1 if how == "smooth" and self.training else 0.0)
        if kind == "tokens":
            if how == "by hand":
                return F.cross_entropy(outputs.flatten(0, 1), targets.flatten())
            return F.cross_entropy(outputs.transpose(1, 2), targets)
        if kind == "pixels":
            loss = F.cross_entropy(outputs, targets)
            if how in ("by hand", "smooth"):
                inside = outputs.softmax(1)[:, 1]
                loss = loss + 1 - (2 * (inside * targets).sum() + 1) / (inside.sum() + targets.sum() + 1)
            return loss
        outputs, targets = outputs.squeeze(-1) if targets.dim() == 1 else outputs, targets.to(outputs.dtype)
        if kind in ("several", "binary"):
            if how == "by hand":
                return F.binary_cross_entropy(outputs.float().sigmoid(), targets.float())
            return F.binary_cross_entropy_with_logits(outputs, targets)
        if kind == "counts":
            return F.poisson_nll_loss(outputs, targets)
        of = {"smooth": F.smooth_l1_loss, "one-hot": F.l1_loss, "likelihood": F.huber_loss}.get(how, F.mse_loss)
        return of(outputs, targets)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        inputs, targets = self.read(batch)
        outputs = self.net(inputs)
        loss = self.loss(outputs, targets)
        on_step = self.choices["log"] != "epoch"
        on_epoch = self.choices["log"] != "step"
        self.log(self.choices["names"][0], loss, on_step=on_step, on_epoch=on_epoch, batch_size=len(targets))
        if not self.automatic_optimization:
            self._by_hand(loss)
            return None
        return {"loss": loss, "outputs": outputs.detach()} if self.choices["as_dict"] else loss

    def _by_hand(self, loss: Tensor) -> None:
        optimizer, schedule = self.optimizers(), self.lr_schedulers()
        optimizer.zero_grad()
        self.manual_backward(loss)
        if self.choices["clip"]:
            self.clip_gradients(optimizer, self.choices["clip"], "norm")
        optimizer.step()
        of_steps = self.choices["schedule"] in ("OneCycleLR", "warm-up", "cosine of steps")
        if schedule is not None and (of_steps or self.trainer.is_last_batch):
            schedule.step()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        inputs, targets = self.read(batch)
        outputs = self.net(inputs)
        loss, reached = self.loss(outputs, targets), score(self.task, outputs, targets)
        self.seen.append((float(loss), float(reached), len(targets)))
        name = self.choices["names"]
        if self.choices["metric"] != "list":
            self.log(name[1], loss, prog_bar=True, batch_size=len(targets))
        if self.accuracy is not None:
            self.accuracy(outputs, targets)
            self.log(name[2], self.accuracy)
        elif self.choices["metric"] == "each batch":
            falls = self.task.kind in ("numbers", "counts")
            self.log("val_error" if falls else name[2], -reached if falls else reached, batch_size=len(targets))

    def on_validation_epoch_end(self) -> None:
        total = sum(count for *_, count in self.seen)
        self.final = sum(reached * count for _, reached, count in self.seen) / total
        if self.choices["metric"] == "list":
            self.log(self.choices["names"][1], sum(loss * count for loss, _, count in self.seen) / total)
        self.seen.clear()

    def configure_optimizers(self) -> Any:
        rate, kind = self.choices["rate"], self.choices["optimizer"]
        groups: Any = self.parameters()
        if self.choices["groups"]:
            matrices = [item for item in self.parameters() if item.dim() > 1]
            rest = [item for item in self.parameters() if item.dim() <= 1]
            groups = [{"params": matrices, "weight_decay": 1e-4}, {"params": rest, "weight_decay": 0.0}]
        optimizer = getattr(torch.optim, kind)(groups, rate, **({"momentum": 0.9} if kind == "SGD" else {}))
        epochs, steps = self.trainer.max_epochs, int(self.trainer.estimated_stepping_batches)
        make: dict[str, Callable[[], Any]] = {
            "StepLR": lambda: lr_scheduler.StepLR(optimizer, max(1, epochs // 2), 0.3),
            "ExponentialLR": lambda: lr_scheduler.ExponentialLR(optimizer, 0.9),
            "cosine": lambda: lr_scheduler.CosineAnnealingLR(optimizer, epochs),
            "cosine of steps": lambda: lr_scheduler.CosineAnnealingLR(optimizer, steps),
            "OneCycleLR": lambda: lr_scheduler.OneCycleLR(optimizer, 2 * rate, total_steps=steps),
            "warm-up": lambda: lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 20)),
            "plateau": lambda: lr_scheduler.ReduceLROnPlateau(optimizer, patience=2),
        }
        which = self.choices["schedule"]
        if which not in make or (which == "plateau" and not self.automatic_optimization):
            return optimizer
        interval = "step" if which in ("OneCycleLR", "warm-up", "cosine of steps") else "epoch"
        schedule = {"scheduler": make[which](), "interval": interval, "monitor": self.choices["names"][1]}
        return {"optimizer": optimizer, "lr_scheduler": schedule}


def choose(draw: random.Random) -> dict[str, Any]:
    """What the program is like, whatever its data."""
    optimizer = draw.choice(OPTIMIZERS)
    schedule = draw.choice(SCHEDULES)
    return {
        "optimizer": optimizer,
        "rate": draw.choice(RATES.get(optimizer, (1e-3, 2e-3, 3e-3))),
        "schedule": "" if (optimizer, schedule) == ("Adagrad", "OneCycleLR") else schedule,  # it has no momentum
        "loss": draw.choice(LOSSES),
        "metric": draw.choice(["each batch", "torchmetrics", "none", "list"]),
        "names": draw.choice(NAMES),
        "log": draw.choice(["epoch", "step", "both"]),
        "structure": draw.choice(list(STRUCTURES)),
        "manual": draw.random() < 0.15,
        "as_dict": draw.random() < 0.3,
        "groups": draw.random() < 0.25,
        "clip": draw.choice([None, None, 1.0, 5.0]),
        "plain": draw.random() < 0.2,
    }
