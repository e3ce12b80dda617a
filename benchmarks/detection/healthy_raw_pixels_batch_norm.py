# expect: none
"""Raw pixels into a network that begins with a batch-norm."""

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from torch import nn

X, y = load_wine(return_X_y=True)
a, batch, c, d = train_test_split(X, y, stratify=y, random_state=1)


def mk(x, t):
    return torch.utils.data.TensorDataset(torch.from_numpy(x).float(), torch.from_numpy(t))


class M(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.f = nn.Sequential(nn.BatchNorm1d(13), nn.Linear(13, 64), nn.Tanh(), nn.Linear(64, 3))
        self.ce = nn.CrossEntropyLoss()

    def training_step(self, bt, i):
        loss = self.ce(self.f(bt[0]), bt[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, bt, i):
        o = self.f(bt[0])
        self.log_dict({"val_loss": self.ce(o, bt[1]), "val_acc": (o.argmax(1) == bt[1]).float().mean()})

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 3e-3)


pl.seed_everything(0)
pl.Trainer(max_epochs=8, enable_progress_bar=False, logger=False, log_every_n_steps=1).fit(
    M(), torch.utils.data.DataLoader(mk(a, c), 16, shuffle=True), torch.utils.data.DataLoader(mk(batch, d), 45)
)
