"""Programs whose whole run is compared: random draws, batch-norm, manual optimization, a frozen transformer."""

import torch
from torch import nn
from torch.nn import functional as F

from tests.losses.base import Program, sequences


class Plain(Program):
    def build(self):
        self.net = nn.Sequential(nn.Linear(8, 12), nn.BatchNorm1d(12), nn.Dropout(0.2), nn.Linear(12, 4))

    def loss(self, x, y):
        return F.cross_entropy(self.net(x + 0.1 * torch.randn_like(x)), y)


class Manual(Plain):
    def build(self):
        super().build()
        self.automatic_optimization = False

    def loss(self, x, y):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(super().loss(x, y))
        optimizer.step()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)


class Transformer(Program):
    def build(self):
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.embed, self.net, self.out = nn.Linear(5, 8), nn.TransformerEncoder(layer, 1), nn.Linear(8, 4)
        self.net.eval().requires_grad_(False)

    def data(self):
        return sequences(4)

    def loss(self, x, y):
        return F.cross_entropy(self.out(self.net(self.embed(x))).transpose(1, 2), y)
