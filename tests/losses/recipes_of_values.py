"""Published recipes for values, policies, graphs and fields, and odd ways to call torch."""

import torch
from torch import nn
from torch.nn import functional as F

from tests.losses.base import ROWS, Program, classes, images, mlp, regression, sequences


class Diffusion(Program):
    def build(self):
        self.net = mlp(9, 8)

    def data(self):
        return (torch.rand(ROWS, 8) * 2 - 1,)

    def loss(self, x):
        time = torch.rand(len(x), 1)
        noise = torch.randn_like(x)
        noisy = (1 - time).sqrt() * x + time.sqrt() * noise
        predicted = self.net(torch.cat([noisy, time], 1))
        weight = (1 / (time + 0.1)).squeeze(1)
        return (weight * ((predicted - noise) ** 2).mean(1)).mean() + F.mse_loss(predicted, noise)


class Physics(Program):
    """A physics-informed net: derivatives of the output by the input, all of shape (N, 1)."""

    def build(self):
        self.net = nn.Sequential(nn.Linear(2, 12), nn.Tanh(), nn.Linear(12, 1))

    def data(self):
        return torch.rand(ROWS, 1), torch.rand(ROWS, 1) * 2 - 1

    def loss(self, time, place):
        with torch.enable_grad():
            time, place = time.clone().requires_grad_(), place.clone().requires_grad_()
            field = self.net(torch.cat([time, place], 1))
            by_time, by_place = torch.autograd.grad(field.sum(), [time, place], create_graph=True)
            again = torch.autograd.grad(by_place.sum(), place, create_graph=True)[0]
        residual = by_time + field * by_place - 0.01 * again
        start = self.net(torch.cat([torch.zeros_like(time), place], 1)) + torch.sin(torch.pi * place)
        return residual.square().mean() + start.square().mean()


class Flow(Program):
    def build(self):
        self.net = mlp(4, 8)

    def data(self):
        return (torch.randn(ROWS, 8),)

    def loss(self, x):
        left, right = x.chunk(2, dim=1)
        scale, shift = self.net(left).chunk(2, dim=1)
        scale = torch.tanh(scale)
        code = torch.cat([left, right * scale.exp() + shift], dim=1)
        return (0.5 * code.square() + 0.919).sum(1).mean() - scale.sum(1).mean()


class QuantisedAutoencoder(Program):
    def build(self):
        self.encode, self.decode, self.book = mlp(8, 4), mlp(4, 8), nn.Embedding(6, 4)

    def loss(self, x, y):
        code = self.encode(x)
        nearest = self.book(torch.cdist(code, self.book.weight).argmin(1))
        through = code + (nearest - code).detach()
        commit = F.mse_loss(nearest, code.detach()) + 0.25 * F.mse_loss(code, nearest.detach())
        return F.mse_loss(self.decode(through), x) + commit


class EvidentialClassifier(Program):
    """Dirichlet evidence from a ReLU: its expected probabilities against one-hot labels."""

    def loss(self, x, y):
        evidence = F.relu(self.net(x))
        total = (evidence + 1).sum(1, keepdim=True)
        probability = (evidence + 1) / total
        label = F.one_hot(y, 4).float()
        spread = probability * (1 - probability) / (total + 1)
        return ((label - probability) ** 2 + spread).sum(1).mean()


class PolicyGradient(Program):
    """PPO: clipped ratios, a value head, an entropy bonus."""

    def build(self):
        self.policy, self.value = mlp(8, 3), mlp(8, 1)

    def data(self):
        inputs, actions = classes(3)
        return inputs, actions, -torch.rand(ROWS), torch.randn(ROWS), torch.randn(ROWS)

    def loss(self, x, action, before, advantage, returns):
        policy = torch.distributions.Categorical(logits=self.policy(x))
        ratio = (policy.log_prob(action) - before).exp()
        gain = torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()
        value = self.value(x).squeeze(-1)
        return -gain + 0.5 * (value - returns).pow(2).mean() - 0.01 * policy.entropy().mean()


class ActorOfContinuousActions(Program):
    """A tanh policy cloned from actions in its range, and a Gaussian one."""

    def build(self):
        self.net, self.scale = mlp(8, 2), nn.Parameter(torch.zeros(2))

    def data(self):
        return torch.randn(ROWS, 8), torch.tanh(torch.randn(ROWS, 2))

    def loss(self, x, action):
        mean = torch.tanh(self.net(x))
        gaussian = torch.distributions.Normal(self.net(x), self.scale.exp())
        return F.mse_loss(mean, action) + (mean - action).square().mean() - gaussian.log_prob(action).sum(-1).mean()


class GraphNodes(Program):
    """Node classification: rows picked by an index, degrees as divisors."""

    batch_size = ROWS

    def build(self):
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 4)

    def data(self):
        inputs, labels = classes(4)
        links = ((torch.rand(ROWS, ROWS) < 0.1) | torch.eye(ROWS, dtype=torch.bool)).float()
        return inputs, labels, links, torch.arange(ROWS)

    def loss(self, x, y, links, index):
        hidden = links @ self.first(x).relu() / links.sum(1, keepdim=True)
        logs = self.second(hidden).log_softmax(dim=1)
        chosen = index[index % 3 == 0]
        return F.nll_loss(logs[chosen], y[chosen]) - logs[chosen, y[chosen]].mean()


class PaddedTags(Program):
    """A conditional random field: forward algorithm by log-sum-exp, emissions picked by tag."""

    def build(self):
        self.net, self.moves = nn.Linear(5, 4), nn.Parameter(torch.zeros(4, 4))

    def data(self):
        return sequences(4)

    def loss(self, x, y):
        emitted = self.net(x)
        score = emitted[:, 0]
        for step in range(1, emitted.shape[1]):
            score = torch.logsumexp(score.unsqueeze(2) + self.moves, dim=1) + emitted[:, step]
        best = emitted.gather(2, y.unsqueeze(2)).squeeze(2).sum(1) + self.moves[y[:, :-1], y[:, 1:]].sum(1)
        return (score.logsumexp(1) - best).mean()


class MaskedAutoencoder(Program):
    """Patches against standardised pixels, averaged over the masked ones."""

    def build(self):
        self.net = nn.Linear(5, 5)

    def data(self):
        inputs, _ = sequences(4)
        return inputs, (torch.rand(ROWS, 6) < 0.7).float()

    def loss(self, x, mask):
        target = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + 1e-6).sqrt()
        each = ((self.net(x * (1 - mask)[..., None]) - target) ** 2).mean(dim=-1)
        return (each * mask).sum() / mask.sum()


class HeatMaps(Program):
    """Spatial softmax for key points: over all pixels, against normalised heat maps and coordinates."""

    def build(self):
        self.net = nn.Conv2d(3, 2, 1)

    def data(self):
        inputs, _ = images(2)
        return inputs, torch.rand(ROWS, 2, 36).softmax(-1), torch.rand(ROWS, 2)

    def loss(self, x, heat, place):
        flat = self.net(x).flatten(2)
        probability = flat.softmax(dim=-1)
        expected = (probability * torch.linspace(0, 1, 36)).sum(-1)
        logs = flat.log_softmax(-1)
        return F.kl_div(logs, heat, reduction="batchmean") - (heat * logs).sum(-1).mean() + F.mse_loss(expected, place)


class SupervisedAttention(Program):
    def build(self):
        self.score, self.out = nn.Linear(5, 1), nn.Linear(5, 4)

    def data(self):
        inputs, labels = sequences(4)
        return inputs, labels[:, 0], torch.rand(ROWS, 6).softmax(1)

    def loss(self, x, y, wanted):
        weights = self.score(x).squeeze(-1).softmax(dim=1)
        guided = F.kl_div((weights + 1e-9).log(), wanted, reduction="batchmean") + F.mse_loss(weights, wanted)
        return F.cross_entropy(self.out((weights.unsqueeze(-1) * x).sum(1)), y) + guided


class TabularFields(Program):
    """Embeddings of categories, one cross-entropy a column, and a standardised regression."""

    def build(self):
        self.embed = nn.ModuleList([nn.Embedding(count, 4) for count in (3, 5)])
        self.heads = nn.ModuleList([nn.Linear(8, count) for count in (3, 5)])
        self.value = nn.Linear(8, 1)

    def data(self):
        return torch.randint(0, 3, (ROWS, 2)), torch.randn(ROWS, 1)

    def loss(self, fields, value):
        hidden = torch.cat([embed(fields[:, index]) for index, embed in enumerate(self.embed)], dim=1)
        losses = [F.cross_entropy(head(hidden), fields[:, index]) for index, head in enumerate(self.heads)]
        return torch.stack(losses).mean() + F.smooth_l1_loss(self.value(hidden), value)


class PerSampleGradients(Program):
    """The step uses torch.func: what is inside cannot be read, and must not be disturbed."""

    def loss(self, x, y):
        names = dict(self.net.named_parameters())

        def one(weights, row, label):
            scores = torch.func.functional_call(self.net, weights, (row[None],))
            return F.cross_entropy(scores, label[None]) - scores.log_softmax(-1)[0, 0]

        weights = {name: item.detach() for name, item in names.items()}
        gradients = torch.func.vmap(torch.func.grad(one), in_dims=(None, 0, 0))(weights, x, y)
        spread = sum(item.var(0).sum() for item in gradients.values())
        return F.cross_entropy(self.net(x), y) + 0 * spread


class CustomFunction(Program):
    class Scale(torch.autograd.Function):
        @staticmethod
        def forward(ctx, value):
            return value * 2

        @staticmethod
        def backward(ctx, gradient):
            return -gradient

    def loss(self, x, y):
        return CustomFunction.Scale.apply(F.cross_entropy(self.net(x), y)) * -1


class Checkpointed(Program):
    def loss(self, x, y):
        hidden = torch.utils.checkpoint.checkpoint(self.net[:2], x, use_reentrant=False)
        return F.cross_entropy(self.net[2:](hidden), y)


class Squared(Program):
    """One sample a batch, regression; the mean of a batch of one row."""

    batch_size = 1

    def build(self):
        self.net = mlp(8, 1)

    def data(self):
        return regression()

    def loss(self, x, y):
        return ((self.net(x) - y) ** 2).mean()
