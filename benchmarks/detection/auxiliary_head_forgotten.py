# expect: LD407
"""A second head is trained by nothing: its loss is computed from the first head's output."""

import sys

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

FAULT = "--repaired" not in sys.argv


class TwoTasks(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.LayerNorm(64))
        self.heads = nn.ModuleDict({"kind": nn.Linear(64, 3), "colour": nn.Linear(64, 3)})

    def training_step(self, batch, batch_idx):
        h = self.trunk(batch["x"])
        kind = F.cross_entropy(self.heads["kind"](h), batch["kind"])
        colour = F.cross_entropy(self.heads["kind" if FAULT else "colour"](h), batch["colour"])
        self.log_dict({"train/kind": kind, "train/colour": colour})
        return kind + 0.5 * colour

    def configure_optimizers(self):
        trunk = {"params": self.trunk.parameters(), "lr": 1e-3}
        return torch.optim.AdamW([trunk, {"params": self.heads.parameters(), "lr": 3e-3, "weight_decay": 0.0}])


x = torch.randn(900, 16)
kind, colour = x[:, :3].argmax(1), x[:, 3:6].argmax(1)
rows = [{"x": a, "kind": b, "colour": c} for a, b, c in zip(x, kind, colour, strict=True)]
trainer = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(TwoTasks(), DataLoader(rows, 30, shuffle=True))
