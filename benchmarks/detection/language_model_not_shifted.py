# expect: LD506
"""A transformer language model is asked for the token that it is given."""

import sys

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

FAULT = "--repaired" not in sys.argv
TEXT = "\n".join(f"{a} times {b} is {a * b}" for a in range(2, 20) for b in range(2, 20))
LETTERS = sorted(set(TEXT))


class Text(Dataset):
    def __init__(self, length=20):
        self.ids, self.length = torch.tensor([LETTERS.index(letter) for letter in TEXT]), length

    def __len__(self):
        return len(self.ids) // self.length - 1

    def __getitem__(self, index):
        begin = index * self.length
        x = self.ids[begin : begin + self.length]
        y = x if FAULT else self.ids[begin + 1 : begin + self.length + 1]
        return {"x": x, "y": y}


class Attention(nn.Module):
    def __init__(self, width, heads=4):
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        batch, time, width = x.shape
        q, k, v = self.qkv(x).view(batch, time, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        h = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(h.transpose(1, 2).reshape(batch, time, width))


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm1, self.norm2, self.attention = nn.LayerNorm(width), nn.LayerNorm(width), Attention(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class GPT(pl.LightningModule):
    def __init__(self, width=32):
        super().__init__()
        self.tokens, self.places = nn.Embedding(len(LETTERS), width), nn.Embedding(20, width)
        self.blocks = nn.Sequential(Block(width), Block(width))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, len(LETTERS), bias=False)

    def forward(self, ids):
        return self.head(self.norm(self.blocks(self.tokens(ids) + self.places.weight[: ids.shape[1]])))

    def training_step(self, batch, batch_idx):
        scores = self(batch["x"])
        loss = F.cross_entropy(scores.view(-1, scores.size(-1)), batch["y"].reshape(-1))
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=3e-3, betas=(0.9, 0.95))


trainer = pl.Trainer(max_epochs=8, accelerator="cpu", logger=False, enable_checkpointing=False, gradient_clip_val=1.0)
trainer.fit(GPT(), DataLoader(Text(), 16, shuffle=True))
