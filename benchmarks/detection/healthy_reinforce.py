# expect: none
"""REINFORCE: the loss is no measure of success."""

import random

import pytorch_lightning as pl
import torch
from torch import nn


class Env:
    def __init__(self):
        self.pos = 0
        self.t = 0
        self.rng = random.Random(3)

    def reset(self):
        self.pos = self.rng.choice([-2, -1, 1, 2])
        self.t = 0
        return torch.tensor([self.pos / 2.0, 1.0])

    def step(self, a):
        self.pos += 1 if a else -1
        self.t += 1
        return torch.tensor([self.pos / 2.0, 1.0]), -abs(self.pos), self.t >= 6


class Roll(torch.utils.data.IterableDataset):
    def __init__(self, env, net):
        self.env, self.net = env, net

    def __iter__(self):
        for _ in range(20):
            states, actions, gains = [], [], []
            for _ in range(5):
                o, done, rs = self.env.reset(), False, []
                while not done:
                    with torch.no_grad():
                        a = torch.distributions.Categorical(logits=self.net(o)).sample()
                    states.append(o)
                    actions.append(a)
                    o, r, done = self.env.step(a.item())
                    rs.append(r)
                g = 0
                gs = []
                for r in reversed(rs):
                    g = r + 0.9 * g
                    gs.append(g)
                gains += gs[::-1]
            yield torch.stack(states), torch.stack(actions), torch.tensor(gains)


class PG(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 2))
        self.env = Env()

    def training_step(self, batch, i):
        o, a, g = batch
        lp = torch.log_softmax(self.net(o), -1)[torch.arange(len(a)), a]
        loss = -(lp * (g - g.mean()) / (g.std() + 1e-6)).mean()
        self.log("reward", g.mean())
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 3e-3)

    def train_dataloader(self):
        return torch.utils.data.DataLoader(Roll(self.env, self.net), batch_size=None)


pl.Trainer(max_epochs=3, enable_progress_bar=False, logger=False).fit(PG())
