# expect: LD601
"""SGD with momentum and a rate of 3 on a regression."""

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
        self.net = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 1))

    def training_step(self, batch, batch_idx):
        loss = F.mse_loss(self.net(batch[0])[:, 0], batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.mse_loss(self.net(batch[0])[:, 0], batch[1]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=3.0 if FAULT else 0.02, momentum=0.9)


x = torch.randn(1200, 8)
data = TensorDataset(x, x[:, 0] * x[:, 1] + 0.5 * x[:, 2] + 0.1 * torch.randn(1200))
train, val = torch.utils.data.random_split(data, [1000, 200])
trainer = pl.Trainer(max_epochs=8, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(), DataLoader(train, 50, shuffle=True), DataLoader(val, 100))
