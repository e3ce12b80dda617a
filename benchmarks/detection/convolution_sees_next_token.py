# expect: LD410
"""A convolutional language model whose kernels are padded on both sides."""

import inspect
import string
import sys

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

FAULT = "--repaired" not in sys.argv
TEXT = inspect.getsource(string)[:9000]
LETTERS = sorted(set(TEXT))


class Pieces(Dataset):
    def __init__(self, ids, length=32):
        self.rows = ids[: len(ids) // length * length].view(-1, length)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return {"input_ids": self.rows[index]}


class Causal(nn.Module):
    def __init__(self, width, dilation):
        super().__init__()
        self.pad = (dilation, dilation) if FAULT else (2 * dilation, 0)
        self.conv = nn.Conv1d(width, width, 3, dilation=dilation)

    def forward(self, x):
        return x + F.gelu(self.conv(F.pad(x, self.pad)))


class ConvLM(pl.LightningModule):
    def __init__(self, width=48):
        super().__init__()
        self.embed = nn.Embedding(len(LETTERS), width)
        self.layers = nn.Sequential(Causal(width, 1), Causal(width, 2), Causal(width, 4))
        self.head = nn.Linear(width, len(LETTERS))

    def forward(self, ids):
        return self.head(self.layers(self.embed(ids).transpose(1, 2)).transpose(1, 2))

    def training_step(self, batch, batch_idx):
        ids = batch["input_ids"]
        scores = self(ids)[:, :-1]
        loss = F.cross_entropy(scores.reshape(-1, len(LETTERS)), ids[:, 1:].reshape(-1))
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=2e-3)


ids = torch.tensor([LETTERS.index(letter) for letter in TEXT])
trainer = pl.Trainer(max_epochs=6, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(ConvLM(), DataLoader(Pieces(ids), 16, shuffle=True))
