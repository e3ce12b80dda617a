# expect: LD306
"""Ten layers of sigmoids: nothing reaches the first ones."""

import sys

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

FAULT = "--repaired" not in sys.argv


def hidden(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, outputs), nn.Sigmoid() if FAULT else nn.ReLU())


class Deep(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.stack = nn.Sequential(hidden(64, 48), *[hidden(48, 48) for _ in range(9 if FAULT else 3)])
        self.out = nn.Linear(48, 10)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self.out(self.stack(x)), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_loss", F.cross_entropy(self.out(self.stack(x)), y))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


x, y = load_digits(return_X_y=True)
data = TensorDataset(torch.tensor((x - 5) / 6).float(), torch.tensor(y))
train, val = torch.utils.data.random_split(data, [1497, 300])
trainer = pl.Trainer(max_epochs=6, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Deep(), DataLoader(train, 50, shuffle=True), DataLoader(val, 100))
