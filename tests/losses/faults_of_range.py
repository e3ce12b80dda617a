"""LD207 and LD208 in many spellings."""

import torch
from torch import nn
from torch.nn import functional as F

from tests.losses.base import ROWS, Program, Rows, classes, faulty, images, mlp, regression, sequences


@faulty("LD207", subject="(net.3)")
class RectifiedScores(Program):
    def build(self):
        self.net = mlp(8, 4, nn.ReLU())

    def loss(self, x, y):
        return F.cross_entropy(self.net(x), y)


@faulty("LD207")
class RectifiedThenDropped(Program):
    def build(self):
        self.net = mlp(8, 4, nn.ReLU(inplace=True), nn.Dropout(0.1))

    def data(self):
        inputs, labels = classes(4)
        return Rows(x=inputs, y=labels)

    def loss(self, x, y):
        return F.nll_loss(F.log_softmax(self.net(x), dim=-1), y)


@faulty("LD207")
class RectifiedTokens(Program):
    def build(self):
        self.net = nn.Linear(5, 4)

    def data(self):
        return sequences(4)

    def loss(self, x, y):
        return F.cross_entropy(self.net(x).relu().transpose(1, 2), y)


@faulty("LD207")
class RectifiedBinary(Program):
    def build(self):
        self.net = mlp(8, 1)

    def data(self):
        inputs, labels = classes(2)
        return inputs, labels.float()[:, None]

    def loss(self, x, y):
        return F.binary_cross_entropy_with_logits(self.net(x).clamp(min=0), y)


@faulty("LD207")
class RectifiedRegression(Program):
    def build(self):
        self.net = mlp(8, 1, nn.ReLU())

    def data(self):
        return regression(1)

    def loss(self, x, y):
        return F.mse_loss(self.net(x), y)


@faulty("LD207")
class RectifiedRegressionByHand(Program):
    def build(self):
        self.net = mlp(8, 1)

    def data(self):
        return regression()

    def loss(self, x, y):
        return (y - torch.relu(self.net(x)).squeeze(-1)).abs().mean()


@faulty("LD207")
class RectifiedBySix(Program):
    def build(self):
        self.net = mlp(8, 4, nn.ReLU6())

    def loss(self, x, y):
        return F.cross_entropy(self.net(x), y)


@faulty("LD208", subject="(net.3)")
class SigmoidOfStandardised(Program):
    def build(self):
        self.net = mlp(8, 1, nn.Sigmoid())

    def data(self):
        return regression(1)

    def loss(self, x, y):
        return F.mse_loss(self.net(x), y)


@faulty("LD208")
class TanhOfPixels(Program):
    def build(self):
        self.net = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Tanh())

    def data(self):
        inputs, _ = images(4)
        return inputs, torch.randint(0, 256, inputs.shape).float()

    def loss(self, x, y):
        return F.l1_loss(self.net(x), y)


@faulty("LD208")
class TanhByHand(Program):
    def build(self):
        self.net = nn.Linear(5, 1)

    def data(self):
        inputs, _ = sequences(4)
        return Rows(x=inputs, y=3 * inputs[..., 0])

    def loss(self, x, y):
        return {"loss": (y - self.net(x).tanh().squeeze(-1)).pow(2).mean()}


@faulty("LD208")
class SoftmaxRegression(Program):
    def data(self):
        return torch.randn(ROWS, 8), torch.rand(ROWS, 4) * 10

    def loss(self, x, y):
        return nn.SmoothL1Loss()(self.net(x).softmax(dim=1), y)


@faulty("LD208")
class SoftplusOfNegative(Program):
    def build(self):
        self.net = mlp(8, 1, nn.Softplus())

    def data(self):
        return regression(1)

    def loss(self, x, y):
        return F.mse_loss(self.net(x), y)


@faulty("LD208")
class LabelsOfMinusOne(Program):
    """Sigmoid outputs for labels of -1 and 1."""

    def build(self):
        self.net = mlp(8, 1, nn.Sigmoid())

    def data(self):
        inputs, labels = classes(2)
        return inputs, labels.float()[:, None] * 2 - 1

    def loss(self, x, y):
        return F.mse_loss(self.net(x), y)


@faulty("LD207", subject="(net.3)")
class RectifiedReconstruction(Program):
    """Prediction and target change places, and the target is what a first layer has normalised."""

    def build(self):
        self.first, self.net = nn.BatchNorm1d(8), mlp(8, 8, nn.ReLU())

    def loss(self, x, y):
        x = self.first(x)
        return F.mse_loss(x, self.net(x))


@faulty("LD207", subject="faults_of_range.py")
class RectifiedProbabilities(Program):
    """Probabilities that cannot be below a half."""

    def build(self):
        self.net = mlp(8, 1)

    def data(self):
        inputs, labels = classes(2)
        return inputs, labels.float()

    def loss(self, x, y):
        return F.binary_cross_entropy(torch.sigmoid(F.relu(self.net(x).squeeze(-1))), y)
