# expect: none
"""One graph in a DataLoader of batch size 1; the indices of the split are kept by the model."""

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader


class GNN(pl.LightningModule):
    def __init__(self, split):
        super().__init__()
        self.split = split
        self.a, self.b = nn.Linear(12, 32), nn.Linear(32, 4)

    def forward(self, x, edges):
        def spread(h):
            return torch.zeros_like(h).index_add(0, edges[1], h[edges[0]]) / 8 + h

        return self.b(spread(F.relu(self.a(spread(x)))))

    def loss(self, batch, part):
        (x, edges, y), rows = batch, self.split[part]
        scores = self(x, edges)[rows]
        acc = (scores.argmax(1) == y[rows]).float().mean()
        loss = F.cross_entropy(scores, y[rows])
        self.log_dict({f"{part}_loss": loss, f"{part}_acc": acc}, batch_size=len(rows))
        return loss

    def training_step(self, batch, batch_idx):
        return self.loss(batch, "train")

    def validation_step(self, batch, batch_idx):
        self.loss(batch, "val")

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2, weight_decay=5e-4)


y = torch.randint(0, 4, (400,))
edges = torch.randint(0, 400, (2, 6000))
edges = edges[:, (y[edges[0]] == y[edges[1]]) | (torch.rand(6000) < 0.1)]
x = torch.randn(4, 12)[y] + 1.2 * torch.randn(400, 12)
order = torch.randperm(400)
loader = DataLoader([(x, edges, y)], batch_size=1, collate_fn=lambda rows: rows[0])
trainer = pl.Trainer(max_epochs=50, accelerator="cpu", logger=False, enable_checkpointing=False, log_every_n_steps=1)
trainer.fit(GNN({"train": order[:300], "val": order[300:]}), loader, loader)
