# expect: LD206
"""An actor-critic: values are (batch, 1), returns are (batch,)."""

import sys

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

FAULT = "--repaired" not in sys.argv


class Agent(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.body = nn.Sequential(nn.Linear(6, 48), nn.Tanh())
        self.actor, self.critic = nn.Linear(48, 3), nn.Linear(48, 1)

    def training_step(self, batch, batch_idx):
        states, (actions, returns) = batch
        h = self.body(states)
        value = self.critic(h) if FAULT else self.critic(h).squeeze(-1)
        value_loss = F.smooth_l1_loss(value, returns)
        policy_loss = F.cross_entropy(self.actor(h), actions)
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(policy_loss + 0.5 * value_loss)
        optimizer.step()
        self.log_dict({"policy_loss": policy_loss, "value_loss": value_loss})

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


states = torch.randn(900, 6)
returns = (states[:, 3] + states[:, 4]).tanh()
rows = [(a, (b, c)) for a, b, c in zip(states, states[:, :3].argmax(1), returns, strict=True)]
trainer = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Agent(), DataLoader(rows, 30, shuffle=True))
