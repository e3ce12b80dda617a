# expect: none
"""Q-learning on a line of cells: an endless data set that plays, a target network, epsilon that falls."""

import collections
import random

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset


class Replay(IterableDataset):
    def __init__(self, agent, count=640):
        self.agent, self.count, self.memory = agent, count, collections.deque(maxlen=2000)

    def play(self):
        cell = random.randrange(1, 7)
        for _ in range(12):
            state = F.one_hot(torch.tensor(cell), 8).float()
            if random.random() < 0.4:
                action = random.randrange(2)
            else:
                with torch.no_grad():
                    action = int(self.agent.q(state).argmax())
            cell = max(0, min(7, cell + (1 if action else -1)))
            after = F.one_hot(torch.tensor(cell), 8).float()
            done = cell in (0, 7)
            self.memory.append((state, action, float(cell == 7), after, float(done)))
            if done:
                return

    def __iter__(self):
        for _ in range(self.count):
            self.play()
            yield random.choice(self.memory)


class Agent(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.q = nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 2))
        self.target = nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 2)).requires_grad_(False)
        self.target.load_state_dict(self.q.state_dict())

    def training_step(self, batch, batch_idx):
        state, action, reward, after, done = batch
        if batch_idx % 10 == 0:
            self.target.load_state_dict(self.q.state_dict())
        value = self.q(state).gather(1, action[:, None]).squeeze(1)
        best = self.target(after).amax(1)
        loss = F.smooth_l1_loss(value, reward.float() + 0.9 * (1 - done.float()) * best)
        self.log("td", loss)
        return loss

    def train_dataloader(self):
        return DataLoader(Replay(self), 16)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


trainer = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Agent())
