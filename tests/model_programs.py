"""What programs for ModelInspector are made of."""

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F

COUNT = 96


class Program(pl.LightningModule):
    """A net with a step; subclasses say what it is given."""

    lr = 1e-3

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.lr)


def vectors():
    inputs = torch.randn(COUNT, 8)
    return inputs, (inputs[:, 0] > 0).long()


class Closure(Program):
    """A step of L-BFGS evaluates its closure several times, each with other weights."""

    automatic_optimization = False

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(8, 2)

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()

        def closure():
            optimizer.zero_grad()
            loss = F.cross_entropy(self.net(batch[0]), batch[1])
            self.manual_backward(loss)
            return loss

        optimizer.step(closure)

    data = staticmethod(vectors)

    def configure_optimizers(self):
        return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=4)


class TwiceABatch(Closure):
    """Two steps on each batch, as in reinforcement learning."""

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        for _ in range(2):
            optimizer.zero_grad()
            self.manual_backward(F.cross_entropy(self.net(batch[0]), batch[1]))
            optimizer.step()

    configure_optimizers = Program.configure_optimizers


class MovingAverage(Program):
    """A second net follows the first, by new memory for its weights at the start of each step."""

    lr = 0.05

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))
        self.slow = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))
        self.slow.requires_grad_(False)
        self.guess = nn.Linear(4, 4)

    def training_step(self, batch, batch_idx):
        for slow, fast in zip(self.slow.parameters(), self.net.parameters(), strict=True):
            slow.data = slow.data * 0.9 + fast.data * 0.1
        views = [batch[0], 0.8 * batch[0]]
        aims = [self.slow(view).detach() for view in views]
        guesses = [self.guess(self.net(view)) for view in views]
        return -sum(F.cosine_similarity(guess, aim).mean() for guess, aim in zip(guesses, aims[::-1], strict=True)) / 2

    data = staticmethod(vectors)


class AlongDimensions(Program):
    """Layers that mix times and layers that mix channels, one after the other: neither could do both."""

    def __init__(self):
        super().__init__()
        self.times, self.around = nn.Linear(20, 20), nn.Conv1d(4, 8, 3)
        self.ahead, self.channels = nn.Linear(18, 24), nn.Linear(8, 12)
        self.head = nn.Linear(12, 2)

    def training_step(self, batch, batch_idx):
        hidden = F.relu(self.around(self.times(batch[0])))
        hidden = F.relu(self.channels(self.ahead(hidden).transpose(1, 2)))
        return F.cross_entropy(self.head(hidden.mean(dim=1)), batch[1])

    @staticmethod
    def data():
        inputs = torch.randn(COUNT, 4, 20)
        return inputs, (inputs[:, 0].mean(dim=1) > 0).long()


class Transported(Program):
    """Noise is dealt to samples so that the ways between them are short, and the net learns the way."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(9, 32), nn.ReLU(), nn.Linear(32, 8))

    def order(self, inputs, noise):
        return noise[:, 0].argsort()[inputs[:, 0].argsort().argsort()]

    def training_step(self, batch, batch_idx):
        inputs, noise, time = batch[0], torch.randn_like(batch[0]), torch.rand(len(batch[0]), 1)
        noise = noise[self.order(inputs, noise)]
        between = torch.cat([(1 - time) * noise + time * inputs, time], dim=1)
        return F.mse_loss(self.net(between), inputs - noise)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.training_step(batch, batch_idx))

    data, val = staticmethod(vectors), True


class TransportedByNumpy(Transported):
    def order(self, inputs, noise):
        return torch.tensor(super().order(inputs, noise).tolist())
