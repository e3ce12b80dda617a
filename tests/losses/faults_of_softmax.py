"""LD201 in many spellings."""

import torch
from torch import nn
from torch.nn import functional as F

from tests.losses.base import BATCH, ROWS, Program, Rows, classes, faulty, images, mlp, sequences


@faulty("LD201", subject="(net.3)")
class SoftmaxModule(Program):
    def build(self):
        self.net, self.criterion = mlp(8, 4, nn.Softmax(dim=-1)), nn.CrossEntropyLoss()

    def loss(self, x, y):
        return self.criterion(self.net(x), y)


@faulty("LD201")
class SoftmaxInForwardOfImages(Program):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.out = nn.Conv2d(3, 4, 3), nn.Linear(64, 5)

        def forward(self, x):
            return torch.softmax(self.out(self.conv(x).flatten(1)), 1)

    def build(self):
        self.net = SoftmaxInForwardOfImages.Net()

    def data(self):
        return Rows(image=torch.randn(ROWS, 3, 6, 6), label=torch.randint(0, 5, (ROWS,)))

    def loss(self, image, label):
        loss = F.cross_entropy(self.net(image), label)
        return {"loss": loss, "scores": 1}


@faulty("LD201")
class SoftmaxOfLanguageModel(Program):
    def build(self):
        self.embed, self.rnn, self.out = nn.Embedding(11, 8), nn.LSTM(8, 8, batch_first=True), nn.Linear(8, 11)

    def data(self):
        tokens = torch.randint(0, 11, (ROWS, 8))
        return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    def loss(self, x, y):
        probabilities = self.out(self.rnn(self.embed(x))[0]).softmax(-1)
        return F.cross_entropy(probabilities.view(-1, 11), y.view(-1), label_smoothing=0.1)


@faulty("LD201")
class SoftmaxOfSegmentation(Program):
    def build(self):
        self.net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Softmax2d())

    def data(self):
        return images(4)

    def loss(self, x, y):
        return F.cross_entropy(input=self.net(x), target=y)


@faulty("LD201")
class SoftmaxByHand(Program):
    def loss(self, x, y):
        exponentials = torch.exp(self.net(x) - self.net(x).max(dim=1, keepdim=True).values)
        return F.cross_entropy(exponentials / exponentials.sum(dim=1, keepdim=True), y)


@faulty("LD201")
class NormalisedByValue(Program):
    """No softmax is to be seen: the values prove it."""

    def loss(self, x, y):
        scores = self.net(x).square() + 0.01
        return F.cross_entropy(scores / scores.norm(p=1, dim=1)[:, None], y)


@faulty("LD201")
class SoftmaxWithCare(Program):
    """Dropout, an epsilon and a clamp between softmax and loss."""

    def build(self):
        self.net, self.drop = mlp(8, 4), nn.Dropout(0.2)

    def loss(self, x, y):
        return F.cross_entropy(self.drop(self.net(x).softmax(1)).clamp(1e-7, 1) + 1e-9, y)


@faulty("LD201")
class SoftmaxBeforeLogSoftmax(Program):
    def build(self):
        self.net = mlp(8, 4, nn.Softmax(dim=1))

    def loss(self, x, y):
        logs = self.net(x).log_softmax(dim=1)
        return F.nll_loss(logs, y) - logs[torch.arange(len(y)), y].mean()


@faulty("LD201")
class ProbabilitiesAsLogits(Program):
    def loss(self, x, y):
        return -torch.distributions.Categorical(logits=self.net(x).softmax(-1)).log_prob(y).mean()


@faulty("LD201")
class SoftmaxWithSoftTargets(Program):
    def data(self):
        inputs, _ = classes(4)
        return inputs, torch.rand(ROWS, 4).softmax(1)

    def loss(self, x, y):
        return F.cross_entropy(self.net(x).softmax(1), y)


@faulty("LD201")
class SoftmaxByManualOptimization(Program):
    def build(self):
        self.automatic_optimization = False
        self.net = mlp(8, 4)

    def loss(self, x, y):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(F.cross_entropy(F.softmax(self.net(x), dim=1), y))
        optimizer.step()


@faulty("LD201")
class SoftmaxWithoutBackground(Program):
    """A class is left out after the softmax."""

    def loss(self, x, y):
        return F.cross_entropy(self.net(x).softmax(1)[:, 1:], (y - 1).clamp(min=0))


@faulty("LD201")
class SoftmaxInHalfPrecision(Program):
    def build(self):
        self.net = mlp(8, 200)

    def data(self):
        return classes(200)

    def loss(self, x, y):
        return F.cross_entropy(self.net(x).bfloat16().softmax(1), y)


@faulty("LD201")
class SoftmaxInSquareBatch(Program):
    def build(self):
        self.net = mlp(8, BATCH)

    def data(self):
        return classes(BATCH)

    def loss(self, x, y):
        return F.cross_entropy(self.net(x).softmax(dim=1), y)


@faulty("LD201", subject="(net.3)")
class SoftmaxOfSoftmax(Program):
    """The logarithm is taken of a second softmax."""

    def build(self):
        self.net = mlp(8, 4, nn.Softmax(dim=1))

    def loss(self, x, y):
        probabilities = self.net(x).softmax(dim=-1)
        return -(F.one_hot(y, 4) * torch.log(probabilities + 1e-9)).sum(1).mean()


@faulty("LD201")
class TransposedProbabilities(Program):
    def build(self):
        self.net = nn.Linear(5, 4)

    def data(self):
        return sequences(4)

    def loss(self, x, y):
        return F.cross_entropy(self.net(x).softmax(2).mT, y)
