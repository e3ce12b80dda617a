# expect: LD408
"""The optimizer is made in __init__, and then the network is made anew for the pretrained size."""

import sys

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_iris
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

FAULT = "--repaired" not in sys.argv


class Iris(pl.LightningModule):
    def __init__(self, hidden=16):
        super().__init__()
        self.build(hidden)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.05, momentum=0.9)

    def build(self, hidden):
        self.net = nn.Sequential(nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, 3))

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self.net(x), y)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return self.optimizer


model = Iris()
if FAULT:
    model.build(32)
x, y = load_iris(return_X_y=True)
data = TensorDataset(torch.tensor((x - x.mean(0)) / x.std(0)).float(), torch.tensor(y))
trainer = pl.Trainer(max_epochs=10, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(model, DataLoader(data, 15, shuffle=True))
