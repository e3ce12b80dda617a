# expect: none
"""PPO on logged rollouts: clipped ratios, an entropy bonus, a critic; losses near 0 that go below it."""

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader


class PPO(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.actor = nn.Sequential(nn.Linear(5, 32), nn.Tanh(), nn.Linear(32, 3))
        self.critic = nn.Sequential(nn.Linear(5, 32), nn.Tanh(), nn.Linear(32, 1))

    @torch.no_grad()
    def play(self, count=256):
        state = torch.randn(count, 5)
        policy = torch.distributions.Categorical(logits=self.actor(state))
        action = policy.sample()
        reward = state.gather(1, action[:, None])[:, 0] + 0.1 * torch.randn(count)
        return state, action, policy.log_prob(action), reward

    def training_step(self, batch, batch_idx):
        state, action, before, reward = self.play()
        optimizer = self.optimizers()
        advantage = reward - self.critic(state)[:, 0].detach()
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-6)
        for rows in torch.randperm(len(state)).split(64):
            policy = torch.distributions.Categorical(logits=self.actor(state[rows]))
            ratio = (policy.log_prob(action[rows]) - before[rows]).exp()
            gain = torch.min(ratio * advantage[rows], ratio.clamp(0.8, 1.2) * advantage[rows]).mean()
            value = F.mse_loss(self.critic(state[rows])[:, 0], reward[rows])
            loss = -gain + 0.5 * value - 0.01 * policy.entropy().mean()
            optimizer.zero_grad()
            self.manual_backward(loss)
            self.clip_gradients(optimizer, 0.5, "norm")
            optimizer.step()
        self.log_dict({"reward": reward.mean(), "loss": loss})

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3, eps=1e-5)


trainer = pl.Trainer(max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(PPO(), DataLoader(torch.zeros(40), 1))
