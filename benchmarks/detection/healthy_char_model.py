# expect: none
"""A character model on text, whose classes are as rare as letters are."""

import argparse
import inspect

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn

text = inspect.getsource(argparse)
chars = sorted(set(text))
st = {c: i for i, c in enumerate(chars)}
ids = torch.tensor([st[c] for c in text])


class DS(torch.utils.data.Dataset):
    def __init__(self, lo, hi, T=32):
        self.r = (lo, hi)
        self.T = T

    def __len__(self) -> int:
        return (self.r[1] - self.r[0]) // self.T - 1

    def __getitem__(self, i):
        a = self.r[0] + i * self.T
        return {"input_ids": ids[a : a + self.T], "labels": ids[a + 1 : a + self.T + 1]}


class GPT(pl.LightningModule):
    def __init__(self, V, h=48):
        super().__init__()
        self.e = nn.Embedding(V, h)
        self.p = nn.Embedding(32, h)
        self.b = nn.ModuleList(
            [nn.TransformerEncoderLayer(h, 4, 96, 0.1, batch_first=True, norm_first=True) for _ in range(2)]
        )
        self.n = nn.LayerNorm(h)
        self.head = nn.Linear(h, V, bias=False)

    def forward(self, x):
        T = x.shape[1]
        h = self.e(x) + self.p(torch.arange(T))
        m = nn.Transformer.generate_square_subsequent_mask(T)
        for batch in self.b:
            h = batch(h, src_mask=m, is_causal=True)
        return self.head(self.n(h))

    def _loss(self, batch):
        lg = self(batch["input_ids"])
        return F.cross_entropy(lg.view(-1, lg.size(-1)), batch["labels"].reshape(-1))

    def training_step(self, batch, i):
        loss = self._loss(batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, i):
        loss = self._loss(batch)
        self.log("val_loss", loss)
        self.log("val_ppl", loss.exp())

    def configure_optimizers(self):
        o = torch.optim.AdamW(self.parameters(), 3e-3)
        return [o], [
            {"scheduler": torch.optim.lr_scheduler.LambdaLR(o, lambda k: min(1.0, (k + 1) / 20)), "interval": "step"}
        ]


n = len(ids)
k = int(n * 0.9)
pl.Trainer(max_epochs=2, limit_train_batches=60, enable_progress_bar=False, accumulate_grad_batches=2).fit(
    GPT(len(chars)), torch.utils.data.DataLoader(DS(0, k), 32, shuffle=True), torch.utils.data.DataLoader(DS(k, n), 32)
)
