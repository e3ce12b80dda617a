"""LD205 and LD206 in many spellings."""

import warnings

import torch
from torch import nn
from torch.nn import functional as F

from tests.losses.base import ROWS, Program, Rows, classes, faulty, images, mlp, regression, sequences


@faulty("LD205")
class SingleUnit(Program):
    def build(self):
        self.net = mlp(8, 1, nn.Softmax(dim=1))

    def data(self):
        inputs, labels = classes(2)
        return inputs, labels.float()[:, None]

    def loss(self, x, y):
        return F.binary_cross_entropy(self.net(x), y)


@faulty("LD205")
class SingleUnitRegression(Program):
    def build(self):
        self.net = mlp(8, 1)

    def data(self):
        return regression()

    def loss(self, x, y):
        return ((self.net(x).softmax(-1).squeeze(-1) - y) ** 2).mean()


@faulty("LD205")
class CrossEntropyOfOne(Program):
    def build(self):
        self.net = mlp(8, 1)

    def data(self):
        inputs, labels = classes(2)
        return Rows(x=inputs, y=labels.float()[:, None])

    def loss(self, x, y):
        return F.cross_entropy(self.net(x), y)


@faulty("LD205")
class SingleChannel(Program):
    def build(self):
        self.net = nn.Conv2d(3, 1, 1)

    def data(self):
        inputs, labels = images(2)
        return inputs, labels[:, None].float()

    def loss(self, x, y):
        return F.binary_cross_entropy_with_logits(F.softmax(self.net(x), dim=1), y)


@faulty("LD205")
class SingleUnitLogarithm(Program):
    def build(self):
        self.net = mlp(8, 1, nn.LogSoftmax(dim=1))

    def data(self):
        inputs, labels = classes(2)
        return inputs, labels.float()[:, None]

    def loss(self, x, y):
        return -(y * self.net(x)).mean()


@faulty("LD206")
class ColumnAgainstRow(Program):
    def build(self):
        self.net = mlp(8, 1)

    def data(self):
        return regression()

    def loss(self, x, y):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return F.mse_loss(self.net(x), y)


@faulty("LD206")
class RowAgainstColumnByHand(Program):
    def build(self):
        self.net = mlp(8, 1)

    def data(self):
        inputs, targets = regression(1)
        return Rows(x=inputs, y=targets)

    def loss(self, x, y):
        error = self.net(x).squeeze() - y
        return {"loss": torch.mean(torch.abs(error))}


@faulty("LD206")
class ConvertedTarget(Program):
    """The target was given its dimension on a line of its own."""

    def build(self):
        self.net = mlp(8, 1)

    def data(self):
        return regression()

    def loss(self, x, y):
        target = y.float().unsqueeze(1)
        output = self.net(x).flatten()
        return torch.sqrt(((output - target) ** 2).mean())


@faulty("LD206")
class HuberOfSequence(Program):
    def build(self):
        self.rnn, self.out = nn.GRU(5, 8, batch_first=True), nn.Linear(8, 1)

    def data(self):
        inputs, _ = sequences(4)
        return inputs, inputs[:, :, 0].mean(1)

    def loss(self, x, y):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return nn.HuberLoss()(self.out(self.rnn(x)[0][:, -1]), y)


@faulty("LD206")
class PoissonColumn(Program):
    def build(self):
        self.net = mlp(8, 1)

    def data(self):
        return torch.randn(ROWS, 8), torch.randint(0, 5, (ROWS,)).float()

    def loss(self, x, y):
        return F.poisson_nll_loss(self.net(x), y)


@faulty("LD206")
class BellmanTarget(Program):
    """The pairs are formed in the target: a reward (N,) and a value (N, 1)."""

    def build(self):
        self.net, self.target = mlp(8, 1), mlp(8, 1).requires_grad_(False)

    def data(self):
        inputs, rewards = regression()
        return inputs, rewards, torch.randn(ROWS, 8)

    def loss(self, x, reward, following):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return F.mse_loss(self.net(x), reward + 0.9 * self.target(following))


@faulty("LD206")
class WeightsOfSamples(Program):
    def build(self):
        self.net = mlp(8, 1)

    def data(self):
        inputs, targets = regression(1)
        return inputs, targets, torch.rand(ROWS)

    def loss(self, x, y, weight):
        return ((self.net(x) - y) ** 2 * weight).mean()


@faulty("LD206")
class ChosenByLabels(Program):
    def build(self):
        self.net = mlp(8, 1)

    def data(self):
        inputs, labels = classes(2)
        return inputs, labels

    def loss(self, x, y):
        chances = self.net(x).sigmoid()
        return torch.where(y == 1, 1 - chances, chances).mean()


@faulty("LD206")
class BiasColumn(Program):
    """The pairs are formed in the prediction: a dot product (N,) and a bias (N, 1)."""

    def build(self):
        self.one, self.other, self.bias = nn.Linear(8, 4), nn.Linear(8, 4), nn.Linear(8, 1)

    def data(self):
        return regression()

    def loss(self, x, y):
        rating = (self.one(x) * self.other(x)).sum(dim=1) + self.bias(x)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return F.mse_loss(rating, y)
