# expect: none
"""MAML on sine waves: an inner step by autograd.grad, gradients of gradients, a task for a batch."""

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader


class MAML(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 1))

    def training_step(self, batch, batch_idx):
        total = 0.0
        for x, y in zip(batch["x"], batch["y"], strict=True):
            weights = dict(self.net.named_parameters())
            inner = F.mse_loss(torch.func.functional_call(self.net, weights, x[:10]), y[:10])
            slopes = torch.autograd.grad(inner, list(weights.values()), create_graph=True)
            fast = {name: w - 0.05 * s for (name, w), s in zip(weights.items(), slopes, strict=True)}
            total = total + F.mse_loss(torch.func.functional_call(self.net, fast, x[10:]), y[10:])
        loss = total / len(batch["x"])
        self.log("meta_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def task():
    x = torch.rand(20, 1) * 6 - 3
    return {"x": x, "y": (0.5 + torch.rand(1)) * torch.sin(x + 3 * torch.rand(1))}


tasks = [task() for _ in range(400)]
trainer = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(MAML(), DataLoader(tasks, 8, shuffle=True))
