"""More programs whose optimisation is right, and looks unusual."""

import torch
from torch import nn
from torch.nn import functional as F

from tests.optimizer_programs import Classifier


class WarmFromZero(Classifier):
    """The learning rate is 0 in the first steps."""

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), 1e-2)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0, min(1, (step - 5) / 10)))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Decayed(Classifier):
    def configure_optimizers(self):
        weights = [item for item in self.parameters() if item.ndim > 1]
        others = [item for item in self.parameters() if item.ndim < 2]
        return torch.optim.AdamW(
            [{"params": weights, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], lr=1e-2
        )


class Reversed(Classifier):
    """Domain confusion: one part of the loss is made large on purpose."""

    def __init__(self):
        super().__init__()
        self.domain = nn.Linear(16, 2)

    def training_step(self, batch, batch_idx):
        hidden = self.body(batch[0])
        domain = (batch[0][:, 2] > 0).long()
        return F.cross_entropy(self.head(hidden), batch[1]) - 0.1 * F.cross_entropy(self.domain(hidden), domain)


class Spare(Classifier):
    """A head that is not used yet."""

    def __init__(self):
        super().__init__()
        self.spare = nn.Linear(16, 16)


class Block(nn.Module):
    """Hands one output on to the next block, and one to the head."""

    def __init__(self):
        super().__init__()
        self.inner, self.onward, self.skip = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 16)

    def forward(self, hidden):
        gated = torch.tanh(self.inner(hidden))
        return hidden + self.onward(gated), self.skip(gated)


class Places(Classifier):
    """As nets of molecules are: edges move places, nodes make the next block's edges, and the places are asked."""

    def __init__(self):
        super().__init__()
        self.edges = nn.ModuleList(nn.Linear(16, 8) for _ in range(3))
        self.nodes = nn.ModuleList(nn.Sequential(nn.Linear(16, 8), nn.Tanh()) for _ in range(3))
        self.body, self.head = nn.Identity(), nn.Linear(8, 2)

    def scores(self, inputs):
        places = hidden = inputs
        for edge, node in zip(self.edges, self.nodes, strict=True):
            both = torch.cat([places, hidden], 1)
            places, hidden = places + torch.tanh(edge(both)), hidden + node(both)
        return self.head(places)


class Skips(Classifier):
    """The head takes the sum of the skips, so that what the last block hands on is not used."""

    def __init__(self):
        super().__init__()
        self.body = nn.ModuleList(Block() for _ in range(3))

    def scores(self, inputs):
        total = 0
        for block in self.body:
            inputs, skip = block(inputs)
            total = total + skip
        return self.head(total)
