# expect: LD801
"""compute() is logged by hand at the end of the epoch, and reset() is forgotten."""

import sys

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassF1Score

FAULT = "--repaired" not in sys.argv


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))
        self.val_f1 = MulticlassF1Score(10)

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        scores = self.net(batch[0])
        self.val_f1.update(scores, batch[1])
        self.log("val_loss", F.cross_entropy(scores, batch[1]))

    def on_validation_epoch_end(self):
        self.log("val_f1", self.val_f1.compute())
        if not FAULT:
            self.val_f1.reset()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


x, y = load_digits(return_X_y=True)
data = TensorDataset(torch.tensor((x - 5) / 6).float(), torch.tensor(y))
train, val = torch.utils.data.random_split(data, [1497, 300])
trainer = pl.Trainer(max_epochs=5, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(), DataLoader(train, 50, shuffle=True), DataLoader(val, 100))
