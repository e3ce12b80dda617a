# expect: none
"""An encoder and a decoder with teacher forcing, padding ignored, states of sequences reversed."""

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

PAD, BEGIN = 0, 1


class Reverser(pl.LightningModule):
    def __init__(self, words=14, width=48):
        super().__init__()
        self.embed = nn.Embedding(words, width, padding_idx=PAD)
        self.encoder, self.decoder = nn.GRU(width, width, batch_first=True), nn.GRU(width, width, batch_first=True)
        self.out = nn.Linear(width, words)

    def forward(self, source, target):
        _, state = self.encoder(self.embed(source))
        h, _ = self.decoder(self.embed(target), state)
        return self.out(h)

    def step(self, batch, stage):
        source, target = batch["source"], batch["target"]
        scores = self(source, target[:, :-1])
        loss = F.cross_entropy(scores.flatten(0, 1), target[:, 1:].flatten(), ignore_index=PAD)
        self.log(f"{stage}_loss", loss)
        return loss

    def training_step(self, batch, batch_idx):
        return self.step(batch, "train")

    def validation_step(self, batch, batch_idx):
        self.step(batch, "val")

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=4e-3)


def pair():
    length = int(torch.randint(3, 6, ()))
    words = torch.randint(2, 14, (length,))
    rest = torch.zeros(5 - length, dtype=torch.long)
    return {
        "source": torch.cat([words, rest]),
        "target": torch.cat([torch.tensor([BEGIN]), words.flip(0), rest]),
    }


rows = [pair() for _ in range(2400)]
trainer = pl.Trainer(max_epochs=5, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Reverser(), DataLoader(rows[:2000], 40, shuffle=True), DataLoader(rows[2000:], 80))
