"""Programs that cannot fit two examples, each with a word that the finding holds."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from tests.overfit_programs import Model, classify, faulty, loader, mlp, x, y


@faulty("ends")
def detached_loss():
    net = nn.ModuleDict({"body": mlp(6, 8), "head": nn.Linear(8, 3)})

    def step(self, batch):
        loss = F.cross_entropy(self.net["head"](self.net["body"](batch[0])).detach(), batch[1])
        return loss + 1e-4 * sum(item.square().sum() for item in self.parameters())

    return Model(net, step), loader(x(), y())


@faulty("ends")
def without_graph():
    def step(self, batch):
        with torch.no_grad():
            scores = self.net(batch[0])
        return F.mse_loss(scores, batch[1]) + 1e-3 * self.net[0].weight.abs().sum()

    return Model(mlp(6, 1), step), loader(x(), x(32, 1))


@faulty("softmax")
def softmax_over_batch():
    return (
        Model(nn.Sequential(mlp(), nn.Softmax(0)), classify),
        loader(x(), y()),
    )


@faulty("softmax")
def softmax_twice():
    def step(self, batch):
        return F.cross_entropy(torch.softmax(self.net(batch[0]), -1), batch[1])

    return Model(mlp(6, 10), step), loader(x(), y(classes=10))


@faulty("relu")
def rectified_output():
    def step(self, batch):
        return F.mse_loss(self.net(batch[0]), batch[1])

    return Model(nn.Sequential(mlp(6, 1), nn.ReLU()), step), loader(x(), -1 - x(32, 1).abs())


@faulty("sigmoid")
def sigmoid_for_thousands():
    def step(self, batch):
        return ((torch.sigmoid(self.net(batch[0])) - batch[1]) ** 2).mean()

    return Model(mlp(6, 1), step), loader(x(), 2000 + 500 * x(32, 1))


@faulty("batch[0]")
def zero_input():
    return Model(mlp(), classify), loader(torch.zeros(32, 6), y())


@faulty("same for every sample")
def one_input():
    return Model(mlp(), classify), loader(torch.randn(1, 6).expand(32, 6), y())


@faulty("the same")
def constant_forward():
    class Lost(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(6, 16), nn.Linear(16, 3)

        def forward(self, given):
            return self.last(torch.relu(self.first(given)) * 0.0)

    return Model(Lost(), classify), loader(x(), y())


@faulty("no field")
def ignores_the_batch():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.scores = nn.Parameter(torch.zeros(3))

        def forward(self, given):
            return self.scores.expand(len(given), 3)

    return Model(Fixed(), classify), loader(x(), y())


@faulty("round")
def rounded_output():
    def step(self, batch):
        return F.mse_loss(torch.round(self.net(batch[0])), batch[1])

    return Model(mlp(6, 1), step), loader(x(), 3 * x(32, 1))


@faulty("zero or missing")
def dead_units():
    net = mlp(6, 1)
    nn.init.constant_(net[0].bias, -100.0)
    head = nn.Sequential(net, nn.ReLU())
    nn.init.constant_(net[2].bias, -5.0)
    return Model(head, lambda self, batch: F.mse_loss(self.net(batch[0]), batch[1])), loader(x(), 1 + torch.rand(32, 1))


@faulty("zero or missing")
def compared_codes():
    def step(self, batch):
        anchor, positive, negative = (torch.sign(self.net(item)) for item in batch)
        return F.triplet_margin_loss(anchor, positive, negative, margin=50.0)

    return Model(mlp(6, 8), step), loader(x(), x(), x())


@faulty("shape")
def pairs_of_all():
    def step(self, batch):
        return F.mse_loss(self.net(batch[0]), batch[1])

    return Model(mlp(6, 1), step), loader(x(), x(32))


@faulty("the same for examples")
def only_padding_is_read():
    def step(self, batch):
        return F.smooth_l1_loss(self.net(F.pad(batch[0], (0, 0, 0, 60))[:, -6:].flatten(1)), batch[1])

    return Model(mlp(36, 1), step), loader(x(32, 5, 6), x(32, 1))
