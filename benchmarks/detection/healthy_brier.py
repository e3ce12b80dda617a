# expect: none
"""A Brier score on probabilities, and dropout that stays on, declared so."""

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn


def brier_score(p, y):
    return ((p - F.one_hot(y, p.shape[1])) ** 2).sum(1).mean()


class N(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.n = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 3))

    def training_step(self, batch, i):
        loss = brier_score(F.softmax(self.n(batch[0]), 1), batch[1])
        self.log("train_brier", loss)
        return loss

    def validation_step(self, batch, i):
        for m in self.modules():
            if isinstance(m, nn.Dropout):
                m.train()
        p = torch.stack([F.softmax(self.n(batch[0]), 1) for _ in range(8)]).mean(0)
        self.log("val_brier", brier_score(p, batch[1]))
        self.log("val_acc", (p.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 5e-3)


x = torch.randn(900, 10)
y = x[:, :3].argmax(1)
DL = torch.utils.data.DataLoader
TD = torch.utils.data.TensorDataset
pl.Trainer(max_epochs=4, enable_progress_bar=False, logger=False).fit(
    N(), DL(TD(x[:700], y[:700]), 35, shuffle=True), DL(TD(x[700:], y[700:]), 50)
)
