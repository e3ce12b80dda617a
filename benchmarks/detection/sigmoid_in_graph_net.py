# expect: LD203
"""Nodes of a graph by message passing; the sigmoid of the last layer meets BCEWithLogits."""

import sys

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

FAULT = "--repaired" not in sys.argv


class Conv(nn.Module):
    """Mean over the neighbours, by index_add."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.own, self.other = nn.Linear(inputs, outputs), nn.Linear(inputs, outputs, bias=False)

    def forward(self, x, edges):
        source, target = edges
        total = torch.zeros_like(x).index_add(0, target, x[source])
        degree = torch.zeros(len(x)).index_add(0, target, torch.ones(len(target))).clamp(min=1)
        return self.own(x) + self.other(total / degree[:, None])


class GraphNet(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = Conv(6, 32), Conv(32, 1)
        self.criterion = nn.BCEWithLogitsLoss()

    def forward(self, graph):
        h = torch.relu(self.conv1(graph["x"], graph["edge_index"]))
        h = self.conv2(h, graph["edge_index"]).squeeze(-1)
        return torch.sigmoid(h) if FAULT else h

    def training_step(self, graph, batch_idx):
        loss = self.criterion(self(graph), graph["y"])
        self.log("train_loss", loss, batch_size=len(graph["y"]))
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2, weight_decay=5e-4)


def graph(nodes=12):
    x = torch.randn(nodes, 6)
    edges = torch.randint(0, nodes, (2, 40))
    heard = torch.zeros(nodes).index_add(0, edges[1], x[edges[0], 0])
    return {"x": x, "edge_index": edges, "y": (heard + x[:, 1] > 0).float()}


def merge(graphs):
    """One graph of many, by moving the indices."""
    offsets = torch.tensor([0] + [len(g["x"]) for g in graphs]).cumsum(0)
    edges = [g["edge_index"] + offset for g, offset in zip(graphs, offsets, strict=False)]
    return {
        "x": torch.cat([g["x"] for g in graphs]),
        "edge_index": torch.cat(edges, 1),
        "y": torch.cat([g["y"] for g in graphs]),
    }


loader = DataLoader([graph() for _ in range(240)], 16, shuffle=True, collate_fn=merge)
pl.Trainer(max_epochs=6, accelerator="cpu", logger=False, enable_checkpointing=False).fit(GraphNet(), loader)
