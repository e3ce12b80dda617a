"""Data of :mod:`benchmarks.mixtures`: each generator gives inputs, targets, and what is to be learned."""

from __future__ import annotations

import random
from typing import NamedTuple

import torch
from sklearn.datasets import load_digits
from torch import Tensor


class Task(NamedTuple):
    """What is to be learned: ``kind`` names the sort of target, ``outputs`` the numbers a forecast has."""

    kind: str
    outputs: int


Drawn = tuple[Tensor, Tensor, Task]


def standard(values: Tensor, dims: tuple[int, ...] = (0,)) -> Tensor:
    return (values - values.mean(dims, keepdim=True)) / (values.std(dims, keepdim=True) + 1e-6)


def table(draw: random.Random, count: int) -> Drawn:
    features, classes = draw.choice([6, 13, 30]), draw.choice([2, 3, 5, 10])
    labels = torch.randint(0, classes, (count,))
    spread = draw.choice([0.6, 1.0])
    inputs = 1.2 * torch.randn(classes, features)[labels] + spread * torch.randn(count, features)
    if draw.random() < 0.3:
        inputs[:, 0] = inputs[:, 0].exp()
    return standard(inputs), labels, Task("classes", classes)


def rings(draw: random.Random, count: int) -> Drawn:
    inputs = torch.randn(count, 8)
    return inputs, (inputs[:, :3].norm(dim=1) > 1.5).long(), Task("classes", 2)


def shapes(draw: random.Random, count: int) -> Drawn:
    side, channels, classes = draw.choice([12, 16, 20]), draw.choice([1, 3]), draw.choice([3, 4, 6])
    labels = torch.randint(0, classes, (count,))
    rows, columns = torch.meshgrid(torch.arange(side).float(), torch.arange(side).float(), indexing="ij")
    across = columns - side * (0.3 + 0.4 * torch.rand(count, 1, 1))
    down = rows - side * (0.3 + 0.4 * torch.rand(count, 1, 1))
    radius = side * (0.15 + 0.1 * torch.rand(count, 1, 1))
    wide, high = across.abs() < radius, down.abs() < radius
    far = (across**2 + down**2).sqrt()
    drawn = [
        *(far < radius, wide & (down.abs() < 2), high & (across.abs() < 2)),
        *((far - radius).abs() < 1.2, wide & high, wide & ((across - down).abs() < 2)),
    ]
    chosen = torch.stack(drawn, 1)[torch.arange(count), labels].float().unsqueeze(1).repeat(1, channels, 1, 1)
    images = chosen * (0.5 + 0.5 * torch.rand(count, channels, 1, 1)) + 0.15 * torch.randn(count, channels, side, side)
    how = draw.choice(["unit", "all", "channel"])
    scaled = images.clamp(0, 1) if how == "unit" else standard(images, (0, 2, 3) if how == "channel" else (0, 1, 2, 3))
    return scaled, labels, Task("classes", classes)


def digits(draw: random.Random, count: int) -> Drawn:
    found = load_digits()
    order = torch.randperm(len(found.target))[:count]
    images = torch.tensor(found.images / 16, dtype=torch.float32).unsqueeze(1)
    return images[order], torch.tensor(found.target)[order], Task("classes", 10)


def waves(draw: random.Random, count: int) -> Drawn:
    steps, channels = draw.choice([32, 64]), draw.choice([1, 2, 4])
    labels = torch.randint(0, 3, (count,))
    rate = (torch.tensor([2.0, 4.0, 7.0])[labels] + 0.3 * torch.randn(count)).view(-1, 1, 1)
    phase, time = 6.28 * torch.rand(count, 1, channels), torch.arange(steps).view(1, -1, 1) / steps
    return (6.28 * rate * time + phase).sin() + 0.3 * torch.randn(count, steps, channels), labels, Task("classes", 3)


def texts(draw: random.Random, count: int) -> Drawn:
    vocabulary, steps, classes = draw.choice([60, 200]), draw.choice([16, 30]), draw.choice([2, 4])
    labels = torch.randint(0, classes, (count,))
    share = torch.ones(classes, vocabulary)
    share[:, 0] = 0
    for label in range(classes):
        share[label, 1 + label * 10 : 11 + label * 10] = draw.choice([4.0, 6.0]) * vocabulary / 60
    tokens = torch.multinomial(share[labels], steps, replacement=True)
    if draw.random() < 0.5:
        tokens[torch.arange(steps) >= torch.randint(steps // 2, steps + 1, (count, 1))] = 0
    return tokens, labels, Task("classes", classes)


def numbers(draw: random.Random, count: int) -> Drawn:
    features = draw.choice([5, 12])
    inputs = torch.randn(count, features)
    targets = inputs @ torch.randn(features) + inputs[:, 0] * inputs[:, 1] + 0.2 * torch.randn(count)
    return inputs, standard(targets), Task("numbers", 1)


def several(draw: random.Random, count: int) -> Drawn:
    outputs = draw.choice([4, 8])
    inputs = torch.randn(count, 16)
    scores = inputs @ torch.randn(16, outputs) / 4 + 0.2 * torch.randn(count, outputs)
    return inputs, (scores > 0.3).float(), Task("several", outputs)


def yes_or_no(draw: random.Random, count: int) -> Drawn:
    inputs, labels, _ = table(draw, count)
    return inputs, (labels == 0).float(), Task("binary", 1)


def masks(draw: random.Random, count: int) -> Drawn:
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    centre, radius = 3 + 10 * torch.rand(count, 2, 1, 1), 2 + 3 * torch.rand(count, 1, 1)
    inside = (columns - centre[:, 0]) ** 2 + (rows - centre[:, 1]) ** 2 < radius**2
    noisy = (inside.float() + 0.4 * torch.randn(count, 16, 16)).unsqueeze(1)
    return standard(noisy, (0, 1, 2, 3)), inside.long(), Task("pixels", 2)


def tags(draw: random.Random, count: int) -> Drawn:
    tokens = torch.randint(1, 40, (count, 14))
    before = torch.cat([tokens[:, :1], tokens[:, :-1]], 1)
    wanted = (tokens + (before > 20)) % 4
    padding = torch.arange(14) >= torch.randint(6, 15, (count, 1))
    tokens[padding], wanted[padding] = 0, -100
    return tokens, wanted, Task("tokens", 4)


def language(draw: random.Random, count: int) -> Drawn:
    chances = torch.softmax(2.5 * torch.randn(30, 30), 1)
    tokens = torch.randint(0, 30, (count, 1))
    for _ in range(16):
        tokens = torch.cat([tokens, torch.multinomial(chances[tokens[:, -1]], 1)], 1)
    return tokens[:, :-1].clone(), tokens[:, 1:].clone(), Task("tokens", 30)


def forecast(draw: random.Random, count: int) -> Drawn:
    ahead = draw.choice([1, 4])
    rate, phase = 0.2 + 0.3 * torch.rand(count, 1), 6.28 * torch.rand(count, 1)
    series = (rate * torch.arange(24.0 + ahead) + phase).sin() + 0.1 * torch.randn(count, 24 + ahead)
    return series[:, :24, None], series[:, 24:], Task("numbers", ahead)


def itself(draw: random.Random, count: int) -> Drawn:
    inputs = standard((torch.randn(count, 4) @ torch.randn(4, 20)).tanh() + 0.05 * torch.randn(count, 20))
    return inputs, inputs.clone(), Task("numbers", 20)


def counts(draw: random.Random, count: int) -> Drawn:
    inputs = torch.randn(count, 6)
    return inputs, torch.poisson((0.6 * inputs[:, 0] - 0.4 * inputs[:, 1] + 0.7).exp()), Task("counts", 1)


DATA = (
    *(table, rings, shapes, digits, waves, texts, numbers, several, yes_or_no),
    *(masks, tags, language, forecast, itself, counts),
)


def uninformed(task: Task, targets: Tensor) -> float:
    """The score, as :func:`score` counts it, of the best forecast that does not see the inputs."""
    if task.kind == "numbers":
        return -float(((targets - targets.mean(0)) ** 2).mean())
    if task.kind == "counts":
        return -float((targets - targets.median()).abs().mean())
    if task.kind in ("several", "binary"):
        share = targets.mean(0)
        return float(torch.maximum(share, 1 - share).mean())
    known = targets[targets >= 0].flatten()
    return float(torch.bincount(known).max() / len(known))


def score(task: Task, outputs: Tensor, targets: Tensor) -> Tensor:
    """Accuracy of labels; the negative squared error of numbers, the negative absolute one of counts."""
    if task.kind in ("classes", "pixels"):
        return (outputs.argmax(1) == targets).float().mean()
    if task.kind == "tokens":
        return (outputs.argmax(-1) == targets)[targets >= 0].float().mean()
    if targets.dim() == 1:
        outputs = outputs.squeeze(-1)
    if task.kind in ("several", "binary"):
        return ((outputs > 0) == (targets > 0.5)).float().mean()
    if task.kind == "counts":
        return -(outputs.exp() - targets).abs().mean()
    return -((outputs - targets) ** 2).mean()


def learned(task: Task, reached: float, known: float) -> bool:
    """Whether a score is clearly better than the one that needs no inputs."""
    if task.kind in ("numbers", "counts"):
        return reached > (0.6 if task.kind == "numbers" else 0.85) * known
    return reached > known + 0.25 * (1 - known)
