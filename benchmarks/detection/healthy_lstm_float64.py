# expect: none
"""An LSTM in double precision."""

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn

s_ = np.sin(np.arange(1500) / 7) + 0.1 * np.random.default_rng(0).normal(size=1500)
X = np.stack([s_[i : i + 24] for i in range(1400)])[..., None]
Y = s_[24:1424]


class Forecaster(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.r = nn.LSTM(1, 24, 2, batch_first=True, dropout=0.1)
        self.o = nn.Linear(24, 1)

    def training_step(self, batch, i):
        p = self.o(self.r(batch[0])[0][:, -1]).flatten()
        loss = nn.functional.mse_loss(p, batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, i):
        p = self.o(self.r(batch[0])[0][:, -1]).flatten()
        self.log("val_loss", nn.functional.mse_loss(p, batch[1]))
        self.log("val_mae", (p - batch[1]).abs().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 5e-3)


TD = torch.utils.data.TensorDataset
DL = torch.utils.data.DataLoader
X, Y = torch.tensor(X), torch.tensor(Y)
pl.Trainer(max_epochs=3, precision="64-true", enable_progress_bar=False, logger=False, check_val_every_n_epoch=2).fit(
    Forecaster(), DL(TD(X[:1100], Y[:1100]), 50, shuffle=True), DL(TD(X[1130:], Y[1130:]), 50)
)
