# expect: LD112
"""A recurrent state is carried over batches without detach()."""

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
        self.rnn, self.out, self.state = nn.GRU(1, 24, batch_first=True), nn.Linear(24, 1), None

    def training_step(self, batch, batch_idx):
        x, y = batch
        h, state = self.rnn(x, self.state)
        self.state = state if FAULT else state.detach()
        loss = F.mse_loss(self.out(h), y)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


wave = torch.sin(torch.arange(8001) / 9) + 0.1 * torch.randn(8001)
x, y = wave[:-1].view(16, -1, 20, 1).transpose(0, 1), wave[1:].view(16, -1, 20, 1).transpose(0, 1)
data = list(zip(x, y, strict=True))
trainer = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(), DataLoader(data, batch_size=None))
