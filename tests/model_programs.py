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
