# expect: LD212
"""Training takes the mean of the token losses, validation their sum."""

import sys

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

FAULT = "--repaired" not in sys.argv


class Tagger(pl.LightningModule):
    """Tags each token by whether it occurred before, with a small transformer."""

    def __init__(self, words=20, width=32):
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.place = nn.Parameter(torch.randn(1, 16, width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, 4, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.tags = nn.Linear(width, 2)

    def forward(self, tokens):
        return self.tags(self.encoder(self.embed(tokens) + self.place))

    def training_step(self, batch, batch_idx):
        tokens, tags = batch
        loss = F.cross_entropy(self(tokens).flatten(0, 1), tags.flatten())
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        tokens, tags = batch
        how = "sum" if FAULT else "mean"
        loss = F.cross_entropy(self(tokens).flatten(0, 1), tags.flatten(), reduction=how)
        self.log("valid_loss", loss)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=2e-3)


tokens = torch.randint(0, 20, (1000, 16))
same = tokens[:, :, None] == tokens[:, None, :]
tags = (same & torch.ones(16, 16).tril(-1).bool()).any(-1).long()
train, val = TensorDataset(tokens[:800], tags[:800]), TensorDataset(tokens[800:], tags[800:])
trainer = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Tagger(), DataLoader(train, 32, shuffle=True), DataLoader(val, 50))
