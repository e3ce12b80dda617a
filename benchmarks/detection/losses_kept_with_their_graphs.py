# expect: LD609
"""Every loss is kept for the mean of the epoch, with its graph, and the list is never emptied."""

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
        self.net = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 4))
        self.history = {"train": []}

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self.net(x), y)
        self.history["train"].append(loss if FAULT else loss.detach())
        return loss

    def on_train_epoch_end(self):
        self.log("train_loss_epoch", torch.stack(self.history["train"]).mean().detach())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


x = torch.randn(1600, 20)
data = TensorDataset(x, x[:, :4].argmax(1))
trainer = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(), DataLoader(data, 32, shuffle=True))
