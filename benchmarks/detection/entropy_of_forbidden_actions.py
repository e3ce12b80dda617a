# expect: LD302
"""An entropy bonus over probabilities of which some are exactly 0."""

import sys

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

FAULT = "--repaired" not in sys.argv


class Policy(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 48), nn.Tanh(), nn.Linear(48, 4))

    def training_step(self, batch, batch_idx):
        state, action, allowed = batch["state"], batch["action"], batch["allowed"]
        scores = self.net(state).masked_fill(~allowed, float("-inf"))
        p = scores.softmax(-1)
        entropy = -(p * (p.log() if FAULT else p.clamp(min=1e-9).log())).sum(-1).mean()
        imitation = F.cross_entropy(scores, action)
        self.log_dict({"policy_loss": imitation, "entropy": entropy})
        return imitation - 0.01 * entropy

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


state = torch.randn(960, 8)
action = state[:, :4].argmax(1)
allowed = (torch.rand(960, 4) < 0.8) | F.one_hot(action, 4).bool()
rows = [{"state": a, "action": b, "allowed": c} for a, b, c in zip(state, action, allowed, strict=True)]
trainer = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Policy(), DataLoader(rows, 32, shuffle=True))
