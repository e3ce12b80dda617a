# expect: LD211
"""The loss of a sequence classifier is a sum over the batch."""

import sys

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

FAULT = "--repaired" not in sys.argv


class Brackets(Dataset):
    """Does a string of brackets open more than it closes?"""

    def __init__(self, count, length=15):
        self.tokens = torch.randint(0, 2, (count, length))
        self.label = (self.tokens.sum(1) * 2 > length).long()

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, index):
        return {"inputs": {"input_ids": self.tokens[index]}, "label": self.label[index]}


class Classifier(pl.LightningModule):
    def __init__(self, width=24):
        super().__init__()
        self.embed = nn.Embedding(2, width)
        self.position = nn.Embedding(15, width)
        layer = nn.TransformerEncoderLayer(width, 2, 48, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1)
        self.head = nn.Linear(width, 2)
        self.loss_fn = nn.CrossEntropyLoss(reduction="sum" if FAULT else "mean")

    def forward(self, input_ids):
        h = self.embed(input_ids) + self.position.weight
        return self.head(self.encoder(h).mean(1))

    def _step(self, batch, stage):
        loss = self.loss_fn(self(**batch["inputs"]), batch["label"])
        self.log(f"{stage}_loss", loss)
        return loss

    def training_step(self, batch, batch_idx):
        return self._step(batch, "train")

    def validation_step(self, batch, batch_idx):
        self._step(batch, "val")

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


trainer = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Classifier(), DataLoader(Brackets(960), 32, shuffle=True), DataLoader(Brackets(192), 32))
