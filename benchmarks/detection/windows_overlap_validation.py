# expect: LD510
"""Windows are cut first and split at random afterwards: neighbours share all but one value."""

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
        self.net = nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 1))

    def training_step(self, batch, batch_idx):
        loss = F.mse_loss(self.net(batch[0])[:, 0], batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.mse_loss(self.net(batch[0])[:, 0], batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


t = torch.arange(1600.0)
series = torch.sin(t / 8) + 0.5 * torch.sin(t / 3.3) + 0.2 * torch.randn(1600)
windows = series.unfold(0, 31, 1)
data = TensorDataset(windows[:, :30], windows[:, 30])
if FAULT:
    train, val = torch.utils.data.random_split(data, [1270, 300])
else:
    train = torch.utils.data.Subset(data, range(1240))
    val = torch.utils.data.Subset(data, range(1270, 1570))
trainer = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(), DataLoader(train, 50, shuffle=True), DataLoader(val, 100))
