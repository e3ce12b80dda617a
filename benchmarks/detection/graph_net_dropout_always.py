# expect: LD404
"""A graph attention net calls F.dropout without training=self.training."""

import sys

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

FAULT = "--repaired" not in sys.argv


class GraphNet(pl.LightningModule):
    def __init__(self, width=24):
        super().__init__()
        self.first, self.second = nn.Linear(8, width), nn.Linear(width, width)
        self.readout = nn.Linear(width, 2)

    def drop(self, x):
        return F.dropout(x, p=0.3) if FAULT else F.dropout(x, p=0.3, training=self.training)

    def forward(self, x, adjacency):
        h = F.elu(adjacency @ self.first(self.drop(x)))
        h = F.elu(adjacency @ self.second(self.drop(h)))
        return self.readout(h.mean(1))

    def training_step(self, batch, batch_idx):
        (x, adjacency), y = batch
        loss = F.cross_entropy(self(x, adjacency), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        (x, adjacency), y = batch
        scores = self(x, adjacency)
        self.log("eval_loss", F.cross_entropy(scores, y))
        self.log("eval_acc", (scores.argmax(1) == y).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def graphs(count, nodes=10):
    edges = (torch.rand(count, nodes, nodes) < 0.3).float() + torch.eye(nodes)
    adjacency = edges / edges.sum(-1, keepdim=True)
    x = torch.randn(count, nodes, 8)
    label = ((adjacency @ x)[..., 0].mean(1) > 0).long()
    return [((a, b), c) for a, b, c in zip(x, adjacency, label, strict=True)]


trainer = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(GraphNet(), DataLoader(graphs(800), 32, shuffle=True), DataLoader(graphs(200), 40))
