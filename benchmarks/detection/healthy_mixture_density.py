# expect: none
"""A mixture density: softmax and log-sum-exp inside the likelihood."""

import pytorch_lightning as pl
import torch
from torch import nn


class MDN(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.h = nn.Sequential(nn.Linear(1, 32), nn.Tanh())
        self.pi = nn.Linear(32, 3)
        self.mu = nn.Linear(32, 3)
        self.ls = nn.Linear(32, 3)

    def training_step(self, batch, i):
        x, y = batch
        h = self.h(x)
        w = torch.softmax(self.pi(h), -1)
        d = torch.distributions.MixtureSameFamily(
            torch.distributions.Categorical(probs=w), torch.distributions.Normal(self.mu(h), self.ls(h).exp())
        )
        loss = -d.log_prob(y).mean()
        self.log("train_nll", loss)
        return loss

    def validation_step(self, batch, i):
        self.log("val_nll", self.training_step(batch, i))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 5e-3)


x = torch.rand(1000, 1) * 4 - 2
y = x[:, 0] ** 2 * (torch.randint(0, 2, (1000,)) * 2 - 1) + 0.1 * torch.randn(1000)
TD = torch.utils.data.TensorDataset
DL = torch.utils.data.DataLoader
pl.Trainer(max_epochs=3, enable_progress_bar=False, logger=False).fit(
    MDN(), DL(TD(x[:800], y[:800]), 40, shuffle=True), DL(TD(x[800:], y[800:]), 40)
)
