"""Networks of :mod:`benchmarks.mixtures`, by the shape of the inputs."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.mixture_data import Task

ACTIVATIONS = (nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.ELU, nn.LeakyReLU)
LONGEST = 128


class Residual(nn.Module):
    def __init__(self, width: int, activation: type[nn.Module], norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.body = nn.Sequential(norm(width), nn.Linear(width, width), activation(), nn.Linear(width, width))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + self.body(inputs)


def perceptron(draw: random.Random, features: int, outputs: int) -> nn.Module:
    width, activation = draw.choice([32, 64, 128]), draw.choice(ACTIVATIONS)
    norm = draw.choice([None, nn.BatchNorm1d, nn.LayerNorm])
    if norm and draw.random() < 0.3:
        blocks = [Residual(width, activation, norm) for _ in range(2)]
        ends = [norm(width), activation(), nn.Linear(width, outputs)]
        return nn.Sequential(nn.Flatten(), nn.Linear(features, width), *blocks, *ends)
    layers: list[nn.Module] = []
    for index in range(draw.choice([1, 2, 3])):
        layers.append(nn.Linear(width if index else features, width))
        if norm:
            layers.append(norm(width))
        layers.append(activation())
        if draw.random() < 0.3:
            layers.append(nn.Dropout(draw.choice([0.1, 0.2, 0.3])))
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(width, outputs))


def convolutional(draw: random.Random, channels: int, outputs: int) -> nn.Module:
    width, activation = draw.choice([16, 24]), draw.choice(ACTIVATIONS)
    norm = draw.choice([nn.Identity, nn.BatchNorm2d, lambda count: nn.GroupNorm(4, count)])
    layers = [nn.Conv2d(channels, width, 3, padding=1), norm(width), activation()]
    if draw.random() < 0.5:
        layers.append(nn.MaxPool2d(2))
    else:
        layers += [nn.Conv2d(width, width, 3, 2, 1), norm(width), activation()]
    if draw.random() < 0.3:
        layers += [nn.Conv2d(width, width, 3, padding=1, groups=width), nn.Conv2d(width, 2 * width, 1)]
    else:
        layers += [nn.Conv2d(width, 2 * width, 3, padding=1)]
    layers += [norm(2 * width), activation()]
    if draw.random() < 0.5:
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(8 * width, outputs))
    head = [nn.Linear(18 * width, 64), activation(), nn.Dropout(0.2), nn.Linear(64, outputs)]
    return nn.Sequential(*layers, nn.AdaptiveMaxPool2d(3), nn.Flatten(), *head)


class Sequential(nn.Module):
    """Reads a sequence of numbers or tokens, for one output or one at each step."""

    def __init__(self, draw: random.Random, channels: int, outputs: int, *, each: bool, causal: bool, tokens: int):
        super().__init__()
        self.each, self.causal = each, causal
        self.embedding = nn.Embedding(tokens, 24, padding_idx=None if causal else 0) if tokens else None
        channels = 24 if tokens else channels
        self.kind = draw.choice(["GRU", "LSTM", "convolution", "attention"])
        self.pool = draw.choice(["last", "mean", "max"])
        width = draw.choice([24, 48])
        if self.kind in ("GRU", "LSTM"):
            both = draw.random() < 0.5 and not causal
            layers = draw.choice([1, 2])
            self.net: nn.Module = getattr(nn, self.kind)(channels, width, layers, batch_first=True, bidirectional=both)
            width *= 2 if both else 1
        elif self.kind == "convolution":
            self.net = nn.ModuleList([nn.Conv1d(channels, width, 3), nn.Conv1d(width, width, 3)])
        else:
            width = 32
            self.first = nn.Linear(channels, width)
            self.places = nn.Parameter(0.1 * torch.randn(1, LONGEST, width))
            dropout, before = draw.choice([0.0, 0.1]), draw.random() < 0.5
            layer = nn.TransformerEncoderLayer(width, 4, 64, dropout, batch_first=True, norm_first=before)
            self.net = nn.TransformerEncoder(layer, draw.choice([1, 2]), enable_nested_tensor=False)
        self.head = nn.Linear(width, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        values = inputs if self.embedding is None else self.embedding(inputs)
        if self.kind in ("GRU", "LSTM"):
            states = self.net(values)[0]
        elif self.kind == "convolution":
            states = values.transpose(1, 2)
            for layer in self.net.children():
                states = F.relu(layer(F.pad(states, (2, 0) if self.causal else (1, 1))))
            states = states.transpose(1, 2)
        else:
            steps = values.shape[1]
            hidden = self.first(values) + self.places[:, :steps]
            ahead = torch.full((steps, steps), -torch.inf, dtype=hidden.dtype, device=hidden.device).triu(1)
            states = self.net(hidden, mask=ahead if self.causal else None)
        if not self.each:
            last = self.pool == "last" and self.kind in ("GRU", "LSTM")
            states = states[:, -1] if last else states.amax(1) if self.pool == "max" else states.mean(1)
        return self.head(states)


class Hourglass(nn.Module):
    """A small U-Net."""

    def __init__(self, draw: random.Random, outputs: int) -> None:
        super().__init__()
        norm = draw.choice([nn.BatchNorm2d, nn.InstanceNorm2d, nn.Identity])

        def block(here: int, there: int) -> nn.Module:
            return nn.Sequential(nn.Conv2d(here, there, 3, padding=1), norm(there), nn.ReLU())

        self.down, self.deep, self.up = block(1, 12), block(12, 24), block(36, 12)
        self.last = nn.Conv2d(12, outputs, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        wide = self.down(inputs)
        deep = F.interpolate(self.deep(F.max_pool2d(wide, 2)), scale_factor=2)
        return self.last(self.up(torch.cat([wide, deep], 1)))


def network(draw: random.Random, inputs: Tensor, task: Task, *, causal: bool) -> nn.Module:
    """A network that suits the inputs."""
    if task.kind == "pixels":
        return Hourglass(draw, task.outputs)
    tokens = 0 if inputs.is_floating_point() else int(inputs.max()) + 1
    if tokens or (inputs.dim() == 3 and draw.random() < 0.8):
        each = task.kind == "tokens"
        return Sequential(draw, inputs.shape[-1], task.outputs, each=each, causal=causal, tokens=tokens)
    if inputs.dim() == 4 and draw.random() < 0.8:
        return convolutional(draw, inputs.shape[1], task.outputs)
    return perceptron(draw, inputs[0].numel(), task.outputs)
