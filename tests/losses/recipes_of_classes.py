"""Published recipes for classes, ranks and similarities, in small."""

import torch
from torch import nn
from torch.nn import functional as F

from tests.losses.base import ROWS, Program, mlp, sequences


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
