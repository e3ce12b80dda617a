# expect: none
"""A discrete bottleneck by Gumbel-softmax whose temperature falls; softmax inside the net is meant."""

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader


class Discrete(pl.LightningModule):
    def __init__(self, codes=8, size=12):
        super().__init__()
        self.shape = (codes, size)
        self.encoder = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, codes * size))
        self.decoder = nn.Sequential(nn.Linear(codes * size, 96), nn.ReLU(), nn.Linear(96, 64), nn.Sigmoid())

    def forward(self, x):
        scores = self.encoder(x).view(-1, *self.shape)
        temperature = max(0.5, 0.95**self.current_epoch)
        if self.training:
            code = F.gumbel_softmax(scores, tau=temperature)
        else:
            code = F.one_hot(scores.argmax(-1), self.shape[1]).float()
        return self.decoder(code.flatten(1)), scores

    def loss(self, x):
        out, scores = self(x)
        q = scores.log_softmax(-1)
        kl = (q.exp() * (q + torch.tensor(float(self.shape[1])).log())).sum((1, 2)).mean()
        return F.binary_cross_entropy(out, x, reduction="sum") / len(x) + 0.1 * kl

    def training_step(self, x, batch_idx):
        loss = self.loss(x)
        self.log("train_elbo", loss)
        return loss

    def validation_step(self, x, batch_idx):
        self.log("val_elbo", self.loss(x))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


x = torch.tensor(load_digits().data / 16).float()
x = x[torch.randperm(len(x))]
trainer = pl.Trainer(max_epochs=5, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Discrete(), DataLoader(x[:1500], 50, shuffle=True), DataLoader(x[1500:], 99))
