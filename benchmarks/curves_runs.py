"""Short real runs for :mod:`benchmarks.curves`: a plan says what is trained, on what, and how."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug import Report
from lightning_debug.callbacks.curve_diagnoser import CurveDiagnoser

QUIET = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "enable_model_summary": False}


@dataclass(frozen=True)
class Plan:
    """One run: its data, its network, its training."""

    task: str = "blobs"
    samples: int = 1000
    features: int = 10
    classes: int = 4
    spread: float = 1.0
    label_noise: float = 0.0
    val_samples: int = 300
    easy_val: float = 1.0
    corrupted: int = 0
    width: int = 32
    depth: int = 1
    dropout: float = 0.0
    constant: bool = False
    optimizer: str = "Adam"
    rate: float = 3e-3
    decay: float = 0.0
    ramp: float = 0.0
    warmup: bool = False
    restarts: bool = False
    pretrained: bool = False
    epochs: int = 12
    batch: int = 32
    seed: int = 0


def make_data(plan: Plan) -> tuple[TensorDataset, TensorDataset]:
    """Training and validation set."""
    count = plan.samples + plan.val_samples
    spread = torch.full((count, 1), plan.spread)
    spread[plan.samples :] *= plan.easy_val
    if plan.task == "regression":
        inputs = torch.randn(count, plan.features)
        targets = inputs[:, :1].sin() - inputs[:, 1:2].abs() + 0.3 * spread * torch.randn(count, 1)
        targets = (targets - targets.mean()) / targets.std()
    elif plan.task == "rings":
        inputs = torch.randn(count, plan.features)
        targets = 2 * (inputs[:, :2].norm(dim=1) > 1.2).long() + (inputs[:, 0] > 0).long()
    else:
        targets = torch.randint(0, plan.classes, (count,))
        centres = torch.randn(plan.classes, plan.features)
        inputs = 1.5 * centres[targets] + spread * torch.randn(count, plan.features)
    if plan.label_noise and plan.task != "regression":
        other = torch.randint(0, int(targets.max()) + 1, (count,))
        targets = torch.where(torch.rand(count) < plan.label_noise, other, targets)
    if plan.corrupted:
        inputs[: plan.corrupted] *= 60.0
    cut = plan.samples
    return TensorDataset(inputs[:cut], targets[:cut]), TensorDataset(inputs[cut:], targets[cut:])


class Net(pl.LightningModule):
    """A perceptron that logs what people log."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        outputs = 1 if plan.task == "regression" else 4 if plan.task == "rings" else plan.classes
        layers: list[nn.Module] = []
        size = plan.features
        for _ in range(plan.depth):
            layers += [nn.Linear(size, plan.width), nn.ReLU(), nn.Dropout(plan.dropout)]
            size = plan.width
        self.net = nn.Sequential(*layers, nn.Linear(size, outputs))

    def forward(self, inputs: Tensor) -> Tensor:
        """Scores, or amounts."""
        return self.net(inputs * 0 if self.plan.constant else inputs)

    def _loss(self, batch: list[Tensor], stage: str) -> Tensor:
        inputs, targets = batch
        scores = self(inputs)
        loss = mse_loss(scores, targets) if self.plan.task == "regression" else cross_entropy(scores, targets)
        self.log(f"{stage}_loss", loss)
        if self.plan.task != "regression":
            self.log(f"{stage}_acc", (scores.argmax(1) == targets).float().mean())
        return loss

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """One step."""
        return self._loss(batch, "train")

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """One step."""
        self._loss(batch, "val")

    def configure_optimizers(self) -> object:
        """The plan's optimizer and schedule."""
        plan = self.plan
        options = {"momentum": 0.9} if plan.optimizer == "SGD" else {}
        optimizer = getattr(torch.optim, plan.optimizer)(
            self.parameters(), lr=plan.rate, weight_decay=plan.decay, **options
        )
        steps = -(-plan.samples // plan.batch)
        if plan.ramp:
            schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: plan.ramp ** (step / steps))
        elif plan.warmup:
            schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, 1.0, total_iters=2 * steps)
        elif plan.restarts:
            schedule = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 4 * steps)
        else:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def run(plan: Plan, *callbacks: pl.Callback) -> Report:
    """Trains, and returns what was found."""
    pl.seed_everything(plan.seed, verbose=False)
    train, val = make_data(plan)
    diagnoser = CurveDiagnoser()
    trainer = pl.Trainer(max_epochs=plan.epochs, accelerator="cpu", callbacks=[diagnoser, *callbacks], **QUIET)
    loaders = DataLoader(train, plan.batch, shuffle=True), DataLoader(val, 100)
    net = Net(replace(plan, rate=3e-3))
    if plan.pretrained:
        pl.Trainer(max_epochs=4, accelerator="cpu", **QUIET).fit(net, loaders[0])
    net.plan = plan
    trainer.fit(net, *loaders)
    return diagnoser.report


def cost(plan: Plan) -> float:
    """Training loss, in eval mode, of the network a plan ends with."""
    pl.seed_everything(plan.seed, verbose=False)
    train, _ = make_data(plan)
    net = Net(plan)
    trainer = pl.Trainer(max_epochs=plan.epochs, accelerator="cpu", **QUIET)
    trainer.fit(net, DataLoader(train, plan.batch, shuffle=True))
    inputs, targets = train.tensors
    with torch.no_grad():
        return float(cross_entropy(net.eval()(inputs), targets))
