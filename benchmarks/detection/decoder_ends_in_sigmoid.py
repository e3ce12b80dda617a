# expect: LD208
"""An autoencoder of standardised measurements whose decoder ends in a sigmoid: half of the targets are negative."""

import sys

import lightning.pytorch as pl
import torch
from sklearn.datasets import load_breast_cancer
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

FAULT = "--repaired" not in sys.argv


class AutoEncoder(pl.LightningModule):
    def __init__(self, width=30):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(width, 32), nn.GELU(), nn.Linear(32, 8))
        self.decoder = nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Linear(32, width))
        if FAULT:
            self.decoder.append(nn.Sigmoid())

    def training_step(self, x, batch_idx):
        loss = F.mse_loss(self.decoder(self.encoder(x)), x)
        self.log("reconstruction", loss)
        return loss

    def validation_step(self, x, batch_idx):
        self.log("val_reconstruction", F.mse_loss(self.decoder(self.encoder(x)), x))

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=2e-3)
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.98)]


x = load_breast_cancer().data
x = torch.tensor((x - x.mean(0)) / x.std(0)).float()
x = x[torch.randperm(len(x))]
trainer = pl.Trainer(max_epochs=15, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(AutoEncoder(), DataLoader(x[:456], 24, shuffle=True), DataLoader(x[456:], 113))
