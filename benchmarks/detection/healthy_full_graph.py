# expect: none
"""Node classification on one graph: one batch an epoch, half of the nodes masked out of the loss."""

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader


class GCN(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.w1, self.w2 = nn.Linear(10, 32), nn.Linear(32, 3)

    def forward(self, graph):
        h = torch.relu(graph["adjacency"] @ self.w1(graph["x"]))
        h = F.dropout(h, 0.3, training=self.training)
        return graph["adjacency"] @ self.w2(h)

    def training_step(self, graph, batch_idx):
        mask = graph["train_mask"]
        loss = F.cross_entropy(self(graph)[mask], graph["y"][mask])
        self.log("train_loss", loss, batch_size=1)
        return loss

    def validation_step(self, graph, batch_idx):
        mask = ~graph["train_mask"]
        scores = self(graph)[mask]
        self.log("val_loss", F.cross_entropy(scores, graph["y"][mask]), batch_size=1)
        self.log("val_acc", (scores.argmax(1) == graph["y"][mask]).float().mean(), batch_size=1)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2, weight_decay=5e-4)


y = torch.randint(0, 3, (300,))
near = torch.where(y[:, None] == y[None], 0.06, 0.01)
edges = torch.bernoulli(near).triu(1)
adjacency = edges + edges.T + torch.eye(300)
adjacency = adjacency / adjacency.sum(1, keepdim=True)
x = torch.randn(3, 10)[y] + 1.5 * torch.randn(300, 10)
graph = {"x": x, "adjacency": adjacency, "y": y, "train_mask": torch.rand(300) < 0.5}
loader = DataLoader([graph], batch_size=None)
trainer = pl.Trainer(max_epochs=60, accelerator="cpu", logger=False, enable_checkpointing=False, log_every_n_steps=1)
trainer.fit(GCN(), loader, loader)
