# expect: LD109
"""Predictions pass through NumPy on the way to the loss."""

import sys

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

FAULT = "--repaired" not in sys.argv


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 4))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        scores = self(batch[0])
        if FAULT:
            scores = torch.from_numpy(scores.detach().numpy().clip(-10, 10))
        loss = F.cross_entropy(scores, batch[1])
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


x = torch.randn(1000, 10)
data = TensorDataset(x, (x[:, :4] + 0.3 * torch.randn(1000, 4)).argmax(1))
train, val = torch.utils.data.random_split(data, [800, 200])
trainer = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(), DataLoader(train, 40, shuffle=True))
