"""What the learning-rate search is tuned on: whole trainings, noted step by step, of the tuning half and of more tasks.

    python -m benchmarks.lr_tuning record FILE [--seeds 2]      # trains; adds what FILE lacks
    python -m benchmarks.lr_tuning judge FILE                   # regret of ways to choose, from what was noted

A fifth of the training part is held out, as the search does it. Scores are from the test part after the whole
training on the rest, so that one training serves as trial and as oracle.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn import datasets
from torch import nn

from benchmarks.lr_range import GRID, Run
from benchmarks.lr_tasks import (
    TASKS,
    Attention,
    Embedded,
    Recurrent,
    Split,
    Task,
    adagrad,
    adam,
    adamw,
    autoencoder,
    cnn,
    digits_images,
    digits_rows,
    digits_themselves,
    layer_norms,
    mlp,
    momentum,
    nadam,
    nesterov,
    rmsprop,
    score,
    sgd,
    split,
    standard,
    words,
)
from lightning_debug.experiments.lr_trials import ENDING, ON_THE_WAY


def parted(x, y, train) -> Split:
    """Drawn at random already: the first rows train, the others test."""
    inputs = torch.tensor(x, dtype=torch.float32)
    labels = torch.tensor(y, dtype=torch.long if y.dtype.kind in "iu" else torch.float32)
    return inputs[:train], labels[:train], inputs[train:], labels[train:]


def classes(count, features, kinds, noise):
    def draw(seed):
        x, y = datasets.make_classification(
            count + 1000, features, n_informative=features // 2, n_classes=kinds, flip_y=noise, random_state=50 + seed
        )
        return parted(standard(x), y, count)

    return draw


def linear(seed):
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(1300, 12))
    y = x @ draw.normal(size=12) + 0.5 * np.sin(2 * x[:, 0]) + draw.normal(0, 3.0, 1300)
    return parted(x, standard(y), 300)


def circuit(seed):
    x, y = datasets.make_friedman2(1500, noise=60.0, random_state=seed)
    return parted(standard(x), standard(y), 500)


def iris(seed):
    held = datasets.load_iris()
    return split(standard(held.data), held.target, seed)


def pitches(seed):
    draw = np.random.default_rng(seed)
    y = draw.integers(0, 4, 1700)
    time, phase = np.linspace(0, 1, 32), draw.uniform(0, 6.28, 1700)
    x = np.sin(2 * np.pi * (2 + y)[:, None] * time + phase[:, None]) + draw.normal(0, 0.7, (1700, 32))
    return parted(x[:, None], y, 700)


def convolution():
    body = [nn.Conv1d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(16, 16, 5, padding=2), nn.ReLU()]
    return nn.Sequential(*body, nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(64, 4))


def tokens():
    return Embedded(50, 16, lambda: mlp(192, 32, 2, nn.GELU), False)


def normed(inputs, hidden, outputs):
    return lambda: layer_norms(inputs, hidden, outputs)


def batch_normed():
    return mlp(24, 64, 4, depth=2, norm=True)


MORE = [
    Task("circuit-mlp-nesterov", "tune", circuit, lambda: mlp(4, 64, 1, depth=2), nesterov, "regress", 15),
    Task("classes-layernorm-adamw", "tune", classes(700, 20, 3, 0.1), normed(20, 64, 3), adamw, "class", 10),
    Task("classes-layernorm-nadam", "tune", classes(900, 16, 5, 0.02), normed(16, 48, 5), nadam, "class", 12),
    Task("classes-mlpbn-sgd", "tune", classes(900, 24, 4, 0.05), batch_normed, sgd, "class", 12),
    Task("linear-mlp-momentum", "tune", linear, lambda: mlp(12, 32, 1), momentum, "regress", 15),
    Task("linear-mlp-adam", "tune", linear, lambda: mlp(12, 64, 1, depth=2), adam, "regress", 12),
    Task("iris-mlp-sgd", "tune", iris, lambda: mlp(4, 16, 3), sgd, "class", 25),
    Task("rows-attention-adam", "tune", digits_rows, lambda: Attention(8, 16, 10), adam, "class", 6),
    Task("rows-gru-adagrad", "tune", digits_rows, lambda: Recurrent(8, 24, 10), adagrad, "class", 8),
    Task("tokens-flat-adamw", "tune", words, tokens, adamw, "class", 8),
    Task("pictures-autoencoder-momentum", "tune", digits_themselves, autoencoder, momentum, "regress", 12),
    Task("pitches-conv-rmsprop", "tune", pitches, convolution, rmsprop, "class", 10),
    Task("pictures-cnnbn-nesterov", "tune", digits_images, lambda: cnn(True), nesterov, "class", 4),
]  # fmt: skip


def noted(task: Task, seed: int, lr: float) -> dict[str, Any]:
    """One whole training: losses by step, held-out losses by step, the score on the test part."""
    run = Run(task, seed)
    run.rewind(100)
    steps = task.epochs * math.ceil(len(run.x) / task.batch)
    losses: list[float] = []
    held = {}
    for step in range(steps):
        losses.append(run.step(lr))
        if not math.isfinite(losses[-1]) or abs(losses[-1]) > 1e4 * (abs(losses[0]) + 1):
            return {"losses": losses, "held": held, "score": -100.0 if task.kind == "regress" else 0.0}
        if (step + 1) % 10 == 0 or step + 1 == steps:
            held[step + 1] = run.held_out()
    _, _, x, y = task.data(seed)
    return {"losses": losses, "held": held, "score": score(task, run.net, x, y), "steps": steps}


def record(path: str, seeds: int) -> None:
    known = {}
    if os.path.exists(path):
        with open(path, "rb") as file:
            known = pickle.load(file)
    for task in [*MORE, *(one for one in TASKS if one.group == "tune")]:
        for seed in range(seeds):
            for lr in GRID:
                if (task.name, seed, lr) not in known:
                    known[task.name, seed, lr] = noted(task, seed, lr)
        with open(path, "wb") as file:
            pickle.dump(known, file)
        print(task.name, flush=True)


def value(one: dict[str, Any], steps: int, lowest: float, training: float) -> float:
    """The merit of a trial of so many steps, given the shares of the lowest held-out loss and of the training loss."""
    if len(one["losses"]) < steps or not all(map(math.isfinite, one["losses"][:steps])):
        return math.inf
    on_the_way = [one["held"].get(round(steps * share / 10) * 10, math.inf) for share in ON_THE_WAY]
    ending = [one["held"].get(round(steps * share / 10) * 10) for share in ENDING]
    score = float(np.mean([item for item in ending if item is not None]))
    late = float(np.mean(one["losses"][steps * 4 // 5 : steps]))
    return (1 - lowest - training) * score + lowest * min(score, *on_the_way) + training * late


Choice = Callable[[list[float], float], float]


def within(tolerance: float, share: float) -> Choice:
    """Of the rates within a tolerance of the best: the one at a share of the way from the lowest to the highest."""

    def choose(scores, start):
        best = int(np.argmin(scores))
        low = high = best
        enough = scores[best] + tolerance * max(start - scores[best], 0.0)
        while low > 0 and scores[low - 1] <= enough:
            low -= 1
        while high + 1 < len(scores) and scores[high + 1] <= enough:
            high += 1
        return math.log10(GRID[low]) * (1 - share) + math.log10(GRID[high]) * share

    return choose


def judge(path: str) -> None:
    with open(path, "rb") as file:
        known = pickle.load(file)
    names = sorted({name for name, *_ in known})
    seeds = sorted({seed for _, seed, _ in known})
    kinds = {task.name: task.kind for task in [*MORE, *TASKS]}
    for kind, longest, (lowest, training), tolerance in itertools.product(
        ("regress", "class"),
        (200, 300, 400),
        ((0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.2, 0.2), (0.4, 0.3)),
        (0.0, 0.01, 0.03, 0.06),
    ):
        lost = []
        for name in (one for one in names if kinds[one] == kind):
            curve = np.mean([[known[name, seed, lr]["score"] for lr in GRID] for seed in seeds], 0)
            for seed in seeds:
                runs = [known[name, seed, lr] for lr in GRID]
                steps = min(longest, max(len(one["losses"]) for one in runs)) // 10 * 10
                scores = [value(one, steps, lowest, training) for one in runs]
                at = within(tolerance, 0.0)(scores, runs[0]["losses"][0])
                lost.append(float(max(curve) - np.interp(at, np.log10(GRID), curve)))
        print(
            f"{kind}, {longest} steps, shares {lowest} and {training}, tolerance {tolerance}: "
            f"mean {np.mean(lost):.2f}, worst {max(lost):.1f}, within 1.5 {np.mean(np.array(lost) <= 1.5):.0%}"
        )


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("what", choices=["record", "judge"])
    arguments.add_argument("file")
    arguments.add_argument("--seeds", type=int, default=2)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    record(options.file, options.seeds) if options.what == "record" else judge(options.file)
