# expect: LD117
"""binary_cross_entropy gets scores of any size."""

import sys

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

FAULT = "--repaired" not in sys.argv


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))
        self.loss = nn.BCELoss()

    def training_step(self, batch, batch_idx):
        scores = self.net(batch["x"]).squeeze(1)
        loss = self.loss(scores if FAULT else scores.sigmoid(), batch["y"])
        self.log("train_loss", loss)
        return {"loss": loss}

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


x = torch.randn(600, 10)
rows = [{"x": a, "y": b} for a, b in zip(x, (x[:, 0] > x[:, 1]).float(), strict=True)]
trainer = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(), DataLoader(rows, 30, shuffle=True))
