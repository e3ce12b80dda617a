"""The data and the modules of the programs in :mod:`tests.identity`."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import numpy
import pytorch_lightning as pl
import torch
import torchmetrics
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.data import Dataset

from lightning_debug.experiments.isolation import in_sandbox


def digest(value: Any) -> str:
    """A hash of tensors, arrays and plain values in any nesting."""
    found = hashlib.sha256()

    def add(item: Any) -> None:
        if isinstance(item, torch.Tensor):
            item = item.to_local() if hasattr(item, "to_local") else item
            found.update(f"{item.dtype}{tuple(item.shape)}".encode())
            raw = item.detach().cpu().contiguous().reshape(-1)
            found.update(raw.view(torch.uint8).numpy().tobytes() if raw.numel() else b"")
        elif isinstance(item, numpy.ndarray):
            found.update(item.tobytes())
        elif isinstance(item, dict):
            for key, one in item.items():
                found.update(str(key).encode())
                add(one)
        elif isinstance(item, (list, tuple)):
            for one in item:
                add(one)
        else:
            found.update(repr(item).encode())

    add(value)
    return found.hexdigest()[:16]


class Drawing(Dataset):
    """Items that depend on torch's, numpy's and Python's generators, as augmentation does."""

    def __init__(self, count: int = 40) -> None:
        source = torch.Generator().manual_seed(5)
        self.x = torch.randn(count, 6, generator=source)
        self.y = (self.x[:, 0] > 0).long()

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index):
        noise = torch.randn(6) + numpy.random.rand() + random.random()
        return {"x": self.x[index] + 0.1 * noise, "y": self.y[index]}


class Base(pl.LightningModule):
    """What the programs share: a record of the steps that were really taken."""

    def __init__(self) -> None:
        super().__init__()
        self.net = self.build()
        self.live: list[str] = []

    def build(self) -> nn.Module:
        return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 2))

    def training_step(self, batch, batch_idx):
        if not in_sandbox():
            self.live.append(digest(batch))
        loss = F.cross_entropy(self.net(batch["x"]), batch["y"])
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        logits = self.net(batch["x"])
        self.log("val_loss", F.cross_entropy(logits, batch["y"]))
        self.log("val_acc", (logits.argmax(-1) == batch["y"]).float().mean())

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


class Stateful(Base):
    """Metrics, an EMA buffer that is bound anew, counters, a schedule by the step."""

    def __init__(self) -> None:
        super().__init__()
        self.accuracy = torchmetrics.Accuracy("multiclass", num_classes=2)
        self.register_buffer("ema", torch.zeros(1))
        self.steps, self.history = 0, []

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.accuracy(self.net(batch["x"]), batch["y"])
        self.log("train_acc", self.accuracy, on_step=False, on_epoch=True)
        self.ema = 0.9 * self.ema + 0.1 * loss.detach()
        self.steps += 1
        self.history.append(loss.detach())
        self.log("steps", float(self.steps) + self.ema.item())
        return {"loss": loss}

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=3e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=60)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Manual(Base):
    """Two optimizers and their schedules, stepped by hand; weights that a step of power iteration makes when read."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.critic = nn.Linear(6, 1)

    def build(self) -> nn.Module:
        layers = super().build()
        return nn.Sequential(spectral_norm(nn.Linear(6, 6)), spectral_norm(nn.Linear(6, 6, bias=False)), *layers)

    def training_step(self, batch, batch_idx):
        first, second = self.optimizers()
        self.toggle_optimizer(first)
        loss = super().training_step(batch, batch_idx) + self.critic(batch["x"]).mean()
        first.zero_grad()
        self.manual_backward(loss)
        self.clip_gradients(first, gradient_clip_val=0.5, gradient_clip_algorithm="norm")
        first.step()
        self.untoggle_optimizer(first)
        self.toggle_optimizer(second)
        other = (self.critic(batch["x"]).squeeze(1) - batch["y"]).square().mean()
        second.zero_grad()
        self.manual_backward(other)
        second.step()
        self.untoggle_optimizer(second)
        for schedule in self.lr_schedulers():
            schedule.step()

    def configure_optimizers(self):
        first = torch.optim.Adam(self.net.parameters(), lr=3e-3)
        second = torch.optim.SGD(self.critic.parameters(), lr=1e-2, momentum=0.9)
        return [first, second], [torch.optim.lr_scheduler.StepLR(item, 7) for item in (first, second)]


class Transformer(Base):
    """Validation takes the encoder's fast path."""

    def build(self) -> nn.Module:
        layer = nn.TransformerEncoderLayer(6, 2, 12, batch_first=True)
        return nn.Sequential(nn.Unflatten(1, (1, 6)), nn.TransformerEncoder(layer, 2), nn.Flatten(), nn.Linear(6, 2))


class Recurrent(Base):
    """Hidden state is carried from batch to batch."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(6, 6)
        self.hidden = None

    def training_step(self, batch, batch_idx):
        out, hidden = self.rnn(batch["x"][None], self.hidden)
        self.hidden = tuple(item.detach() for item in hidden)
        return super().training_step({"x": out[0], "y": batch["y"]}, batch_idx)


class Compiled(Base):
    """The net is compiled, and so is a function."""

    def build(self) -> nn.Module:
        return torch.compile(super().build(), backend="aot_eager")

    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx) + penalty(next(self.net.parameters()), batch["x"])


class Chain(nn.Sequential):
    """A Sequential of one's own: torch does not compile those of its own in place."""

    def forward(self, x):
        for part in self:
            x = part(x)
        return x


class CompiledInPlace(Base):
    """The net compiles itself."""

    def build(self) -> nn.Module:
        net = Chain(*super().build())
        net.compile(backend="aot_eager")
        return net


class CompiledWhole(Base):
    """A step that Lightning compiles as a whole: plain, since ``self.log`` cannot be traced."""

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch["x"]), batch["y"])

    def validation_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch["x"]), batch["y"])


@torch.compile(backend="aot_eager")
def penalty(weight, x):
    """A compiled function of a global name."""
    return 1e-3 * weight.square().sum() + 1e-3 * x.mean()
