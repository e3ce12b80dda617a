"""Activations whose range suits the targets."""

import torch
from torch import nn
from torch.nn import functional as F

from tests.losses.base import ROWS, Program, classes, images, mlp, regression


class Sigmoids(Program):
    """Binary cross-entropy in its healthy forms; sigmoid gates; scaled sigmoids."""

    def build(self):
        self.net, self.gate, self.out = mlp(8, 6), nn.Linear(6, 6), nn.Linear(6, 1)

    def data(self):
        inputs, labels = classes(2)
        return inputs, labels.float().unsqueeze(1)

    def loss(self, x, y):
        hidden = self.net(x)
        score = self.out(F.silu(hidden) * torch.sigmoid(self.gate(hidden)))
        probability = torch.sigmoid(score)
        focal = (
            (1 - probability) ** 2 * y * F.logsigmoid(score) + probability**2 * (1 - y) * F.logsigmoid(-score)
        ).mean()
        scaled = F.binary_cross_entropy_with_logits(8 * torch.sigmoid(score) - 4, y)
        by_hand = -(y * torch.log(probability + 1e-7) + (1 - y) * torch.log(1 - probability + 1e-7)).mean()
        soft = F.binary_cross_entropy_with_logits(score, torch.sigmoid(y))
        return (
            F.binary_cross_entropy(probability, y)
            + F.binary_cross_entropy_with_logits(score, y)
            + F.multilabel_soft_margin_loss(score, y)
            + focal
            + scaled
            + by_hand
            + soft
        )


class ScaledSigmoidRegression(Program):
    def build(self):
        self.net = mlp(8, 1)

    def data(self):
        inputs, targets = regression(1)
        return inputs, 1 + 4 * torch.sigmoid(targets)

    def loss(self, x, y):
        return F.mse_loss(1 + 4 * torch.sigmoid(self.net(x)), y)


class RectifiedOutputs(Program):
    """ReLU outputs for targets that are never negative, and Poisson rates."""

    def build(self):
        self.net = mlp(8, 1)

    def data(self):
        inputs, targets = regression(1)
        return inputs, targets.abs()

    def loss(self, x, y):
        output = F.relu(self.net(x))
        return F.mse_loss(output, y) + F.poisson_nll_loss(output, y.round(), log_input=False)


class PooledRectifier(Program):
    """ReLU before the last pooling, as in SqueezeNet."""

    def build(self):
        self.net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def data(self):
        inputs, labels = images(4)
        return inputs, labels[:, 0, 0]

    def loss(self, x, y):
        return F.cross_entropy(self.net(x), y)


class Autoencoder(Program):
    def build(self):
        self.unit, self.signed = mlp(8, 8, nn.Sigmoid()), mlp(8, 8, nn.Tanh())

    def data(self):
        unit = torch.rand(ROWS, 8).round(decimals=1)
        return (unit,)

    def loss(self, x):
        unit, signed = self.unit(x), self.signed(x)
        return (
            F.mse_loss(unit, x)
            + F.binary_cross_entropy(unit, x)
            + F.l1_loss(signed, 2 * x - 1)
            + ((signed - (2 * x - 1)) ** 2).mean()
        )


class FewOutside(Program):
    """One target in two hundred lies outside of what tanh gives."""

    def build(self):
        self.net = mlp(8, 8, nn.Tanh())

    def data(self):
        targets = torch.rand(ROWS, 8) * 2 - 1
        targets[::16, 0] = 1.5
        return torch.randn(ROWS, 8), targets

    def loss(self, x, y):
        return F.mse_loss(self.net(x), y)


class MissingTargets(Program):
    """Targets of -1 stand for what is not known, and are masked after the loss."""

    def build(self):
        self.net, self.rectified = mlp(8, 3, nn.Sigmoid()), mlp(8, 3, nn.ReLU())  # neither gives -1

    def data(self):
        targets = torch.rand(ROWS, 3)
        targets[torch.rand(ROWS, 3) < 0.3] = -1
        return torch.randn(ROWS, 8), targets

    def loss(self, x, y):
        known = (y >= 0).float()
        first = F.mse_loss(self.net(x), y, reduction="none")
        second = (self.rectified(x) - y) ** 2
        third = F.mse_loss(self.net(x)[known.bool()], y[known.bool()])
        return ((first + second) * known).sum() / known.sum() + third


class SkipGram(Program):
    def build(self):
        self.left, self.right = nn.Embedding(20, 6), nn.Embedding(20, 6)

    def data(self):
        return torch.randint(0, 20, (ROWS,)), torch.randint(0, 20, (ROWS,)), torch.randint(0, 20, (ROWS, 5))

    def loss(self, word, near, noise):
        left = self.left(word)
        positive = F.logsigmoid((left * self.right(near)).sum(1))
        negative = F.logsigmoid(-(self.right(noise) @ left.unsqueeze(2)).squeeze(2)).sum(1)
        return -(positive + negative).mean()


class Heteroscedastic(Program):
    def build(self):
        self.net = mlp(8, 2)

    def data(self):
        return regression()

    def loss(self, x, y):
        mean, raw = self.net(x).unbind(1)
        by_hand = (0.5 * (-raw).exp() * (mean - y) ** 2 + 0.5 * raw).mean()
        return F.gaussian_nll_loss(mean, y, F.softplus(raw)) + by_hand


class HalfAtLeast(Program):
    """Similarities of at least a half, by a rectified score."""

    def build(self):
        self.net = mlp(8, 1)

    def data(self):
        return torch.randn(ROWS, 8), 0.5 + 0.5 * torch.rand(ROWS)

    def loss(self, x, y):
        return F.binary_cross_entropy(torch.sigmoid(F.relu(self.net(x).squeeze(-1))), y)
