"""Healthy programs as other people write them: odd batches, losses, optimizers, loaders. Each is a function that
returns a model, its loaders and options for the Trainer; ``@program`` lists it."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

PROGRAMS: list[Callable[[], tuple[Any, tuple[Any, ...], dict[str, Any]]]] = []


def program(function):
    """Adds a program to the zoo."""
    PROGRAMS.append(function)
    return function


def data(count=64, width=8, seed=5):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, width, generator=generator)
    return inputs, (inputs[:, 0] - inputs[:, 1] > 0).long()


def loaders(collate=None, batch_size=16, **options):
    train, val = TensorDataset(*data()), TensorDataset(*data(32, seed=6))
    return (
        DataLoader(train, batch_size, shuffle=True, collate_fn=collate, **options),
        DataLoader(val, batch_size, collate_fn=collate),
    )


def stacked(pairs):
    return torch.stack([pair[0] for pair in pairs]), torch.stack([pair[1] for pair in pairs])


class Net(pl.LightningModule):
    """A classifier whose ``unpack`` says how to read a batch."""

    def __init__(self, net=None, lr=1e-2):
        super().__init__()
        torch.manual_seed(7)
        self.net = net or nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
        self.lr = lr

    def unpack(self, batch):
        return batch

    def forward(self, inputs):
        return self.net(inputs)

    def loss(self, batch):
        inputs, labels = self.unpack(batch)
        return F.cross_entropy(self(inputs), labels)

    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(batch), batch_size=16)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=self.lr)


@dataclasses.dataclass(slots=True)
class Slotted:
    x: torch.Tensor
    y: torch.Tensor
    note: str | None = None


class Named(NamedTuple):
    x: torch.Tensor
    mask: torch.Tensor | None
    y: torch.Tensor


class Custom:
    def __init__(self, x, y):
        self.x, self.y = x, y

    def to(self, *arguments, **options):
        return Custom(self.x.to(*arguments, **options), self.y.to(*arguments, **options))


SHAPES = {
    "slotted": (lambda x, y: Slotted(x, y), lambda b: (b.x, b.y)),
    "named": (lambda x, y: Named(x, None, y), lambda b: (b.x, b.y)),
    "custom": (Custom, lambda b: (b.x, b.y)),
    "dict": (lambda x, y: {"x": x, "y": y, "names": ["a"] * len(x), "gap": None}, lambda b: (b["x"], b["y"])),
    "nested": (lambda x, y: ({"x": x}, (y, None)), lambda b: (b[0]["x"], b[1][0])),
    "views": (lambda x, y: [[x, x + 0.01], y, ["file"] * len(x)], lambda b: ((b[0][0] + b[0][1]) / 2, b[1])),
    "empty": (lambda x, y: {"x": x, "none": x[:, :0], "list": [], "y": y}, lambda b: (b["x"], b["y"])),
    "indices": (lambda x, y: {"edges": torch.arange(6).view(2, 3), "x": x, "y": y}, lambda b: (b["x"], b["y"])),
}

for _shape in SHAPES:

    def _batch_program(shape=_shape):
        pack, unpack = SHAPES[shape]
        model = Net()
        model.unpack = unpack
        return model, loaders(lambda pairs: pack(*stacked(pairs))), {}

    _batch_program.__name__ = f"batch_{_shape}"
    program(_batch_program)


@program
def loss_in_a_dict():
    class Model(Net):
        def training_step(self, batch, batch_idx):
            loss = self.loss(batch)
            return {"loss": loss, "size": len(batch), "extra": {"names": ["a"]}}

    return Model(), loaders(), {}


@program
def loss_of_shape_one():
    class Model(Net):
        def training_step(self, batch, batch_idx):
            return self.loss(batch).view(1)

    return Model(), loaders(), {}


@program
def steps_left_out():
    class Model(Net):
        def training_step(self, batch, batch_idx):
            return None if batch_idx % 3 == 2 else self.loss(batch)

    return Model(), loaders(), {}


@program
def manual_with_two_optimizers():
    class Model(Net):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False
            self.head = nn.Linear(8, 2)

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            for optimizer, net in zip(self.optimizers(), (self.net, self.head), strict=True):
                loss = F.cross_entropy(net(inputs), labels)
                optimizer.zero_grad()
                self.manual_backward(loss)
                optimizer.step()
            self.log("generator_loss", loss)

        def configure_optimizers(self):
            return torch.optim.Adam(self.net.parameters(), 1e-2), torch.optim.SGD(self.head.parameters(), 1e-1)

    return Model(), loaders(), {}


@program
def no_optimizer_at_all():
    class Model(Net):
        def training_step(self, batch, batch_idx):
            return None

        def configure_optimizers(self):
            return None

    return Model(), loaders(), {}


@program
def lbfgs():
    class Model(Net):
        def configure_optimizers(self):
            return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=3)

    return Model(), loaders(), {}


@program
def warm_up_from_zero():
    class Model(Net):
        def configure_optimizers(self):
            optimizer = torch.optim.Adam(self.parameters(), lr=1e-2)
            schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 3))
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    return Model(), loaders(), {}


@program
def frozen_extractor_in_eval():
    class Model(Net):
        def __init__(self):
            super().__init__(nn.Linear(16, 2))
            self.extractor = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout(0.5)).eval()
            self.extractor.requires_grad_(False)

        def forward(self, inputs):
            return self.net(self.extractor(inputs))

        def on_train_epoch_start(self):
            self.extractor.eval()

    return Model(), loaders(), {}


@program
def negative_loss():
    class Model(Net):
        def loss(self, batch):
            return super().loss(batch) - 50.0

    return Model(), loaders(), {}


@program
def double_precision():
    model = Net()
    return model, loaders(lambda pairs: (stacked(pairs)[0].double(), stacked(pairs)[1])), {"precision": "64-true"}


@program
def accumulated_clipped_bfloat():
    options = {"accumulate_grad_batches": 2, "gradient_clip_val": 0.5, "precision": "bf16-mixed"}
    return Net(), loaders(), options
