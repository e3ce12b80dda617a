"""Published recipes, in small: losses of many fields, none of which has a fault."""

import inspect
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.helpers import alarms
from tests.inspector_programs import QUICK, ROWS, Program, classes, images, inspected, mlp, regression, sequences


class Mixup(Program):
    def loss(self, x, y):
        order = torch.randperm(len(x))
        scores = self.net(0.7 * x + 0.3 * x[order])
        smooth = -scores.log_softmax(-1).mean(dim=-1)
        return 0.7 * F.cross_entropy(scores, y) + 0.3 * F.cross_entropy(scores, y[order]) + 0.1 * smooth.mean()


class RegularisedDropout(Program):
    def build(self):
        self.net = mlp(8, 4, nn.Dropout(0.1))

    def loss(self, x, y):
        first, second = self.net(x), self.net(x)
        there = F.kl_div(first.log_softmax(-1), second.softmax(-1), reduction="sum")
        back = F.kl_div(second.log_softmax(-1), first.log_softmax(-1), reduction="sum", log_target=True)
        return F.cross_entropy(first, y) + 0.01 * (there + back)


class FixMatch(Program):
    def loss(self, x, y):
        weak, strong = self.net(x), self.net(x + 0.1 * torch.randn_like(x))
        confidence, label = weak.detach().softmax(dim=-1).max(dim=-1)
        kept = (confidence > 0.3).float()
        consistency = F.mse_loss(strong.softmax(1), weak.detach().softmax(1))
        unlabelled = (F.cross_entropy(strong, label, reduction="none") * kept).mean()
        return F.cross_entropy(weak, y) + unlabelled + consistency


class DeepClustering(Program):
    def build(self):
        self.net, self.centres = mlp(8, 5), nn.Parameter(torch.randn(4, 5))

    def loss(self, x, y):
        near = 1 / (1 + torch.cdist(self.net(x), self.centres).square())
        assigned = near / near.sum(dim=1, keepdim=True)
        with torch.no_grad():
            sharp = assigned**2 / assigned.sum(0)
            sharp = sharp / sharp.sum(1, keepdim=True)
        return F.kl_div(assigned.log(), sharp, reduction="batchmean")


class MaskedLanguageModel(Program):
    def build(self):
        self.embed, self.out = nn.Embedding(12, 8), nn.Linear(8, 12)

    def data(self):
        tokens = torch.randint(1, 12, (ROWS, 7))
        labels = torch.where(torch.rand(ROWS, 7) < 0.3, tokens, -100)
        labels[:, 0] = tokens[:, 0]
        return tokens.masked_fill(labels >= 0, 0), labels

    def loss(self, x, y):
        scores = self.out(self.embed(x))
        return F.cross_entropy(scores[y >= 0], y[y >= 0]) + F.cross_entropy(scores.flatten(0, 1), y.flatten())


class SequenceToSequence(Program):
    """Per-token losses weighted by a mask and divided by lengths."""

    def build(self):
        self.embed, self.rnn, self.out = nn.Embedding(12, 8), nn.GRU(8, 8, batch_first=True), nn.Linear(8, 12)

    def data(self):
        return torch.randint(1, 12, (ROWS, 8)), torch.randint(1, 9, (ROWS,))

    def loss(self, tokens, lengths):
        mask = (torch.arange(7)[None, :] < lengths[:, None]).float()
        scores = self.out(self.rnn(self.embed(tokens[:, :-1]))[0])
        each = F.cross_entropy(scores.transpose(1, 2), tokens[:, 1:], reduction="none")
        per_sample = (each * mask).sum(1) / mask.sum(1).clamp(min=1)
        picked = scores.log_softmax(-1).gather(-1, tokens[:, 1:, None]).squeeze(-1)
        return per_sample.mean() - (picked * mask).sum() / mask.sum().clamp(min=1)


class Detection(Program):
    """A DETR-like head: classes over the last dimension transposed, L1 on sigmoid boxes, a matching cost."""

    def build(self):
        self.body, self.classes, self.boxes = nn.Linear(5, 8), nn.Linear(8, 4), nn.Linear(8, 4)

    def data(self):
        inputs, labels = sequences(4)
        return inputs, labels, torch.rand(ROWS, 6, 4)

    def loss(self, x, labels, boxes):
        hidden = self.body(x).relu()
        scores, found = self.classes(hidden), self.boxes(hidden).sigmoid()
        with torch.no_grad():
            cost = -scores.flatten(0, 1).softmax(-1)[:, labels.flatten()] + torch.cdist(
                found.flatten(0, 1), boxes.flatten(0, 1)
            )
            assert cost.isfinite().all()
        empty = torch.ones(4)
        empty[0] = 0.1
        return F.cross_entropy(scores.transpose(1, 2), labels, empty) + F.l1_loss(found, boxes)


class MultipleInstances(Program):
    """Attention pooling over instances, and Bernoulli likelihood written out."""

    def build(self):
        self.attend, self.out = nn.Linear(5, 1), nn.Linear(5, 1)

    def data(self):
        inputs, labels = sequences(2)
        return inputs, labels[:, 0].float()

    def loss(self, x, y):
        weights = torch.softmax(self.attend(x).transpose(1, 2), dim=2)
        probability = torch.sigmoid(self.out((weights @ x).squeeze(1))).squeeze(1).clamp(1e-5, 1 - 1e-5)
        return -(y * probability.log() + (1 - y) * (1 - probability).log()).mean()


class SurvivalHazards(Program):
    """Discrete hazards: sigmoid outputs whose logarithms are picked by time."""

    def build(self):
        self.net = mlp(8, 5)

    def data(self):
        return torch.randn(ROWS, 8), torch.randint(0, 5, (ROWS,)), torch.randint(0, 2, (ROWS,))

    def loss(self, x, time, censored):
        hazard = torch.sigmoid(self.net(x))
        survived = torch.cumprod(1 - hazard, dim=1)
        padded = torch.cat([torch.ones(len(x), 1), survived], dim=1)
        died = -(padded.gather(1, time[:, None]).log() + (hazard.gather(1, time[:, None]) + 1e-7).log())
        alive = -(padded.gather(1, time[:, None] + 1) + 1e-7).log()
        return ((1 - censored[:, None]) * died + censored[:, None] * alive).mean()


class Ordinal(Program):
    """CORAL: one score and as many thresholds."""

    def build(self):
        self.net, self.bias = mlp(8, 1), nn.Parameter(torch.zeros(3))

    def loss(self, x, y):
        scores = self.net(x) + self.bias
        levels = (y[:, None] > torch.arange(3)).float()
        return -(F.logsigmoid(scores) * levels + (F.logsigmoid(scores) - scores) * (1 - levels)).sum(1).mean()


class PersonalisedRanking(Program):
    def build(self):
        self.users, self.items, self.bias = nn.Embedding(9, 6), nn.Embedding(9, 6), nn.Embedding(9, 1)

    def data(self):
        return *(torch.randint(0, 9, (ROWS,)) for _ in range(3)), torch.rand(ROWS) * 4 + 1

    def loss(self, user, liked, other, rating):
        users = self.users(user)
        good, bad = (users * self.items(liked)).sum(1), (users * self.items(other)).sum(1)
        predicted = 3 + good + self.bias(liked).squeeze(1)
        clamped = torch.clamp(predicted, 1, 5)
        return -F.logsigmoid(good - bad).mean() + F.mse_loss(predicted, rating) + F.mse_loss(clamped, rating)


class TripletsAndMargins(Program):
    def build(self):
        self.net = mlp(8, 6)

    def loss(self, x, y):
        first = self.net(x)
        second, third = first.roll(1, 0), first.roll(2, 0)
        same = (y == y.roll(1, 0)).float()
        distance = F.pairwise_distance(first, second)
        contrastive = same * distance**2 + (1 - same) * F.relu(1 - distance) ** 2
        cosine = F.cosine_embedding_loss(first, second, same * 2 - 1)
        return F.triplet_margin_loss(first, second, third) + contrastive.mean() + cosine


class AngularMargin(Program):
    """ArcFace: cosines as scores, with a margin on the right class."""

    def build(self):
        self.net, self.weight = mlp(8, 6), nn.Parameter(torch.randn(4, 6))

    def loss(self, x, y):
        cosine = F.linear(F.normalize(self.net(x)), F.normalize(self.weight)).clamp(-1 + 1e-6, 1 - 1e-6)
        shifted = torch.cos(torch.acos(cosine) + 0.3)
        return F.cross_entropy(16 * torch.where(F.one_hot(y, 4).bool(), shifted, cosine), y)


class SelfSupervised(Program):
    """BYOL, SimSiam and Barlow Twins in one."""

    def build(self):
        self.net, self.predict, self.teacher = mlp(8, 6), nn.Linear(6, 6), mlp(8, 6).requires_grad_(False)

    def loss(self, x, y):
        first, second = self.net(x), self.net(x + 0.1)
        teacher = self.teacher(x)
        byol = F.mse_loss(F.normalize(self.predict(first), dim=-1), F.normalize(teacher, dim=-1))
        simsiam = -F.cosine_similarity(self.predict(first), second.detach(), dim=-1).mean()
        left, right = ((item - item.mean(0)) / (item.std(0) + 1e-4) for item in (first, second))
        cross = left.T @ right / len(x)
        return byol + simsiam + 0.01 * (cross - torch.eye(6)).square().sum()


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


PROGRAMS = [
    kind
    for _, kind in inspect.getmembers(sys.modules[__name__], inspect.isclass)
    if issubclass(kind, Program) and kind is not Program
]


@pytest.mark.parametrize("kind", PROGRAMS, ids=lambda kind: kind.__name__)
def test_recipe_is_silent(kind, monkeypatch):
    for name, value in QUICK.items():
        monkeypatch.setenv(name, value)
    report, graphs = inspected(kind)
    assert not [alarm for alarm in alarms(report) if alarm < "LD209"]
    assert not [finding for finding in report if finding.code.startswith("LD0")]
    assert [graph for graph in graphs if graph.step == "training_step"]
