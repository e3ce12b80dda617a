# expect: none
"""Documents of a query are ranked: the loss is over pairs within a list, relevance is 0, 1 or 2."""

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class Ranker(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.score = nn.Sequential(nn.Linear(12, 48), nn.ReLU(), nn.Linear(48, 1))

    def pairs(self, documents, relevance):
        scores = self.score(documents).squeeze(-1)
        difference = scores[:, :, None] - scores[:, None, :]
        better = relevance[:, :, None] > relevance[:, None, :]
        return F.softplus(-difference)[better].mean(), (difference > 0)[better].float().mean()

    def training_step(self, batch, batch_idx):
        loss, right = self.pairs(*batch)
        self.log_dict({"train/ranknet": loss, "train/pairs": right})
        return loss

    def validation_step(self, batch, batch_idx):
        loss, right = self.pairs(*batch)
        self.log_dict({"val/ranknet": loss, "val/pairs": right})

    def configure_optimizers(self):
        return torch.optim.Adagrad(self.parameters(), lr=0.02)


documents = torch.randn(500, 15, 12)
value = documents[..., 0] + documents[..., 1] * documents[..., 2] + 0.3 * torch.randn(500, 15)
relevance = (value > 0.2).long() + (value > 1.2).long()
train = TensorDataset(documents[:400], relevance[:400])
val = TensorDataset(documents[400:], relevance[400:])
trainer = pl.Trainer(max_epochs=5, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Ranker(), DataLoader(train, 20, shuffle=True), DataLoader(val, 50))
