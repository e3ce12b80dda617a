"""Real short training runs whose best epoch is known: validation curves beside accuracy on a clean test set."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer, load_digits, make_classification, make_moons
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 -- as everybody writes it

from lightning_debug.probes.validation_scores import ValidationScores

EPOCHS = 100
TEST = 3000
"""Test samples of the tasks that are generated."""

Data = tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], tuple[Tensor, Tensor], int]


@dataclass
class Run:
    """One run: values by epoch."""

    task: str
    seed: int
    val_loss: list[float] = field(default_factory=list)
    val_metric: list[float] = field(default_factory=list)
    train_loss: list[float] = field(default_factory=list)
    test: list[float] = field(default_factory=list)
    refined: list[float] = field(default_factory=list)


def split(inputs: Any, labels: Any, train: int, val: int, noise: float, seed: int, *, shuffle: bool = False) -> Data:
    """Cuts into training, validation (both with wrong labels) and test (clean)."""
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.as_tensor(inputs, dtype=torch.float32), torch.as_tensor(labels)
    if shuffle:
        order = torch.randperm(len(x), generator=generator)
        x, y = x[order], y[order]
    classes = int(y.max()) + 1
    wrong = torch.rand(len(y), generator=generator) < noise
    noisy = torch.where(wrong, torch.randint(0, classes, y.shape, generator=generator), y)
    end = train + val
    return (x[:train], noisy[:train]), (x[train:end], noisy[train:end]), (x[end:], y[end:]), classes


def digits(seed: int, train: int, val: int, noise: float) -> Data:
    inputs, labels = load_digits(return_X_y=True)
    return split(inputs / 16 - 0.3, labels, train, val, noise, seed, shuffle=True)


def cancer(seed: int, train: int, val: int, noise: float) -> Data:
    inputs, labels = load_breast_cancer(return_X_y=True)
    return split((inputs - inputs.mean(0)) / inputs.std(0), labels, train, val, noise, seed, shuffle=True)


def clusters(seed: int, train: int, val: int, noise: float) -> Data:
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(8, 20, generator=generator)
    labels = torch.randint(0, 8, (train + val + TEST,), generator=generator)
    return split(
        centers[labels] + 2 * torch.randn(len(labels), 20, generator=generator), labels, train, val, noise, seed
    )


def moons(seed: int, train: int, val: int, noise: float) -> Data:
    inputs, labels = make_moons(train + val + TEST, noise=0.35, random_state=seed)
    return split((inputs - inputs.mean(0)) / inputs.std(0), labels, train, val, noise, seed)


def table(seed: int, train: int, val: int, noise: float) -> Data:
    shape: dict[str, int] = {"n_features": 30, "n_informative": 8, "n_classes": 4, "n_clusters_per_class": 3}
    inputs, labels = make_classification(train + val + TEST, flip_y=0.0, random_state=seed, **shape)
    return split((inputs - inputs.mean(0)) / inputs.std(0), labels, train, val, noise, seed)


def series(seed: int, train: int, val: int, noise: float) -> Data:
    """Which of four motifs a noisy series holds."""
    generator = torch.Generator().manual_seed(seed)
    motifs = torch.randn(4, 6, generator=torch.Generator().manual_seed(7))
    count = train + val + TEST
    labels = torch.randint(0, 4, (count,), generator=generator)
    inputs = 0.8 * torch.randn(count, 20, generator=generator)
    starts = torch.randint(0, 14, (count,), generator=generator)
    for step in range(6):
        inputs[torch.arange(count), starts + step] += motifs[labels, step]
    return split(inputs, labels, train, val, noise, seed)


class Recurrent(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.rnn, self.out = nn.GRU(1, 24, batch_first=True), nn.Linear(24, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x.unsqueeze(-1))[0].amax(1))


def mlp(width: int, depth: int = 1, dropout: float = 0.0, *, norm: bool = False) -> Callable[[int, int], nn.Module]:
    def build(features: int, classes: int) -> nn.Module:
        layers: list[nn.Module] = []
        for index in range(depth):
            layers += [nn.Linear(width if index else features, width), *([nn.BatchNorm1d(width)] if norm else [])]
            layers += [nn.ReLU(), *([nn.Dropout(dropout)] if dropout else [])]
        return nn.Sequential(*layers, nn.Linear(width, classes))

    return build


def cnn(_: int, classes: int) -> nn.Module:
    first = [nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    second = [nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 64), nn.ReLU()]
    return nn.Sequential(*first, *second, nn.Linear(64, classes))


def convolutions(_: int, classes: int) -> nn.Module:
    layers = [nn.Unflatten(1, (1, -1)), nn.Conv1d(1, 24, 5, padding=2), nn.ReLU(), nn.Conv1d(24, 24, 5, padding=2)]
    return nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(24, classes))


def recurrent(_: int, classes: int) -> nn.Module:
    return Recurrent(classes)


def adam(lr: float) -> Callable[[Any], torch.optim.Optimizer]:
    return lambda parameters: torch.optim.Adam(parameters, lr=lr)


def adamw(lr: float) -> Callable[[Any], torch.optim.Optimizer]:
    return lambda parameters: torch.optim.AdamW(parameters, lr=lr, weight_decay=0.05)


def sgd(lr: float) -> Callable[[Any], torch.optim.Optimizer]:
    return lambda parameters: torch.optim.SGD(parameters, lr=lr, momentum=0.9)


TASKS: dict[str, tuple[Any, ...]] = {
    # name: data, training samples, validation samples, label noise, net, optimizer, batch size
    "digits-mlp": (digits, 500, 150, 0.2, mlp(128), adam(1e-3), 32),
    "digits-cnn": (digits, 400, 100, 0.1, cnn, adam(1e-3), 32),
    "digits-small": (digits, 150, 60, 0.0, mlp(64), sgd(0.02), 16),
    "digits-deep": (digits, 800, 200, 0.15, mlp(128, 3, 0.2), adamw(1e-3), 64),
    "cancer": (cancer, 150, 100, 0.15, mlp(64, 2), adam(1e-3), 16),
    "clusters": (clusters, 600, 200, 0.2, mlp(128, 2), adam(1e-3), 32),
    "clusters-dropout": (clusters, 500, 150, 0.1, mlp(256, 1, 0.5), adam(1e-3), 32),
    "moons": (moons, 200, 100, 0.2, mlp(64, 2), adam(3e-3), 16),
    "table-norm": (table, 600, 200, 0.1, mlp(128, 2, norm=True), adamw(1e-3), 32),
    "table-sgd": (table, 800, 100, 0.0, mlp(64, 2), sgd(0.01), 32),
    "series-gru": (series, 600, 150, 0.1, recurrent, adam(3e-3), 32),
    "series-conv": (series, 400, 120, 0.2, convolutions, adam(2e-3), 32),
}


def train(task: str, seed: int, epochs: int = EPOCHS) -> Run:
    """Trains one task with one seed."""
    data, samples, held_out, noise, net, optimizer, batch = TASKS[task]
    (x, y), (val_x, val_y), (test_x, test_y), classes = data(seed, samples, held_out, noise)
    torch.manual_seed(seed)
    model = net(x.shape[1], classes)
    stepper = optimizer(model.parameters())
    run = Run(task, seed)
    for _ in range(epochs):
        model.train()
        losses = []
        for part in torch.randperm(len(x)).split(batch):
            stepper.zero_grad()
            loss = F.cross_entropy(model(x[part]), y[part])
            loss.backward()
            stepper.step()
            losses.append(loss.item())
        model.eval()
        with torch.no_grad():
            scores = model(val_x)
            heard = ValidationScores()
            with heard:
                run.val_loss.append(F.cross_entropy(scores, val_y).item())
            run.refined.append(min(heard.losses()))
            run.val_metric.append((scores.argmax(1) == val_y).double().mean().item())
            run.test.append((model(test_x).argmax(1) == test_y).double().mean().item())
        run.train_loss.append(math.fsum(losses) / len(losses))
        if not np.isfinite(run.val_loss[-1]):
            raise FloatingPointError(f"{task} with seed {seed} diverged")
    return run
