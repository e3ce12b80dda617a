"""Shapes that broadcast on purpose, and losses of several parts."""

import warnings

import torch
from torch import nn
from torch.nn import functional as F

from tests.losses.base import ROWS, Program, classes, mlp, regression, sequences


class Pairwise(Program):
    """Losses over pairs that are formed on purpose."""

    def build(self):
        self.net = mlp(8, 1)

    def data(self):
        return regression()

    def loss(self, x, y):
        score = self.net(x).squeeze(1)
        event = (y > 0).float()
        ranking = F.softplus(-(score[:, None] - score[None, :]) * torch.sign(y[:, None] - y[None, :])).mean()
        at_risk = (y[:, None] <= y[None, :]).float()
        cox = -((score - torch.log((score.exp()[None, :] * at_risk).sum(1))) * event).mean()
        energy = (score[:, None] - y).abs().mean() - 0.5 * (score.unsqueeze(1) - score).abs().mean()
        distances = ((score.unsqueeze(1) - y.unsqueeze(0)) ** 2).min(dim=1).values.mean()
        return ranking + cox + energy + distances


class Quantiles(Program):
    """(N, Q) predictions against (N, 1) targets, and a column of predictions against a row of quantiles."""

    def build(self):
        self.net = mlp(8, 3)

    def data(self):
        return regression()

    def loss(self, x, y):
        levels = torch.tensor([0.1, 0.5, 0.9])
        error = y.unsqueeze(1) - self.net(x)
        return torch.maximum(levels * error, (levels - 1) * error).mean()


class Weighted(Program):
    """Weights and masks that broadcast along a dimension without forming pairs."""

    def build(self):
        self.net = nn.Linear(5, 3)

    def data(self):
        inputs, _ = sequences(3)
        return inputs, torch.randn(ROWS, 6, 3), (torch.rand(ROWS, 6, 1) > 0.3).float(), torch.rand(ROWS)

    def loss(self, x, y, mask, weight):
        error = (self.net(x) - y) ** 2
        masked = (error * mask).sum() / mask.sum()
        per_sample = F.mse_loss(self.net(x), y, reduction="none").mean(dim=(1, 2))
        centred = ((self.net(x) - self.net(x).mean(0, keepdim=True)) ** 2).mean()
        return masked + (per_sample * weight).mean() + 2.0 * per_sample.mean() + 0.1 * centred


class Vae(Program):
    def build(self):
        self.encode, self.decode = mlp(8, 4), mlp(2, 8, nn.Sigmoid())

    def data(self):
        return (torch.rand(ROWS, 8),)

    def loss(self, x):
        mean, log_variance = self.encode(x).chunk(2, dim=1)
        code = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        divergence = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(1).mean()
        return F.binary_cross_entropy(self.decode(code), x, reduction="sum") / len(x) + divergence


class DeepQ(Program):
    def build(self):
        self.net, self.target = mlp(8, 3), mlp(8, 3)

    def data(self):
        inputs, actions = classes(3)
        return inputs, actions, torch.randn(ROWS), torch.randn(ROWS, 8)

    def loss(self, x, action, reward, following):
        values = self.net(x).gather(1, action.unsqueeze(1)).squeeze(1)
        with torch.no_grad():
            target = reward + 0.9 * self.target(following).max(1).values
        return F.smooth_l1_loss(values, target)


class Gan(Program):
    def build(self):
        self.automatic_optimization = False
        self.generator, self.discriminator = mlp(4, 8), mlp(8, 1)

    def data(self):
        return (torch.randn(ROWS, 8),)

    def loss(self, x):
        first, second = self.optimizers()
        fake = self.generator(torch.randn(len(x), 4))
        scores = self.discriminator(torch.cat([x, fake.detach()]))
        labels = torch.cat([torch.ones(len(x), 1), torch.zeros(len(x), 1)])
        self.manual_backward(F.binary_cross_entropy_with_logits(scores, labels))
        second.step()
        second.zero_grad()
        self.manual_backward(F.mse_loss(self.discriminator(fake), torch.ones(len(x), 1)))
        first.step()
        first.zero_grad()

    def configure_optimizers(self):
        return [torch.optim.SGD(part.parameters(), lr=0.01) for part in (self.generator, self.discriminator)]


class Heads(Program):
    """Several heads, one of which has a single class; the loss is returned in a dictionary."""

    def build(self):
        self.body = mlp(8, 6)
        self.heads = nn.ModuleList([nn.Linear(6, count) for count in (3, 1, 2)])

    def data(self):
        inputs, _ = classes(3)
        return inputs, torch.stack([torch.randint(0, count, (ROWS,)) for count in (3, 1, 2)], dim=1)

    def loss(self, x, y):
        hidden = self.body(x)
        total = sum(F.cross_entropy(head(hidden), y[:, index]) for index, head in enumerate(self.heads))
        return {"loss": total, "other": total.detach()}


class LearnedWeights(Program):
    """A criterion with parameters of its own."""

    class Criterion(nn.Module):
        def __init__(self):
            super().__init__()
            self.weights = nn.Parameter(torch.zeros(2))

        def forward(self, first, second):
            return (torch.exp(-self.weights) * torch.stack([first, second])).sum() + self.weights.sum()

    def build(self):
        self.net, self.criterion = mlp(8, 4), LearnedWeights.Criterion()

    def loss(self, x, y):
        scores = self.net(x)
        return self.criterion(F.cross_entropy(scores, y), scores.square().mean())


class AnswersOffered(Program):
    """A choice among the answers of a question, of which the first questions have one."""

    def build(self):
        self.question, self.answer = nn.Linear(8, 6), nn.Linear(8, 6)
        self.asked = 0

    def loss(self, x, y):
        self.asked += 1
        offered = torch.randn(len(x), 1 + (self.asked > 1), 8)
        scores = (self.question(x)[:, None] * self.answer(offered)).sum(-1)
        chosen = torch.softmax(scores, dim=1).gather(1, (y % offered.shape[1])[:, None])
        return -chosen.clamp_min(1e-6).log().mean()


class Members(Program):
    """As many members of an ensemble as samples in a batch, all compared with the samples' targets."""

    def build(self):
        self.net, self.scale = mlp(8, self.batch_size), nn.Parameter(torch.ones(()))

    def data(self):
        return regression()

    def loss(self, x, y):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return F.mse_loss(self.net(x).T * self.scale, y)
