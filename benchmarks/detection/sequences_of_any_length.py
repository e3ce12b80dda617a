# expect: LD114
"""The default collate function cannot stack sequences of unequal length."""

import sys

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

FAULT = "--repaired" not in sys.argv


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.LSTM(3, 24, batch_first=True), nn.Linear(24, 2)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self.out(self.rnn(x)[0].amax(1)), y)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def collate(rows):
    return nn.utils.rnn.pad_sequence([x for x, _ in rows], batch_first=True), torch.tensor([y for _, y in rows])


lengths = torch.randint(5, 15, (500,)).tolist()
rows = [(torch.randn(length, 3) + 0.7 * (index % 2), index % 2) for index, length in enumerate(lengths)]
trainer = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(), DataLoader(rows, 25, shuffle=True, collate_fn=None if FAULT else collate))
