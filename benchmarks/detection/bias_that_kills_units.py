# expect: LD307
"""The hidden units start with a bias far below 0, so that no input switches most of them on."""

import sys

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_wine
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

FAULT = "--repaired" not in sys.argv


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(13, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 3))
        if FAULT:
            nn.init.constant_(self.body[0].bias, -3.0)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self.body(x), y)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


x, y = load_wine(return_X_y=True)
data = TensorDataset(torch.tensor((x - x.mean(0)) / x.std(0)).float(), torch.tensor(y))
trainer = pl.Trainer(max_epochs=20, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(), DataLoader(data, 16, shuffle=True))
