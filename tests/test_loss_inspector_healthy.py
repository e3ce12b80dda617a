"""What LossInspector must be silent on: healthy programs that look like one of its faults."""

import inspect
import sys

import pytest
import torch
import torchmetrics
from torch import nn
from torch.nn import functional as F

from tests.helpers import alarms
from tests.inspector_programs import (
    BATCH,
    QUICK,
    ROWS,
    Program,
    Rows,
    classes,
    images,
    inspected,
    mlp,
    regression,
    sequences,
)


class Plain(Program):
    def loss(self, x, y):
        return F.cross_entropy(self.net(x), y)


class LogSoftmaxModule(Program):
    def build(self):
        self.net, self.criterion = mlp(8, 4, nn.LogSoftmax(dim=1)), nn.NLLLoss()

    def loss(self, x, y):
        return self.criterion(self.net(x), y)


class LogSoftmaxTwice(Program):
    """Log-softmax before cross-entropy changes nothing."""

    def loss(self, x, y):
        return F.cross_entropy(self.net(x).log_softmax(-1), y)


class LogOfSoftmax(Program):
    def loss(self, x, y):
        return F.nll_loss(torch.log(F.softmax(self.net(x), dim=-1) + 1e-8), y)


class LogOfMixture(Program):
    def build(self):
        self.net, self.other = mlp(8, 4), mlp(8, 4)

    def loss(self, x, y):
        mixed = 0.7 * self.net(x).softmax(1) + 0.3 * self.other(x).softmax(1)
        return F.nll_loss(mixed.clamp_min(1e-7).log(), y)


class LogitsOfMixtureToCrossEntropy(Program):
    def loss(self, x, y):
        return F.cross_entropy(torch.log(self.net(x).softmax(1) * 0.9 + 0.025), y)


class Segmentation(Program):
    def build(self):
        self.net = nn.Conv2d(3, 4, 3, padding=1)

    def data(self):
        return images(4)

    def loss(self, x, y):
        scores = self.net(x)
        probabilities = scores.softmax(dim=1)
        one_hot = F.one_hot(y, 4).permute(0, 3, 1, 2)
        overlap = (probabilities * one_hot).sum(dim=(2, 3))
        dice = 1 - (2 * overlap / (probabilities.sum((2, 3)) + one_hot.sum((2, 3)) + 1)).mean()
        self.log("train_accuracy", (probabilities.argmax(dim=1) == y).float().mean())
        return F.nll_loss(F.log_softmax(scores, dim=1), y) + dice


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


class Options(Program):
    """Temperature, label smoothing, class weights, ignore_index."""

    def loss(self, x, y):
        ignoring = torch.where(y == 0, -100, y)
        return (
            F.cross_entropy(self.net(x) / 0.07, y, label_smoothing=0.1)
            + F.cross_entropy(self.net(x), y, weight=torch.ones(4))
            + F.cross_entropy(self.net(x), ignoring, ignore_index=-100)
        )


class OneHotInputs(Program):
    def build(self):
        self.net = nn.Linear(4, 4)

    def data(self):
        _, labels = classes(4)
        return F.one_hot(labels, 4).float(), labels

    def loss(self, x, y):
        return F.cross_entropy(self.net(x), y)


class SquareBatch(Program):
    """As many classes as samples."""

    def build(self):
        self.net = mlp(8, BATCH)

    def data(self):
        return classes(BATCH)

    def loss(self, x, y):
        scores = self.net(x)
        return F.nll_loss(scores.log_softmax(dim=1), y) + F.cross_entropy(scores, y)


class LanguageModel(Program):
    def build(self):
        self.embed, self.rnn, self.out = nn.Embedding(11, 8), nn.GRU(8, 8, batch_first=True), nn.Linear(8, 11)

    def data(self):
        tokens = torch.randint(0, 11, (ROWS, 8))
        return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    def loss(self, x, y):
        scores = self.out(self.rnn(self.embed(x))[0])
        picked = scores.log_softmax(-1).gather(2, y.unsqueeze(-1)).squeeze(-1)
        transposed = F.nll_loss(F.log_softmax(scores, dim=-1).transpose(1, 2), y)
        return F.cross_entropy(scores.reshape(-1, 11), y.reshape(-1)) - picked.mean() + transposed


class LastStep(Program):
    """Log-probabilities are picked along time first, then along classes."""

    def build(self):
        self.net = nn.Linear(5, 7)

    def data(self):
        inputs, labels = sequences(7)
        lengths = torch.randint(1, 7, (ROWS,))
        return inputs, labels[:, 0], lengths, torch.rand(ROWS, 7).softmax(1)

    def loss(self, x, y, lengths, soft):
        log_probabilities = self.net(x).log_softmax(-1)
        last = log_probabilities[torch.arange(len(y)), lengths - 1]
        index = (lengths - 1)[:, None, None].expand(-1, 1, 7)
        again = log_probabilities.gather(1, index).squeeze(1)
        tokens = log_probabilities.gather(2, y[:, None, None].expand(-1, 6, 1)).squeeze(-1)
        return (
            F.nll_loss(last, y)
            - (soft * again).sum(1).mean()
            - last[torch.arange(len(y)), y].mean()
            - tokens[torch.arange(len(y)), lengths - 1].mean()
        )


class Reinforce(Program):
    def loss(self, x, y):
        advantage = torch.randn(len(y))
        policy = torch.distributions.Categorical(logits=self.net(x))
        other = torch.distributions.Categorical(probs=self.net(x).softmax(-1))
        by_nll = F.nll_loss(self.net(x).log_softmax(-1) * advantage[:, None], y)
        return -(policy.log_prob(y) * advantage).mean() - other.log_prob(y).mean() - policy.entropy().mean() + by_nll


class Focal(Program):
    def loss(self, x, y):
        logs = F.log_softmax(self.net(x), dim=1)
        return F.nll_loss((1 - logs.exp()) ** 2 * logs, y)


class NegativeLogLikelihoodByHand(Program):
    def loss(self, x, y):
        scores = self.net(x)
        logs = scores - scores.logsumexp(dim=1, keepdim=True)
        probabilities = scores.exp() / scores.exp().sum(dim=1, keepdim=True)
        return (
            -logs[range(len(y)), y].mean()
            - (F.one_hot(y, 4) * logs).sum(dim=1).mean()
            - probabilities.gather(1, y[:, None]).log().mean()
            - torch.take_along_dim(logs, y[:, None], dim=1).mean()
        )


class Ctc(Program):
    def build(self):
        self.net = nn.Linear(5, 6)

    def data(self):
        return torch.randn(ROWS, 12, 5), torch.randint(1, 6, (ROWS, 3))

    def loss(self, x, y):
        logs = self.net(x).log_softmax(2).transpose(0, 1)
        return F.ctc_loss(logs, y, torch.full((len(y),), 12), torch.full((len(y),), 3))


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


class Sigmoids(Program):
    """Binary cross-entropy in its healthy forms; sigmoid gates; scaled sigmoids."""

    def build(self):
        self.net, self.gate, self.out = mlp(8, 6), nn.Linear(6, 6), nn.Linear(6, 1)

    def data(self):
        inputs, labels = classes(2)
        return inputs, labels.float().unsqueeze(1)

    def loss(self, x, y):
        hidden = self.net(x)
        score = self.out(F.silu(hidden) * torch.sigmoid(self.gate(hidden)))
        probability = torch.sigmoid(score)
        focal = (
            (1 - probability) ** 2 * y * F.logsigmoid(score) + probability**2 * (1 - y) * F.logsigmoid(-score)
        ).mean()
        scaled = F.binary_cross_entropy_with_logits(8 * torch.sigmoid(score) - 4, y)
        by_hand = -(y * torch.log(probability + 1e-7) + (1 - y) * torch.log(1 - probability + 1e-7)).mean()
        soft = F.binary_cross_entropy_with_logits(score, torch.sigmoid(y))
        return (
            F.binary_cross_entropy(probability, y)
            + F.binary_cross_entropy_with_logits(score, y)
            + F.multilabel_soft_margin_loss(score, y)
            + focal
            + scaled
            + by_hand
            + soft
        )


class ScaledSigmoidRegression(Program):
    def build(self):
        self.net = mlp(8, 1)

    def data(self):
        inputs, targets = regression(1)
        return inputs, 1 + 4 * torch.sigmoid(targets)

    def loss(self, x, y):
        return F.mse_loss(1 + 4 * torch.sigmoid(self.net(x)), y)


class RectifiedOutputs(Program):
    """ReLU outputs for targets that are never negative, and Poisson rates."""

    def build(self):
        self.net = mlp(8, 1)

    def data(self):
        inputs, targets = regression(1)
        return inputs, targets.abs()

    def loss(self, x, y):
        output = F.relu(self.net(x))
        return F.mse_loss(output, y) + F.poisson_nll_loss(output, y.round(), log_input=False)


class PooledRectifier(Program):
    """ReLU before the last pooling, as in SqueezeNet."""

    def build(self):
        self.net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def data(self):
        inputs, labels = images(4)
        return inputs, labels[:, 0, 0]

    def loss(self, x, y):
        return F.cross_entropy(self.net(x), y)


class Autoencoder(Program):
    def build(self):
        self.unit, self.signed = mlp(8, 8, nn.Sigmoid()), mlp(8, 8, nn.Tanh())

    def data(self):
        unit = torch.rand(ROWS, 8).round(decimals=1)
        return (unit,)

    def loss(self, x):
        unit, signed = self.unit(x), self.signed(x)
        return (
            F.mse_loss(unit, x)
            + F.binary_cross_entropy(unit, x)
            + F.l1_loss(signed, 2 * x - 1)
            + ((signed - (2 * x - 1)) ** 2).mean()
        )


class FewOutside(Program):
    """One target in two hundred lies outside of what tanh gives."""

    def build(self):
        self.net = mlp(8, 8, nn.Tanh())

    def data(self):
        targets = torch.rand(ROWS, 8) * 2 - 1
        targets[::16, 0] = 1.5
        return torch.randn(ROWS, 8), targets

    def loss(self, x, y):
        return F.mse_loss(self.net(x), y)


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


class MissingTargets(Program):
    """Targets of -1 stand for what is not known, and are masked after the loss."""

    def build(self):
        self.net, self.rectified = mlp(8, 3, nn.Sigmoid()), mlp(8, 3, nn.ReLU())  # neither gives -1

    def data(self):
        targets = torch.rand(ROWS, 3)
        targets[torch.rand(ROWS, 3) < 0.3] = -1
        return torch.randn(ROWS, 8), targets

    def loss(self, x, y):
        known = (y >= 0).float()
        first = F.mse_loss(self.net(x), y, reduction="none")
        second = (self.rectified(x) - y) ** 2
        third = F.mse_loss(self.net(x)[known.bool()], y[known.bool()])
        return ((first + second) * known).sum() / known.sum() + third


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


class Heteroscedastic(Program):
    def build(self):
        self.net = mlp(8, 2)

    def data(self):
        return regression()

    def loss(self, x, y):
        mean, raw = self.net(x).unbind(1)
        by_hand = (0.5 * (-raw).exp() * (mean - y) ** 2 + 0.5 * raw).mean()
        return F.gaussian_nll_loss(mean, y, F.softplus(raw)) + by_hand


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


class SkipGram(Program):
    def build(self):
        self.left, self.right = nn.Embedding(20, 6), nn.Embedding(20, 6)

    def data(self):
        return torch.randint(0, 20, (ROWS,)), torch.randint(0, 20, (ROWS,)), torch.randint(0, 20, (ROWS, 5))

    def loss(self, word, near, noise):
        left = self.left(word)
        positive = F.logsigmoid((left * self.right(near)).sum(1))
        negative = F.logsigmoid(-(self.right(noise) @ left.unsqueeze(2)).squeeze(2)).sum(1)
        return -(positive + negative).mean()


class BatchOfOne(Program):
    batch_size = 1

    def loss(self, x, y):
        return F.cross_entropy(self.net(x), y) + F.nll_loss(self.net(x).log_softmax(1), y)


class ContrastiveBatchOfOne(Program):
    batch_size = 1

    def loss(self, x, y):
        features = F.normalize(self.net(x), dim=1)
        return F.cross_entropy(features @ features.T, torch.arange(len(x))) + features.square().sum()


class DictBatch(Program):
    def data(self):
        inputs, labels = classes(4)
        return Rows(x=inputs, y=labels)

    def loss(self, x, y):
        return F.cross_entropy(self.net(x), y)


class Half(Program):
    """Sums of probabilities in half precision are off by more than rounding in single precision."""

    def build(self):
        self.net = mlp(8, 300)

    def data(self):
        return classes(300)

    def loss(self, x, y):
        logs = self.net(x).bfloat16().log_softmax(1)
        return F.nll_loss(logs, y) - logs.gather(1, y[:, None]).mean()


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


@pytest.fixture
def quick(monkeypatch):
    for name, value in QUICK.items():
        monkeypatch.setenv(name, value)


PROGRAMS = [
    kind
    for _, kind in inspect.getmembers(sys.modules[__name__], inspect.isclass)
    if issubclass(kind, Program) and kind is not Program
]


UNKNOWN = {SupervisedContrastive}
"""Losses that hold no comparison that is known: they are not judged, and the report says so."""


@pytest.mark.parametrize("kind", PROGRAMS, ids=lambda kind: kind.__name__)
def test_healthy_program_is_silent(kind, quick):
    report, graphs = inspected(kind)
    assert not [alarm for alarm in alarms(report) if alarm < "LD209"]
    assert not [finding for finding in report if finding.code.startswith("LD0")]
    assert [graph for graph in graphs if graph.step == "training_step"]
    assert any(graph.reaching for graph in graphs) or kind in UNKNOWN
