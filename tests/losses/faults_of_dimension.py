"""LD202 in many spellings."""

import warnings

import torch
import torchmetrics
from torch import nn
from torch.nn import functional as F

from tests.losses.base import BATCH, ROWS, Program, classes, faulty, images, mlp, sequences


@faulty("LD202", subject="(net.3)")
class SoftmaxOverBatch(Program):
    def build(self):
        self.net = mlp(8, 4, nn.Softmax(dim=0))

    def loss(self, x, y):
        return F.cross_entropy(self.net(x), y)


@faulty("LD202")
class SquareSoftmaxOverBatch(Program):
    def build(self):
        self.net = mlp(8, BATCH)

    def data(self):
        return classes(BATCH)

    def loss(self, x, y):
        return F.nll_loss(F.log_softmax(self.net(x), dim=0), y)


@faulty("LD202")
class SoftmaxOverTime(Program):
    """The reshape before the loss hides it."""

    def build(self):
        self.net = nn.Linear(5, 4)

    def data(self):
        return sequences(4)

    def loss(self, x, y):
        return F.nll_loss(self.net(x).log_softmax(1).reshape(-1, 4), y.reshape(-1))


@faulty("LD202")
class LastStepOfSoftmaxOverTime(Program):
    def build(self):
        self.net = nn.Linear(5, 4)

    def data(self):
        inputs, labels = sequences(4)
        return inputs, labels[:, -1]

    def loss(self, x, y):
        return F.cross_entropy((self.net(x) * 4).softmax(dim=1)[:, -1], y)


@faulty("LD202")
class ImplicitDimension(Program):
    """Softmax without a dimension takes the batch of three-dimensional tensors."""

    def build(self):
        self.net, self.softmax = nn.Linear(5, 4), nn.LogSoftmax()

    def data(self):
        return sequences(4)

    def loss(self, x, y):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return -self.softmax(self.net(x)).gather(2, y.unsqueeze(2)).mean()


@faulty("LD202")
class ByHandOverBatch(Program):
    def loss(self, x, y):
        exponentials = self.net(x).exp()
        probabilities = exponentials / exponentials.sum(dim=0)
        return -torch.log(probabilities[range(len(y)), y]).mean()


@faulty("LD202")
class ByHandTwiceOverBatch(Program):
    def loss(self, x, y):
        scores = self.net(x)
        scores = scores - scores.max(dim=1, keepdim=True).values
        probabilities = torch.exp(scores) / torch.exp(scores).sum(dim=0, keepdim=True)
        return -(F.one_hot(y, 4) * torch.log(probabilities + 1e-7)).sum() / len(y)


@faulty("LD202")
class OneHotProductOverBatch(Program):
    def data(self):
        inputs, labels = classes(4)
        return inputs, F.one_hot(labels, 4).float()

    def loss(self, x, y):
        return -(y * torch.log_softmax(self.net(x), 0)).sum(1).mean()


@faulty("LD202")
class NegatedProductOverBatch(Program):
    def loss(self, x, y):
        probabilities = F.softmax(self.net(x), dim=0)
        return torch.sum(-F.one_hot(y, 4) * torch.log(probabilities + 1e-9), dim=1).mean()


@faulty("LD202")
class BrierOverBatch(Program):
    def build(self):
        self.net = mlp(8, 4, nn.Softmax(0))

    def loss(self, x, y):
        return F.mse_loss(self.net(x), F.one_hot(y, 4).float())


@faulty("LD202")
class DistillationOverBatch(Program):
    def build(self):
        self.net, self.teacher = mlp(8, 4), mlp(8, 4).requires_grad_(False)

    def loss(self, x, y):
        soft = F.kl_div(self.net(x).log_softmax(0), self.teacher(x).softmax(1), reduction="batchmean")
        return F.cross_entropy(self.net(x), y) + soft


@faulty("LD202")
class SegmentationOverRows(Program):
    def build(self):
        self.net = nn.Conv2d(3, 4, 1)

    def data(self):
        return images(4)

    def loss(self, x, y):
        return F.nll_loss(self.net(x).log_softmax(dim=2), y)


@faulty("LD202")
class CtcOverBatch(Program):
    def build(self):
        self.net = nn.Linear(5, 6)

    def data(self):
        return torch.randn(ROWS, 12, 5), torch.randint(1, 6, (ROWS, 3))

    def loss(self, x, y):
        logs = self.net(x).transpose(0, 1).log_softmax(1)
        return F.ctc_loss(logs, y, torch.full((len(y),), 12), torch.full((len(y),), 3))


@faulty("LD202")
class MetricOverBatch(Program):
    """The loss is right; the metric sees a softmax over the batch."""

    def build(self):
        self.net = mlp(8, 4)
        self.accuracy = torchmetrics.Accuracy(task="multiclass", num_classes=4)

    def loss(self, x, y):
        scores = self.net(x)
        self.accuracy(F.softmax(scores, dim=0), y)
        self.log("accuracy", self.accuracy)
        return F.cross_entropy(scores, y)


@faulty("LD202")
class MetricOverBatchInValidation(Program):
    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        predicted = torch.softmax(self.net(batch[0]), 0).max(1)[1]
        self.log("val_accuracy", predicted.eq(batch[1]).float().mean())


@faulty("LD205")
class AttentionOverOneUnit(Program):
    """Scores of shape (batch, positions, 1), normalised over the last dimension."""

    def build(self):
        self.body, self.score, self.out = nn.GRU(5, 8, batch_first=True), nn.Linear(8, 1), nn.Linear(8, 4)

    def data(self):
        inputs, labels = sequences(4)
        return inputs, labels[:, 0]

    def loss(self, x, y):
        hidden = self.body(x)[0]
        weights = self.score(torch.tanh(hidden)).softmax(dim=-1)
        return F.cross_entropy(self.out((weights * hidden).sum(1)), y)


@faulty("LD205")
class AttentionOverOneUnitMultiplied(AttentionOverOneUnit):
    def loss(self, x, y):
        hidden = self.body(x)[0]
        weights = torch.softmax(self.score(hidden) / 3, 2)
        return F.cross_entropy(self.out(torch.bmm(weights.transpose(1, 2), hidden).squeeze(1)), y)
