"""LD203 and LD204 in many spellings."""

import torch
from torch import nn
from torch.nn import functional as F

from tests.losses.base import ROWS, Program, Rows, classes, faulty, images, mlp, sequences


@faulty("LD203", subject="(net.3)")
class SigmoidModule(Program):
    def build(self):
        self.net, self.criterion = mlp(8, 3, nn.Sigmoid()), nn.BCEWithLogitsLoss()

    def data(self):
        return torch.randn(ROWS, 8), (torch.rand(ROWS, 3) > 0.5).float()

    def loss(self, x, y):
        return self.criterion(self.net(x), y)


@faulty("LD203")
class SigmoidSqueezed(Program):
    def build(self):
        self.net = mlp(8, 1)

    def data(self):
        inputs, labels = classes(2)
        return Rows(x=inputs, y=labels)

    def loss(self, x, y):
        score = torch.sigmoid(self.net(x)).squeeze(1)
        return {"loss": F.binary_cross_entropy_with_logits(score, y.float())}


@faulty("LD203")
class SigmoidByHand(Program):
    def build(self):
        self.net = nn.Conv2d(3, 1, 1)

    def data(self):
        inputs, labels = images(2)
        return inputs, labels[:, None].float()

    def loss(self, x, y):
        return F.binary_cross_entropy_with_logits(1 / (1 + torch.exp(-self.net(x))), y)


@faulty("LD203")
class SigmoidBeforeCrossEntropy(Program):
    def loss(self, x, y):
        return F.cross_entropy(self.net(x).sigmoid(), y)


@faulty("LD203")
class SigmoidTwice(Program):
    def build(self):
        self.net = mlp(8, 1, nn.Sigmoid())

    def data(self):
        inputs, labels = classes(2)
        return inputs, labels.float()[:, None]

    def loss(self, x, y):
        return F.binary_cross_entropy(torch.sigmoid(self.net(x)), y)


@faulty("LD203", subject="(net.3)")
class SigmoidTwiceByHand(Program):
    def build(self):
        self.net = mlp(8, 1, nn.Sigmoid())

    def data(self):
        inputs, labels = classes(2)
        return inputs, labels.float()[:, None]

    def loss(self, x, y):
        probability = self.net(x).sigmoid()
        return -(y * torch.log(probability + 1e-8) + (1 - y) * torch.log(1 - probability + 1e-8)).mean()


@faulty("LD203")
class SoftmaxBeforeBinary(Program):
    def data(self):
        return torch.randn(ROWS, 8), (torch.rand(ROWS, 4) > 0.5).float()

    def loss(self, x, y):
        return F.binary_cross_entropy_with_logits(self.net(x).softmax(1), y)


@faulty("LD203")
class SigmoidInBranchOfManual(Program):
    def build(self):
        self.automatic_optimization = False
        self.net = mlp(8, 1, nn.Sigmoid())

    def data(self):
        return (torch.randn(ROWS, 8),)

    def loss(self, x):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        score = self.net(x)
        self.manual_backward(F.binary_cross_entropy_with_logits(score, torch.ones_like(score)))
        optimizer.step()


@faulty("LD203")
class LogSigmoidOfSigmoid(Program):
    def build(self):
        self.net = mlp(8, 1, nn.Sigmoid())

    def data(self):
        inputs, labels = classes(2)
        return inputs, labels.float()[:, None]

    def loss(self, x, y):
        score = self.net(x)
        return -(y * F.logsigmoid(score) + (1 - y) * F.logsigmoid(-score)).mean()


@faulty("LD204")
class RawScores(Program):
    def loss(self, x, y):
        return F.nll_loss(self.net(x), y)


@faulty("LD204")
class Probabilities(Program):
    def build(self):
        self.net, self.criterion = mlp(8, 4, nn.Softmax(dim=1)), nn.NLLLoss()

    def loss(self, x, y):
        return {"loss": self.criterion(self.net(x), y)}


@faulty("LD204")
class RawScoresOfSegmentation(Program):
    def build(self):
        self.net = nn.Conv2d(3, 4, 1)

    def data(self):
        return images(4)

    def loss(self, x, y):
        return nn.functional.nll_loss(self.net(x), y)


@faulty("LD204")
class RawScoresOfSequence(Program):
    def build(self):
        self.net = nn.Linear(5, 4)

    def data(self):
        inputs, labels = sequences(4)
        return Rows(x=inputs, y=labels)

    def loss(self, x, y):
        return F.nll_loss(self.net(x).transpose(1, 2), y)


@faulty("LD204")
class ProbabilitiesFromLogSoftmax(Program):
    def loss(self, x, y):
        return F.nll_loss(self.net(x).log_softmax(1).exp(), y)


@faulty("LD204")
class SmallRawScores(Program):
    """Nothing is positive, and the exponentials sum to far more than 1."""

    def build(self):
        self.net = nn.Linear(8, 6)
        nn.init.zeros_(self.net.weight)
        nn.init.constant_(self.net.bias, -0.2)

    def data(self):
        return classes(6)

    def loss(self, x, y):
        return F.nll_loss(self.net(x), y)


@faulty("LD204")
class RawScoresOfCharacters(Program):
    def build(self):
        self.net = nn.Linear(5, 4)

    def data(self):
        return torch.randn(ROWS, 12, 5), torch.randint(1, 4, (ROWS, 3))

    def loss(self, x, y):
        scores = self.net(x).transpose(0, 1)
        return F.ctc_loss(scores, y, torch.full((len(x),), 12), torch.full((len(x),), 3))


@faulty("LD204")
class BlankAmongCharacters(RawScoresOfCharacters):
    def data(self):
        return torch.randn(ROWS, 12, 5), torch.randint(0, 4, (ROWS, 3))

    def loss(self, x, y):
        logs = self.net(x).log_softmax(2).transpose(0, 1)
        return nn.CTCLoss()(logs, y, torch.full((len(x),), 12), torch.full((len(x),), 3))
