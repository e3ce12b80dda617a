"""Softmax where it belongs: inside the net, in targets, in metrics, over pairs."""

import torch
import torchmetrics
from torch import nn
from torch.nn import functional as F

from tests.losses.base import BATCH, ROWS, Program, classes, mlp, regression, sequences


class Attention(Program):
    """Softmax over keys, written out, and pooling over time with a softmax over time."""

    def build(self):
        self.query, self.key, self.value = nn.Linear(5, 8), nn.Linear(5, 8), nn.Linear(5, 8)
        self.score, self.out = nn.Linear(8, 1), nn.Linear(8, 4)

    def data(self):
        inputs, labels = sequences(4)
        return inputs, labels[:, 0]

    def loss(self, x, y):
        weights = F.softmax(self.query(x) @ self.key(x).transpose(1, 2) / 8**0.5, dim=-1)
        hidden = torch.einsum("bqk,bkd->bqd", weights, self.value(x))
        pooling = torch.softmax(self.score(hidden), dim=1)
        return F.cross_entropy(self.out((pooling * hidden).sum(dim=1)), y)


class OneExpertForEachPosition(Program):
    """A gate of as many experts as are asked for, of which there is one; positions are averaged afterwards."""

    def build(self):
        self.gate, self.experts = nn.Linear(5, 1), nn.ModuleList([nn.Linear(5, 8)])
        self.out = nn.Linear(8, 4)

    def data(self):
        inputs, labels = sequences(4)
        return inputs, labels[:, 0]

    def loss(self, x, y):
        weights = self.gate(x).softmax(-1)
        stacked = torch.stack([expert(x) for expert in self.experts], -1)
        hidden = (weights.unsqueeze(2) * stacked).sum(-1)
        return F.cross_entropy(self.out(hidden.mean(1)), y)


class OneHeadOfAttention(OneExpertForEachPosition):
    """Scores of one head for each position, normalised over positions."""

    def loss(self, x, y):
        weights = self.gate(x).softmax(1)
        return F.cross_entropy(self.out(torch.bmm(weights.transpose(1, 2), self.experts[0](x)).squeeze(1)), y)


class AttentionReadOut(Program):
    """The pooled values are the prediction: no layer follows the softmax, and there may be one key only."""

    def build(self):
        self.score, self.value = nn.Linear(5, 1), nn.Linear(5, 1)

    def data(self):
        return torch.randn(ROWS, 1, 5), torch.randn(ROWS)

    def loss(self, x, y):
        weights = self.score(x).squeeze(-1).softmax(dim=1)
        return (((weights * self.value(x).squeeze(-1)).sum(1) - y) ** 2).mean()


class TransformerEncoder(Program):
    def build(self):
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.embed, self.net, self.out = nn.Linear(5, 8), nn.TransformerEncoder(layer, 2), nn.Linear(8, 4)

    def data(self):
        return sequences(4)

    def loss(self, x, y):
        scores = self.out(self.net(self.embed(x)))
        return F.cross_entropy(scores.view(-1, 4), y.view(-1))


class Distillation(Program):
    def build(self):
        self.net, self.teacher = mlp(8, 4), mlp(8, 4).requires_grad_(False)

    def loss(self, x, y):
        scores = self.net(x)
        with torch.no_grad():
            teacher = self.teacher(x)
        soft = F.kl_div(F.log_softmax(scores / 3, dim=1), F.softmax(teacher / 3, dim=1), reduction="batchmean") * 9
        by_hand = -(F.softmax(teacher, -1) * F.log_softmax(scores, -1)).sum(-1).mean()
        return F.cross_entropy(scores, y) + soft + by_hand + F.cross_entropy(scores, teacher.softmax(1))


class SoftLabels(Program):
    def data(self):
        inputs, _ = classes(4)
        return inputs, torch.rand(ROWS, 4).softmax(1)

    def loss(self, x, y):
        return F.cross_entropy(self.net(x), y) - (y * self.net(x).log_softmax(1)).sum(1).mean()


class MixtureDensity(Program):
    components = 3

    def build(self):
        self.net = mlp(8, 3 * self.components)

    def data(self):
        return regression(1)

    def loss(self, x, y):
        weights, mean, scale = self.net(x).chunk(3, dim=1)
        parts = torch.distributions.Normal(mean, F.softplus(scale) + 1e-3).log_prob(y)
        return -torch.logsumexp(F.log_softmax(weights, dim=1) + parts, dim=1).mean()


class MixtureOfOne(MixtureDensity):
    components = 1


class GumbelInside(Program):
    def build(self):
        self.encode, self.decode = mlp(8, 6), nn.Linear(6, 8)

    def loss(self, x, y):
        codes = F.gumbel_softmax(self.encode(x), tau=1, hard=True)
        return F.mse_loss(self.decode(codes), x)


class Clip(Program):
    """A softmax over each direction of a square similarity matrix."""

    def build(self):
        self.left, self.right = nn.Linear(8, 6), nn.Linear(8, 6)

    def data(self):
        inputs = torch.randn(ROWS, 8)
        return inputs, inputs + 0.1 * torch.randn(ROWS, 8)

    def loss(self, x, y):
        left, right = F.normalize(self.left(x), dim=1), F.normalize(self.right(y), dim=1)
        similarity = left @ right.T / 0.1
        own = torch.arange(len(x))
        self.log("hits", (similarity.softmax(0).argmax(0) == own).float().mean())
        self.log("hits_dual", ((similarity * similarity.softmax(0)).argmax(1) == own).float().mean())
        by_hand = -similarity.log_softmax(0).diagonal().mean() - similarity.log_softmax(1)[own, own].mean()
        return (F.cross_entropy(similarity, own) + F.cross_entropy(similarity.T, own)) / 2 + by_hand


class SupervisedContrastive(Program):
    def build(self):
        self.net = mlp(8, 6)

    def loss(self, x, y):
        features = F.normalize(self.net(x), dim=1)
        scores = features @ features.T / 0.5
        scores = scores - scores.max(dim=1, keepdim=True).values.detach()
        others = 1 - torch.eye(len(x))
        same = (y[:, None] == y[None, :]).float() * others
        logs = scores - torch.log((scores.exp() * others).sum(1, keepdim=True))
        return -((same * logs).sum(1) / same.sum(1).clamp(min=1)).mean()


class Prototypes(Program):
    def build(self):
        self.net, self.prototypes = mlp(8, 6), nn.Parameter(torch.randn(4, 6))

    def loss(self, x, y):
        return F.nll_loss(F.log_softmax(-torch.cdist(self.net(x), self.prototypes), dim=1), y)


class Metrics(Program):
    """Softmax for metrics only; torchmetrics; class over time."""

    def build(self):
        self.net = nn.Linear(5, 4)
        self.accuracy = torchmetrics.Accuracy(task="multiclass", num_classes=4, average="macro")

    def data(self):
        inputs, labels = sequences(4)
        return inputs, labels, torch.randint(0, 6, (ROWS, 4))

    def loss(self, x, y, when):
        scores = self.net(x)
        probabilities = scores.softmax(dim=-1)
        self.accuracy(probabilities.transpose(1, 2), y)
        self.log("accuracy", self.accuracy)
        self.log("located", (probabilities.argmax(dim=1) == when).float().mean())
        return F.cross_entropy(scores.transpose(1, 2), y)


class Pointer(Program):
    """Classes are positions: the softmax over time is the right one."""

    def build(self):
        self.net = nn.Linear(5, 1)

    def data(self):
        inputs, _ = sequences(4)
        return inputs, inputs[..., 0].argmax(1)

    def loss(self, x, y):
        logs = self.net(x).log_softmax(dim=1)
        return F.nll_loss(logs, y[:, None]) - logs.gather(1, y[:, None, None]).mean()


class SelfDistillation(Program):
    """Prototype assignments balanced over the batch, as in SwAV and DINO."""

    def build(self):
        self.net = nn.Linear(8, BATCH)

    def data(self):
        return (torch.randn(ROWS, 8),)

    def loss(self, x):
        scores = self.net(x)
        with torch.no_grad():
            codes = (scores / 0.5).exp()
            for _ in range(6):
                codes = codes / codes.sum(dim=0, keepdim=True)
                codes = codes / codes.sum(dim=1, keepdim=True)
        return -(codes * (self.net(x + 0.1) / 0.1).log_softmax(dim=1)).sum(dim=1).mean()


class Experts(Program):
    """Mixture of experts with a balance loss and a z-loss on the router."""

    def build(self):
        self.router = nn.Linear(8, 3)
        self.experts = nn.ModuleList([nn.Linear(8, 4) for _ in range(3)])

    def loss(self, x, y):
        scores = self.router(x)
        gates = scores.softmax(dim=-1)
        mixed = sum(gates[:, index, None] * expert(x) for index, expert in enumerate(self.experts))
        balance = (gates.mean(0) * F.one_hot(gates.argmax(-1), 3).float().mean(0)).sum()
        return F.cross_entropy(mixed, y) + 0.01 * balance + 0.001 * scores.logsumexp(-1).square().mean()


class Entropies(Program):
    """Entropy of attention over one key, and of predictions."""

    def build(self):
        self.net, self.score = mlp(8, 4), nn.Linear(8, 1)

    def loss(self, x, y):
        weights = self.score(x).softmax(dim=1)
        predicted = self.net(x).softmax(1)
        entropy = -(weights * weights.log()).sum(1).mean() - (predicted * predicted.log()).sum(1).mean()
        return F.cross_entropy(self.net(x), y) + 0.1 * entropy


class RelativeWeights(Program):
    """Class weights and probabilities as weights, which sum to 1, beside scores that do not."""

    def build(self):
        self.net, self.mix = mlp(8, 4), nn.Parameter(torch.full((3,), 1 / 3))

    def loss(self, x, y):
        scores = self.net(x)
        mixed = torch.stack([scores, 2 * scores, scores - 1], dim=-1) @ self.mix
        return F.cross_entropy(mixed, y) + self.mix.log_softmax(0).square().mean()
