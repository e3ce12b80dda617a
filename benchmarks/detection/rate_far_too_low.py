# expect: LD602
"""SGD with a rate of 1e-5 on standardised data."""

import sys

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

FAULT = "--repaired" not in sys.argv


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.mlp(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        scores = self.mlp(batch[0])
        self.log("val_loss", F.cross_entropy(scores, batch[1]))
        self.log("val_acc", (scores.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-5 if FAULT else 0.1, momentum=0.9)


x, y = load_digits(return_X_y=True)
data = TensorDataset(torch.tensor((x - x.mean(0)) / (x.std(0) + 1)).float(), torch.tensor(y))
train, val = torch.utils.data.random_split(data, [1497, 300])
trainer = pl.Trainer(max_epochs=8, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(), DataLoader(train, 64, shuffle=True), DataLoader(val, 100))
