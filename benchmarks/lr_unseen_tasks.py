"""A third set of training tasks, to report learning-rate rules on; no rule is tuned on it.

All data are generated, so that test parts are large: the standard error of one score is below half a point. The data
of a task do not depend on the seed, which only sets the weights and the order of the batches.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from benchmarks.lr_tasks import (
    Recurrent,
    Split,
    Task,
    adagrad,
    adam,
    adamw,
    layer_norms,
    mlp,
    momentum,
    nadam,
    nesterov,
    rmsprop,
    sgd,
    standard,
)

TEST = 8000
"""Rows of every test part."""


def fixed(draw: Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]], train: int, seed: int):
    """The same data for every seed of a training."""

    @functools.lru_cache(maxsize=1)
    def data() -> Split:
        x, y = draw(np.random.default_rng(seed), train + TEST)
        inputs = torch.tensor(x, dtype=torch.float32 if x.dtype.kind == "f" else torch.long)
        labels = torch.tensor(y, dtype=torch.long if y.dtype.kind in "iu" else torch.float32)
        return inputs[:train], labels[:train], inputs[train:], labels[train:]

    return lambda _: data()


def halves(draw, rows):
    """Which half of a series sums to more."""
    x = draw.normal(size=(rows, 12, 2))
    weight = x[..., 0] * (x[..., 1] > 0)
    return x, (weight[:, :6].sum(1) > weight[:, 6:].sum(1)).astype("int64")


def largest(draw, rows):
    """The kind of the place with the largest value."""
    kinds, values = draw.integers(0, 5, (rows, 8)), draw.normal(size=(rows, 8, 1))
    return np.concatenate([np.eye(5)[kinds], values], 2), kinds[np.arange(rows), values[..., 0].argmax(1)]


def reviews(draw, rows):
    """How many stars a bag of words gives."""
    x, weight = draw.zipf(1.3, (rows, 15)) % 300, draw.normal(size=300)
    total = weight[x].sum(1)
    return x, np.digitize(total, np.quantile(total, [0.25, 0.5, 0.75]))


def ratings(draw, rows):
    """Ratings that users give to items."""
    users, items = draw.normal(size=(60, 4)), draw.normal(size=(80, 4))
    x = np.stack([draw.integers(0, 60, rows), draw.integers(0, 80, rows)], 1)
    return x, standard((users[x[:, 0]] * items[x[:, 1]]).sum(1) + draw.normal(0, 0.5, rows))


def shapes(draw, rows):
    """A cross, a frame, a disc or a bar somewhere in noise."""
    patterns = np.zeros((4, 5, 5))
    patterns[0, 2], patterns[0, :, 2], patterns[1], patterns[1, 1:4, 1:4] = 1, 1, 1, 0
    patterns[2, 1:4, 1:4], patterns[3] = 1, np.eye(5)
    y, places = draw.integers(0, 4, rows), draw.integers(0, 6, (rows, 2))
    x = draw.normal(0, 0.5, (rows, 1, 10, 10))
    for row, (kind, (top, left)) in enumerate(zip(y, places, strict=True)):
        x[row, 0, top : top + 5, left : left + 5] += patterns[kind]
    return x, y


def gratings(draw, rows):
    """Eight orientations of a grating of any phase."""
    y, phase = draw.integers(0, 8, rows), draw.uniform(0, 6.28, (rows, 1, 1))
    place = np.arange(10)
    angle = (np.pi * y / 8)[:, None, None]
    wave = np.sin(1.4 * (place[:, None] * np.cos(angle) + place * np.sin(angle)) + phase)
    return (wave + draw.normal(0, 0.9, (rows, 10, 10)))[:, None], y


def bent(draw, rows):
    """Points near a bent surface of five dimensions in forty."""
    hidden = np.tanh(draw.normal(size=(rows, 5)) @ draw.normal(size=(5, 20)))
    x = standard(hidden @ draw.normal(size=(20, 40)) + draw.normal(0, 0.3, (rows, 40)))
    return x, x


def surface(draw, rows):
    x = draw.uniform(-1, 1, (rows, 2))
    return x, standard(np.sin(3 * x[:, 0]) * np.cos(2 * x[:, 1]) + x[:, 0] * x[:, 1] + draw.normal(0, 0.05, rows))


def arm(draw, rows):
    """How far an arm of four joints reaches."""
    angles = draw.uniform(-2, 2, (rows, 4))
    bends = angles.cumsum(1)
    x = np.concatenate([angles, draw.normal(size=(rows, 4))], 1)
    return standard(x), standard(np.hypot(np.cos(bends).sum(1), np.sin(bends).sum(1)) + draw.normal(0, 0.1, rows))


def clusters(draw, rows):
    """Ten classes of two clusters each, one label in twenty wrong."""
    centres, which = draw.normal(size=(20, 16)), draw.integers(0, 20, rows)
    x = centres[which] + draw.normal(0, 0.7, (rows, 16))
    return standard(x), np.where(draw.random(rows) < 0.05, draw.integers(0, 10, rows), which % 10)


def shells(draw, rows):
    """Three shells around the origin."""
    y, x = draw.integers(0, 3, rows), draw.normal(size=(rows, 12))
    length = 1 + 0.5 * y + draw.normal(0, 0.15, rows)
    return x / np.linalg.norm(x, axis=1, keepdims=True) * length[:, None] * 2, y


def signals(draw, rows):
    """A sine, a square, a saw or a triangle of any pitch."""
    y, phase = draw.integers(0, 4, rows), draw.random((rows, 1))
    turn = (np.linspace(0, 1, 48) * draw.uniform(2, 5, (rows, 1)) + phase) % 1
    kinds = [np.sin(2 * np.pi * turn), np.sign(turn - 0.5), 2 * turn - 1, 4 * np.abs(turn - 0.5) - 1]
    return (np.stack(kinds)[y, np.arange(rows)] + draw.normal(0, 0.4, (rows, 48)))[:, None], y


def forecast(draw, rows):
    """The next value of a bent autoregressive series."""
    series = draw.normal(size=(rows, 17))
    for at in range(2, 17):
        series[:, at] = np.sin(2 * series[:, at - 1]) - 0.6 * series[:, at - 2] + draw.normal(0, 0.1, rows)
    return series[:, :16, None], standard(series[:, 16])


class Factors(nn.Module):
    """The product of what is known of a user and of an item."""

    def __init__(self):
        super().__init__()
        self.users, self.items = nn.Embedding(60, 8), nn.Embedding(80, 8)
        for table in (self.users, self.items):
            nn.init.normal_(table.weight, 0, 0.3)
        self.base = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return (self.users(x[:, 0]) * self.items(x[:, 1])).sum(1) + self.base


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.net = nn.EmbeddingBag(300, 24, mode="mean"), mlp(24, 32, 4)

    def forward(self, x):
        return self.net(self.embed(x))


class Attends(nn.Module):
    def __init__(self, inputs, hidden, outputs):
        super().__init__()
        self.embed, self.head = nn.Linear(inputs, hidden), nn.Linear(hidden, outputs)
        self.ask = nn.Parameter(torch.randn(1, 1, hidden) * 0.02)
        self.net = nn.TransformerEncoderLayer(hidden, 2, 2 * hidden, dropout=0.0, batch_first=True, norm_first=True)

    def forward(self, x):
        return self.head(self.net(torch.cat([self.ask.expand(len(x), 1, -1), self.embed(x)], 1))[:, 0])


def pictures(classes, norm):
    layers: list[nn.Module] = []
    for before, after in ((1, 8), (8, 16)):
        layers.append(nn.Conv2d(before, after, 3, padding=1))
        layers += [nn.BatchNorm2d(after)] if norm else []
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, classes))


def listens():
    body = [nn.Conv1d(1, 12, 7, padding=3), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(12, 16, 5, padding=2), nn.ReLU()]
    return nn.Sequential(*body, nn.AdaptiveMaxPool1d(2), nn.Flatten(), nn.Linear(32, 4))


def squeezes():
    return nn.Sequential(mlp(40, 32, 6, nn.Tanh), mlp(6, 32, 40, nn.Tanh))


UNSEEN = [
    Task("halves-gru-adamw", "unseen", fixed(halves, 2000, 5001), lambda: Recurrent(2, 24, 2), adamw, "class", 7),
    Task("largest-attention-adam", "unseen", fixed(largest, 2400, 5002), lambda: Attends(6, 24, 5), adam, "class", 8),
    Task("reviews-embedding-adagrad", "unseen", fixed(reviews, 3000, 5003), Words, adagrad, "class", 10),
    Task("ratings-factors-momentum", "unseen", fixed(ratings, 4000, 5004), Factors, momentum, "regress", 10),
    Task("shapes-cnn-nesterov", "unseen", fixed(shapes, 1600, 5005), lambda: pictures(4, False), nesterov, "class", 10),
    Task("gratings-cnnbn-adamw", "unseen", fixed(gratings, 2000, 5006), lambda: pictures(8, True), adamw, "class", 8),
    Task("bent-autoencoder-rmsprop", "unseen", fixed(bent, 2000, 5007), squeezes, rmsprop, "regress", 12),
    Task("surface-mlp-sgd", "unseen", fixed(surface, 1600, 5008), lambda: mlp(2, 48, 1, nn.Tanh, 2), sgd, "regress",
         20),
    Task("arm-mlp-adam", "unseen", fixed(arm, 3000, 5009), lambda: mlp(8, 64, 1, nn.SiLU, 2), adam, "regress", 10),
    Task("clusters-mlp-rmsprop", "unseen", fixed(clusters, 2000, 5010), lambda: mlp(16, 64, 10), rmsprop, "class", 12),
    Task("shells-layernorm-momentum", "unseen", fixed(shells, 2000, 5011), lambda: layer_norms(12, 48, 3), momentum,
         "class", 12),
    Task("signals-conv-adagrad", "unseen", fixed(signals, 1600, 5012), listens, adagrad, "class", 12),
    Task("forecast-lstm-nadam", "unseen", fixed(forecast, 2000, 5013), lambda: Recurrent(1, 24, 1, nn.LSTM), nadam,
         "regress", 10),
    Task("clusters-mlpbn-sgd", "unseen", fixed(clusters, 2000, 5014), lambda: mlp(16, 64, 10, depth=2, norm=True), sgd,
         "class", 10),
]  # fmt: skip
