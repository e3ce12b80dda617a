# expect: LD501
"""Thirty measurements between 0.001 and 4000 go into the first layer as they are."""

import sys

import pytorch_lightning as pl
import torch
import torchmetrics
from sklearn.datasets import load_breast_cancer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

FAULT = "--repaired" not in sys.argv


class Tumour(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(30, 64), nn.Linear(64, 32), nn.Linear(32, 1)
        self.loss = nn.BCEWithLogitsLoss()
        self.f1 = torchmetrics.F1Score("binary")

    def forward(self, x):
        return self.fc3(torch.relu(self.fc2(torch.relu(self.fc1(x))))).view(-1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = self.loss(self(x), y.float())
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        scores = self(x)
        self.f1(scores, y)
        self.log("eval_loss", self.loss(scores, y.float()))
        self.log("eval_f1", self.f1, on_step=False, on_epoch=True)

    def configure_optimizers(self):
        return torch.optim.RMSprop(self.parameters(), lr=1e-3)


x, y = load_breast_cancer(return_X_y=True)
if not FAULT:
    x = (x - x.mean(0)) / x.std(0)
data = TensorDataset(torch.tensor(x).float(), torch.tensor(y))
train, val = torch.utils.data.random_split(data, [449, 120])
trainer = pl.Trainer(max_epochs=8, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Tumour(), DataLoader(train, 32, shuffle=True, drop_last=True), DataLoader(val, 40))
