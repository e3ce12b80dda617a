"""A small program with nothing wrong with it, and everything about its run that must not change."""

from __future__ import annotations

import copy
import random
from typing import Any

import numpy
import pytorch_lightning
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from tests.helpers import QUIET

SETTINGS = {**QUIET, "accelerator": "cpu", "max_epochs": 2}


def make_model(
    package: Any = pytorch_lightning, *, fail_at: int | None = None, error: BaseException | None = None
) -> Any:
    """A classifier with dropout and batch-norm; raises ``error`` in the given batch of training."""

    class Healthy(package.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(
                nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 2)
            )  # fmt: skip
            self.order = []

        def forward(self, inputs):
            return self.net(inputs)

        def training_step(self, batch, batch_idx):
            self.order.append(float(batch[0].sum()))
            if fail_at is not None and len(self.order) > fail_at:
                raise error
            loss = F.cross_entropy(self(batch[0]), batch[1])
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            logits = self(batch[0])
            self.log("val_loss", F.cross_entropy(logits, batch[1]))
            self.log("val_acc", (logits.argmax(1) == batch[1]).float().mean())

        def test_step(self, batch, batch_idx):
            self.log("test_loss", F.cross_entropy(self(batch[0]), batch[1]))

        def predict_step(self, batch, batch_idx):
            return self(batch[0]).argmax(1)

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    torch.manual_seed(1)
    return Healthy()


def make_loaders(count: int = 96) -> tuple[DataLoader, DataLoader]:
    """Training and validation data that can be learned."""
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(count, 8, generator=generator)
    labels = (inputs[:, 0] + inputs[:, 1] > 0).long()
    cut = count * 2 // 3
    train = TensorDataset(inputs[:cut], labels[:cut])
    return (
        DataLoader(train, batch_size=16, shuffle=True),
        DataLoader(TensorDataset(inputs[cut:], labels[cut:]), batch_size=16),
    )


def make_trainer(*callbacks: Any, package: Any = pytorch_lightning, **options: Any) -> Any:
    """A quiet Trainer of either package."""
    return package.Trainer(**{**SETTINGS, "callbacks": list(callbacks), **options})


def seed() -> None:
    """The same random numbers everywhere."""
    torch.manual_seed(3)
    numpy.random.seed(3)
    random.seed(3)


def trace_of(trainer: Any, model: Any) -> dict[str, Any]:
    """What a run leaves: weights, optimizer state, random numbers, batch order, metrics."""
    return {
        "weights": copy.deepcopy(model.state_dict()),
        "optimizers": [copy.deepcopy(item.state_dict()) for item in trainer.optimizers],
        "random": (torch.get_rng_state(), numpy.random.get_state()[1].tolist(), random.getstate()),
        "order": list(model.order),
        "metrics": dict(trainer.callback_metrics),
        "global_step": trainer.global_step,
    }


def fit(*callbacks: Any, package: Any = pytorch_lightning, **options: Any) -> dict[str, Any]:
    """Trains the program and returns its trace."""
    model = make_model(package)
    seed()
    trainer = make_trainer(*callbacks, package=package, **options)
    trainer.fit(model, *make_loaders())
    return trace_of(trainer, model)


def assert_same(one: Any, other: Any, path: str = "") -> None:
    """Bit for bit."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), path
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one:
            assert_same(one[key], other[key], f"{path}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), path
        for index, (left, right) in enumerate(zip(one, other, strict=True)):
            assert_same(left, right, f"{path}[{index}]")
    else:
        assert one == other, path


def instruments(trainer: Any, model: Any) -> dict[str, Any]:
    """Whatever could have been left installed on a model, its optimizers and torch."""
    hooks = {
        f"{name or 'root'}.{attribute}": len(value)
        for name, module in model.named_modules()
        for attribute, value in vars(module).items()
        if "hooks" in attribute and isinstance(value, dict) and attribute != "_non_persistent_buffers_set"
    }
    own = {name: sorted(vars(module)) for name, module in model.named_modules()}
    gradients = {name: len(item._backward_hooks or ()) for name, item in model.named_parameters()}
    optimizers = [
        {key: len(value) for key, value in vars(item).items() if "hooks" in key and isinstance(value, dict)}
        for item in getattr(trainer, "optimizers", [])
    ]
    patched = {
        f"{owner.__name__}.{name}": id(vars(owner).get(name))
        for owner in (torch, F, torch.Tensor, nn.Module, torch.optim.Optimizer, torch.autograd, nn.utils)
        for name in ("cross_entropy", "softmax", "backward", "__call__", "_call_impl", "step", "eval", "train", "relu",
                     "clip_grad_norm_", "nll_loss", "mse_loss", "grad", "forward", "__setattr__")
    }  # fmt: skip
    modes = (
        torch.overrides._get_current_function_mode_stack(),
        torch.utils._python_dispatch._get_current_dispatch_mode(),
    )
    return {"hooks": hooks, "own": own, "gradients": gradients, "optimizers": optimizers, "patched": patched,
            "modes": modes, "callbacks": [type(item).__name__ for item in trainer.callbacks],
            "gradient": torch.is_grad_enabled(), "anomaly": torch.is_anomaly_enabled()}  # fmt: skip
