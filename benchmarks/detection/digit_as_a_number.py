# expect: LD209
"""One output and a squared error for ten digits, as if 9 were closer to 8 than to 4."""

import sys

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

FAULT = "--repaired" not in sys.argv


class Digits(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 12, 3), nn.LeakyReLU(), nn.Conv2d(12, 24, 3), nn.LeakyReLU())
        self.fc = nn.Linear(24 * 16, 1 if FAULT else 10)

    def forward(self, x):
        return self.fc(self.features(x).flatten(1))

    def training_step(self, batch, batch_idx):
        images, digits = batch
        out = self(images)
        loss = F.mse_loss(out.squeeze(1), digits.float()) if FAULT else F.cross_entropy(out, digits)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        images, digits = batch
        out = self(images)
        guess = out.squeeze(1).round() if FAULT else out.argmax(1)
        self.log("val_accuracy", (guess == digits).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


images, digits = load_digits(return_X_y=True)
data = TensorDataset(torch.tensor(images / 16).float().view(-1, 1, 8, 8) - 0.3, torch.tensor(digits))
train, val = torch.utils.data.random_split(data, [1497, 300])
trainer = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Digits(), DataLoader(train, 50, shuffle=True), DataLoader(val, 100))
