"""Small training tasks of many kinds, half of them to tune learning-rate rules on and half to report."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn import datasets
from torch import nn

Split = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Task:
    """A data set, a net and an optimizer; ``group`` is "tune" or "report", ``kind`` "class" or "regress"."""

    name: str
    group: str
    data: Callable[[int], Split]
    net: Callable[[], nn.Module]
    optimizer: Callable[[Any, float], torch.optim.Optimizer]
    kind: str
    epochs: int
    batch: int = 32


def split(x, y, seed) -> Split:
    order = np.random.default_rng(seed).permutation(len(x))
    inputs = torch.tensor(x, dtype=torch.float32 if x.dtype.kind == "f" else torch.long)
    labels = torch.tensor(y, dtype=torch.long if y.dtype.kind in "iu" else torch.float32)
    cut = int(len(x) * 0.75)
    return inputs[order[:cut]], labels[order[:cut]], inputs[order[cut:]], labels[order[cut:]]


def standard(x):
    return ((x - x.mean(0)) / (x.std(0) + 1e-8)).astype("f")


def digits(seed):
    held = datasets.load_digits()
    return split((held.data / 16.0).astype("f"), held.target, seed)


def digits_images(seed):
    held = datasets.load_digits()
    return split((held.images[:, None] / 16.0).astype("f"), held.target, seed)


def digits_rows(seed):
    held = datasets.load_digits()
    return split((held.images / 16.0).astype("f"), held.target, seed)


def digits_themselves(seed):
    x = (datasets.load_digits().data / 16.0).astype("f")
    return split(x, x, seed)


def digits_tokens(seed):
    held = datasets.load_digits()
    return split(held.images.reshape(-1, 64).astype("int64"), held.target, seed)


def moons(seed):
    x, y = datasets.make_moons(800, noise=0.2, random_state=seed)
    return split(x.astype("f"), y, seed)


def cancer(seed):
    held = datasets.load_breast_cancer()
    return split(standard(held.data), held.target, seed)


def wine(seed):
    held = datasets.load_wine()
    return split(standard(held.data), held.target, seed)


def friedman(seed):
    x, y = datasets.make_friedman1(1000, noise=0.5, random_state=seed)
    return split(standard(x), standard(y), seed)


def diabetes(seed):
    held = datasets.load_diabetes()
    return split(standard(held.data), standard(held.target), seed)


def spiral(seed):
    draw = np.random.default_rng(seed)
    turn = np.sqrt(draw.random(600)) * 3 * np.pi
    y = draw.integers(0, 2, 600)
    x = np.stack([turn * np.cos(turn + np.pi * y), turn * np.sin(turn + np.pi * y)], 1) / (3 * np.pi)
    return split((x + draw.normal(0, 0.02, (600, 2))).astype("f"), y, seed)


def words(seed):
    draw = np.random.default_rng(seed)
    x = draw.integers(0, 50, (1200, 12))
    return split(x, (draw.normal(size=50)[x].sum(1) > 0).astype("int64"), seed)


def waves(seed):
    draw = np.random.default_rng(seed)
    time, pitch, phase = np.linspace(0, 1, 40), draw.uniform(2, 6, 800), draw.uniform(0, 6.28, 800)
    x = np.sin(2 * np.pi * pitch[:, None] * time + phase[:, None]) + draw.normal(0, 0.3, (800, 40))
    return split(x[..., None].astype("f"), standard(pitch), seed)


def blobs(seed):
    x, y = datasets.make_classification(1000, 30, n_informative=10, n_classes=4, random_state=seed)
    return split(standard(x), y, seed)


def mlp(inputs, hidden, outputs, activation=nn.ReLU, depth=1, norm=False):
    layers: list[nn.Module] = []
    for index in range(depth):
        layers.append(nn.Linear(hidden if index else inputs, hidden))
        layers += [nn.BatchNorm1d(hidden)] if norm else []
        layers.append(activation())
    return nn.Sequential(*layers, nn.Linear(hidden, outputs))


def cnn(norm=False):
    layers: list[nn.Module] = []
    for before, after in ((1, 16), (16, 32)):
        layers.append(nn.Conv2d(before, after, 3, padding=1))
        layers += [nn.BatchNorm2d(after)] if norm else []
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128, 10))


def layer_norms(inputs, hidden, outputs):
    parts = [nn.Linear(inputs, hidden), nn.LayerNorm(hidden), nn.GELU()]
    return nn.Sequential(*parts, nn.Linear(hidden, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Linear(hidden, outputs))


class Recurrent(nn.Module):
    def __init__(self, inputs, hidden, outputs, kind=nn.GRU):
        super().__init__()
        self.net, self.head = kind(inputs, hidden, batch_first=True), nn.Linear(hidden, outputs)

    def forward(self, x):
        return self.head(self.net(x)[0][:, -1])


class Attention(nn.Module):
    def __init__(self, inputs, hidden, outputs):
        super().__init__()
        self.embed = nn.Linear(inputs, hidden)
        self.place = nn.Parameter(torch.randn(1, 8, hidden) * 0.02)
        layer = nn.TransformerEncoderLayer(hidden, 4, 2 * hidden, dropout=0.0, batch_first=True)
        self.net, self.head = nn.TransformerEncoder(layer, 2), nn.Linear(hidden, outputs)

    def forward(self, x):
        return self.head(self.net(self.embed(x) + self.place).mean(1))


class Embedded(nn.Module):
    def __init__(self, count, width, net, mean):
        super().__init__()
        self.embed, self.net, self.mean = nn.Embedding(count, width), net(), mean

    def forward(self, x):
        found = self.embed(x)
        return self.net(found.mean(1) if self.mean else found.flatten(1))


O = torch.optim  # noqa: E741


def make(kind, **options):
    return lambda parameters, lr: kind(parameters, lr=lr, **options)


adam, sgd, rmsprop = make(O.Adam), make(O.SGD), make(O.RMSprop)
momentum, nesterov = make(O.SGD, momentum=0.9), make(O.SGD, momentum=0.9, nesterov=True)
adamw, adagrad, nadam = make(O.AdamW, weight_decay=0.01), make(O.Adagrad), make(O.NAdam)


def embedded_words():
    return Embedded(50, 16, lambda: mlp(16, 16, 2), True)


def embedded_digits():
    return Embedded(17, 8, lambda: mlp(512, 64, 10), False)


def flat_waves():
    return nn.Sequential(nn.Flatten(), mlp(40, 64, 1, depth=2))


def autoencoder():
    return nn.Sequential(mlp(64, 64, 16), nn.ReLU(), mlp(16, 64, 64))


TASKS = [
    Task("digits-mlp-adam", "tune", digits, lambda: mlp(64, 64, 10), adam, "class", 10),
    Task("digits-mlp-sgd", "tune", digits, lambda: mlp(64, 64, 10), sgd, "class", 10),
    Task("digits-cnn-momentum", "tune", digits_images, cnn, momentum, "class", 8),
    Task("digits-cnnbn-adam", "tune", digits_images, lambda: cnn(True), adam, "class", 8),
    Task("digits-tanh-sgd", "tune", digits, lambda: mlp(64, 48, 10, nn.Tanh, 5), sgd, "class", 12),
    Task("moons-mlp-adam", "tune", moons, lambda: mlp(2, 32, 2), adam, "class", 15),
    Task("cancer-logreg-sgd", "tune", cancer, lambda: nn.Linear(30, 2), sgd, "class", 10),
    Task("friedman-mlp-adam", "tune", friedman, lambda: mlp(10, 64, 1), adam, "regress", 15),
    Task("spiral-mlp-adamw", "tune", spiral, lambda: mlp(2, 64, 2, nn.Tanh, 2), adamw, "class", 20),
    Task("digits-gru-rmsprop", "tune", digits_rows, lambda: Recurrent(8, 32, 10), rmsprop, "class", 10),
    Task("tokens-embedding-adam", "tune", words, embedded_words, adam, "class", 12),
    Task("waves-conv-nesterov", "tune", waves, flat_waves, nesterov, "regress", 15),
    Task("digits-lstm-adam", "report", digits_rows, lambda: Recurrent(8, 32, 10, nn.LSTM), adam, "class", 10),
    Task("digits-attention-adamw", "report", digits_rows, lambda: Attention(8, 32, 10), adamw, "class", 10),
    Task("digits-autoencoder-adam", "report", digits_themselves, autoencoder, adam, "regress", 12),
    Task("digits-tokens-adagrad", "report", digits_tokens, embedded_digits, adagrad, "class", 10),
    Task("diabetes-mlp-nesterov", "report", diabetes, lambda: mlp(10, 32, 1), nesterov, "regress", 15),
    Task("wine-mlp-sgd", "report", wine, lambda: mlp(13, 32, 3), sgd, "class", 20),
    Task("digits-cnnbn-sgd", "report", digits_images, lambda: cnn(True), sgd, "class", 8),
    Task("blobs-mlpbn-momentum", "report", blobs, lambda: mlp(30, 64, 4, depth=2, norm=True), momentum, "class", 12),
    Task("blobs-layernorm-nadam", "report", blobs, lambda: layer_norms(30, 64, 4), nadam, "class", 10),
    Task("waves-gru-adam", "report", waves, lambda: Recurrent(1, 24, 1), adam, "regress", 12),
    Task("friedman-mlp-rmsprop", "report", friedman, lambda: mlp(10, 64, 1, depth=2), rmsprop, "regress", 15),
    Task("cancer-mlp-adamw", "report", cancer, lambda: mlp(30, 32, 2), adamw, "class", 10),
]  # fmt: skip


def loss_of(task: Task, output, wanted):
    if task.kind == "class":
        return nn.functional.cross_entropy(output, wanted)
    return nn.functional.mse_loss(output.reshape(wanted.shape), wanted)


def score(task: Task, net: nn.Module, x, y) -> float:
    """Accuracy, or explained variance, in points."""
    net.eval()
    with torch.no_grad():
        output = net(x)
    if task.kind == "class":
        return 100 * (output.argmax(1) == y).float().mean().item()
    missed = ((output.reshape(y.shape) - y) ** 2).mean() / ((y - y.mean(0)) ** 2).mean()
    return 100 * max(-1.0, 1 - missed.item()) if math.isfinite(missed.item()) else -100.0


def batches(count: int, size: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Endless shuffled batches of at least two rows."""
    while True:
        order = torch.randperm(count, generator=generator)
        yield from (order[start : start + size] for start in range(0, count - 1, size))


def train(task: Task, seed: int, lr: float) -> float:
    """The score on the test part after the whole training at a constant learning rate."""
    x, y, x_test, y_test = task.data(seed)
    torch.manual_seed(seed)
    net = task.net()
    optimizer = task.optimizer(net.parameters(), lr)
    rows = batches(len(x), task.batch, torch.Generator().manual_seed(seed))
    for _ in range(task.epochs * len(range(0, len(x) - 1, task.batch))):
        part = next(rows)
        loss = loss_of(task, net(x[part]), y[part])
        if not torch.isfinite(loss):
            return -100.0 if task.kind == "regress" else 100 * (y_test == 0).float().mean().item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return score(task, net, x_test, y_test)
