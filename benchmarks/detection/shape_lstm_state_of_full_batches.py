# expect: LD103
"""An LSTM whose first state is made for batches of 32; the last one holds 20."""

import sys

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

FAULT = "--repaired" not in sys.argv
BATCH = 32


class Counter(pl.LightningModule):
    """Tells whether a walk ends above where it was in the middle."""

    def __init__(self, hidden=24):
        super().__init__()
        self.hidden = hidden
        self.lstm = nn.LSTM(1, hidden, num_layers=2, batch_first=True)
        self.out = nn.Linear(hidden, 2)

    def forward(self, x):
        size = BATCH if FAULT else x.shape[0]
        state = torch.zeros(2, size, self.hidden, device=x.device)
        output, _ = self.lstm(x, (state, torch.zeros_like(state)))
        return self.out(output[:, -1])

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=5e-3)


steps = torch.randn(660, 20, 1)
walks = steps.cumsum(1) / 4
data = TensorDataset(walks, (walks[:, -1, 0] > walks[:, 10, 0]).long())
trainer = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Counter(), DataLoader(data, BATCH, shuffle=True))
