"""Healthy programs with odd nets, batches and tasks."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from tests.overfit_programs import Model, classify, healthy, loader, mlp, x, y


@healthy
def language_model():
    class Characters(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.rnn = nn.Embedding(20, 16), nn.GRU(16, 32, batch_first=True)
            self.head = nn.Linear(32, 20)

        def forward(self, text):
            return self.head(self.rnn(self.embed(text))[0])

    def step(self, batch):
        scores = self.net(batch[:, :-1])
        return F.cross_entropy(scores.reshape(-1, 20), batch[:, 1:].reshape(-1))

    return Model(Characters(), step), DataLoader(torch.randint(20, (1, 33)), 1)


@healthy
def long_memory():
    """A recurrent net whose loss stays where it is for very long."""

    class Recall(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.LSTM(1, 16, batch_first=True), nn.Linear(16, 1)

        def forward(self, given):
            return self.head(self.rnn(given)[0][:, -1])

    given = torch.randn(16, 60, 1)
    return Model(Recall(), lambda self, batch: F.mse_loss(self.net(batch[0]), batch[1])), loader(given, given[:, 0])


@healthy
def speech():
    def step(self, batch):
        scores = F.log_softmax(self.net(batch[0]), -1).transpose(0, 1)
        count = len(batch[0])
        return F.ctc_loss(scores, batch[1], torch.full((count,), 20), torch.full((count,), 5))

    return Model(mlp(6, 9), step), loader(x(16, 20, 6), torch.randint(1, 9, (16, 5)))


@healthy
def segmentation():
    net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 3, 1))
    masks = torch.randint(3, (8, 10, 10))
    masks[:, :3] = 255
    return Model(net, lambda self, batch: classify(self, batch, ignore_index=255)), loader(x(8, 1, 10, 10), masks)


@healthy
def frozen_backbone():
    net = nn.Sequential(mlp(6, 16).requires_grad_(False), nn.Linear(16, 3))
    return Model(net, classify), loader(x(), y())


@healthy
def batch_norm_of_two():
    net = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    return Model(net, classify), loader(x(), y(), size=2)


@healthy
def heavy_dropout():
    net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.9), nn.Linear(16, 3))
    return Model(net, classify), loader(x(), y())


@healthy
def graphs():
    def step(self, batch):
        pooled = torch.zeros(4, 6).index_add(0, batch["graph"], batch["nodes"])
        return F.cross_entropy(self.net(pooled), batch["label"])

    batch = {"nodes": x(13, 6), "graph": torch.arange(13) % 4, "label": torch.tensor([0, 1, 2, 0])}
    return Model(mlp(), step), DataLoader([batch], None)


@healthy
def several_tasks():
    net = nn.ModuleDict({"body": mlp(6, 8), "kind": nn.Linear(8, 3), "size": nn.Linear(8, 1), "flag": nn.Linear(8, 1)})

    def step(self, batch):
        code = self.net["body"](batch[0])
        total = F.cross_entropy(self.net["kind"](code), batch[1])
        total = total + 0.3 * F.smooth_l1_loss(self.net["size"](code).squeeze(1), batch[2])
        return {
            "loss": total + 1e-3 * F.binary_cross_entropy_with_logits(self.net["flag"](code)[:, 0], batch[3]),
        }

    return Model(net, step), loader(x(), y(), x(32), torch.randint(2, (32,)).float())


@healthy
def house_prices():
    prices = 3e5 + 1e5 * x(32, 1)
    return Model(mlp(6, 1), lambda self, batch: F.mse_loss(self.net(batch[0]), batch[1])), loader(x(), prices)


@healthy
def populations():
    counts = 5e8 + 1e8 * x(32, 1)
    return Model(mlp(6, 1), lambda self, batch: F.mse_loss(self.net(batch[0]), batch[1])), loader(x(), counts)


@healthy
def absolute_error_of_thousands():
    prices = 3e3 + 1e2 * x(32, 1)
    return Model(mlp(6, 1), lambda self, batch: F.l1_loss(self.net(batch[0]), batch[1])), loader(x(), prices)


@healthy
def policy_gradient():
    def step(self, batch):
        policy = torch.distributions.Categorical(logits=self.net(batch))
        action = policy.sample()
        reward = (action == 1).float()
        return -(policy.log_prob(action) * (reward - reward.mean())).mean()

    return Model(mlp(6, 2), step), loader(x())


@healthy
def second_order():
    def step(self, batch):
        return F.mse_loss(self.net(batch[0]), batch[1])

    return Model(mlp(6, 1), step, lambda given: torch.optim.LBFGS(given, lr=0.1)), loader(x(), x(32, 1))


@healthy
def twins_with_noisy_labels():
    given = x(32, 6)
    given[1::2] = given[::2]
    return Model(mlp(), classify), loader(given, y())


@healthy
def mixed_up():
    def step(self, batch):
        share, order = 0.3, torch.randperm(len(batch[0]))
        scores = self.net(share * batch[0] + (1 - share) * batch[0][order])
        return share * F.cross_entropy(scores, batch[1]) + (1 - share) * F.cross_entropy(scores, batch[1][order])

    return Model(mlp(), step), loader(x(), y())


@healthy
def zero_at_the_end():
    net = mlp()
    nn.init.zeros_(net[2].weight)
    nn.init.zeros_(net[2].bias)
    return Model(net, classify), loader(x(), y())


@healthy
def deep_tanh():
    layers = [item for _ in range(8) for item in (nn.Linear(16, 16), nn.Tanh())]
    return Model(nn.Sequential(nn.Linear(6, 16), *layers, nn.Linear(16, 3)), classify), loader(x(), y())


@healthy
def transformer():
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    net = nn.Sequential(nn.Embedding(12, 16), nn.TransformerEncoder(layer, 2), nn.Flatten(), nn.Linear(80, 3))
    return Model(net, classify), loader(torch.randint(12, (32, 5)), y())


@healthy
def one_label():
    return Model(mlp(6, 2), classify), loader(x(), torch.zeros(32, dtype=torch.long))


@healthy
def autoencoder_of_zeros_and_ones():
    def step(self, batch):
        return F.binary_cross_entropy(torch.sigmoid(self.net(batch)), batch)

    return Model(mlp(16, 16, 4), step), loader((torch.rand(32, 16) > 0.9).float())


@healthy
def only_full_batches():
    def step(self, batch):
        return F.cross_entropy(self.net(batch[0].view(8, 6)), batch[1])

    return Model(mlp(), step), loader(x(), y())


@healthy
def quantized_codes():
    net = nn.ModuleDict({"enc": mlp(6, 4), "dec": mlp(4, 6), "book": nn.Embedding(8, 4)})

    def step(self, batch):
        code = self.net["enc"](batch)
        near = self.net["book"](torch.cdist(code, self.net["book"].weight).argmin(-1))
        through = code + (near - code).detach()
        own = F.mse_loss(near, code.detach()) + 0.25 * F.mse_loss(code, near.detach())
        return F.mse_loss(self.net["dec"](through), batch) + own

    return Model(net, step), loader(x())


@healthy
def focal():
    def step(self, batch):
        paid = F.cross_entropy(self.net(batch[0]), batch[1], reduction="none")
        return ((1 - torch.exp(-paid.detach())) ** 2 * paid).mean()

    return Model(mlp(), step), loader(x(), y())


@healthy
def penalised():
    def step(self, batch):
        return classify(self, batch) + 1e-2 * sum(item.square().sum() for item in self.parameters())

    return Model(mlp(), step), loader(x(), y())


class Scaled(torch.autograd.Function):
    """Calls torch's functions in its ``forward``, where there is no gradient."""

    @staticmethod
    def forward(ctx, value):
        return value * 0.5

    @staticmethod
    def backward(ctx, gradient):
        return gradient * 0.5


@healthy
def own_function_before_the_loss():
    def step(self, batch):
        return F.cross_entropy(Scaled.apply(self.net(batch[0])), batch[1])

    return Model(mlp(), step), loader(x(), y())
