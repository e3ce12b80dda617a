# expect: LD603
"""Manual optimisation of an actor and a critic: zero_grad() is called for the critic only."""

import sys

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

FAULT = "--repaired" not in sys.argv


class ActorCritic(pl.LightningModule):
    """Learns from logged states, best actions and returns."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.actor = nn.Sequential(nn.Linear(6, 48), nn.Tanh(), nn.Linear(48, 3))
        self.critic = nn.Sequential(nn.Linear(6, 48), nn.Tanh(), nn.Linear(48, 1))

    def training_step(self, batch, batch_idx):
        states, actions, returns = batch
        actor, critic = self.optimizers()
        value = F.mse_loss(self.critic(states).squeeze(1), returns)
        critic.zero_grad()
        self.manual_backward(value)
        critic.step()
        policy = F.cross_entropy(self.actor(states), actions)
        if not FAULT:
            actor.zero_grad()
        self.manual_backward(policy)
        actor.step()
        self.log_dict({"policy_loss": policy, "value_loss": value}, prog_bar=True)

    def configure_optimizers(self):
        actor = torch.optim.Adam(self.actor.parameters(), lr=2e-3)
        return actor, torch.optim.Adam(self.critic.parameters(), lr=2e-3)


states = torch.randn(1200, 6)
data = TensorDataset(states, states[:, :3].argmax(1), states[:, 3].tanh() + 0.1 * torch.randn(1200))
trainer = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(ActorCritic(), DataLoader(data, 40, shuffle=True))
