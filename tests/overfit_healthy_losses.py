"""Healthy programs whose losses are no plain distance from a target."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from tests.overfit_programs import Model, classify, healthy, loader, mlp, x, y


@healthy
def plain():
    return Model(mlp(), classify), loader(x(), y())


@healthy
def label_smoothing():
    return Model(mlp(), lambda self, batch: classify(self, batch, label_smoothing=0.1)), loader(x(), y())


@healthy
def class_weights():
    weight = torch.tensor([0.1, 5.0, 1.0])
    return Model(mlp(), lambda self, batch: classify(self, batch, weight=weight)), loader(x(), y())


@healthy
def soft_targets():
    targets = torch.softmax(torch.randn(32, 3), -1)
    return Model(mlp(), classify), loader(x(), targets)


@healthy
def distillation():
    net = nn.ModuleDict({"teacher": mlp().requires_grad_(False).eval(), "student": mlp()})

    def step(self, batch):
        wanted = torch.softmax(self.net["teacher"](batch[0]) / 4, -1)
        soft = F.kl_div(F.log_softmax(self.net["student"](batch[0]) / 4, -1), wanted, reduction="batchmean")
        return 16 * soft + 0.1 * F.cross_entropy(self.net["student"](batch[0]), batch[1])

    return Model(net, step), loader(x(), y())


@healthy
def gaussian_likelihood():
    def step(self, batch):
        mean, log_variance = self.net(batch[0]).chunk(2, -1)
        return F.gaussian_nll_loss(mean, batch[1], log_variance.exp())

    return Model(mlp(6, 2), step), loader(x(), x(32, 1))


@healthy
def gaussian_by_hand():
    def step(self, batch):
        mean, log_variance = self.net(batch[0]).chunk(2, -1)
        return (0.5 * log_variance + 0.5 * (batch[1] - mean) ** 2 / log_variance.exp()).mean()

    return Model(mlp(6, 2), step), loader(x(), x(32, 1))


@healthy
def variational_autoencoder():
    net = nn.ModuleDict({"enc": mlp(16, 8), "dec": mlp(4, 16)})

    def step(self, batch):
        mean, log_variance = self.net["enc"](batch).chunk(2, -1)
        code = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        rebuilt = F.binary_cross_entropy_with_logits(self.net["dec"](code), batch, reduction="none").sum(-1).mean()
        return rebuilt - 2.0 * (1 + log_variance - mean**2 - log_variance.exp()).sum(-1).mean()

    return Model(net, step), loader(torch.rand(32, 16))


@healthy
def contrastive():
    def step(self, batch):
        views = [F.normalize(self.net(batch + 0.1 * torch.randn_like(batch)), dim=-1) for _ in range(2)]
        return F.cross_entropy(views[0] @ views[1].T / 0.5, torch.arange(len(batch)))

    return Model(mlp(6, 8), step), loader(x())


@healthy
def contrastive_in_one_pass():
    def step(self, batch):
        codes = F.normalize(self.net(torch.cat([batch + 0.1 * torch.randn_like(batch) for _ in range(2)])), dim=-1)
        scores = (codes @ codes.T).fill_diagonal_(-1e9)
        return F.cross_entropy(scores, torch.arange(2 * len(batch)).roll(len(batch)))

    return Model(mlp(6, 8), step), loader(x())


@healthy
def triplets():
    def step(self, batch):
        anchor, positive, negative = (self.net(item) for item in batch)
        return F.triplet_margin_loss(anchor, positive, negative, margin=1.0)

    return Model(mlp(6, 8), step), loader(x(), x(), x())


@healthy
def mined_pairs():
    def step(self, batch):
        codes = self.net(batch[0])
        apart, same = torch.cdist(codes, codes), batch[1][:, None] == batch[1][None]
        return (same * apart).mean() + (~same * F.relu(1 - apart)).mean()

    return Model(mlp(6, 8), step), loader(x(), y())


@healthy
def clamped_ratings():
    """The first two are clamped to the same bound at first, and have no gradient; the others bring them back."""
    net, ratings = nn.Linear(6, 1), torch.randint(1, 6, (32,)).float()
    inputs = torch.cat([0.3 * x(32, 1), ratings[:, None] - 3 + 0.1 * x(32, 5)], 1)
    inputs[:2, 0] = torch.tensor([9.0, 8.0])
    with torch.no_grad():
        net.weight.copy_(torch.eye(6)[:1])
        net.bias.fill_(3.0)

    def step(self, batch):
        return F.mse_loss(torch.clip(self.net(batch[0]).squeeze(), 1, 5), batch[1])

    return Model(net, step), loader(inputs, ratings)
