"""Cross-entropies and likelihoods as they should be."""

import torch
from torch import nn
from torch.nn import functional as F

from tests.losses.base import BATCH, ROWS, Program, Rows, classes, images, mlp, sequences


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


class CtcOfPaddedWords(Ctc):
    """The blank is 0, and so is the padding behind shorter words."""

    def data(self):
        words = torch.randint(1, 6, (ROWS, 3))
        lengths = torch.randint(1, 4, (ROWS,))
        return torch.randn(ROWS, 12, 5), words * (torch.arange(3) < lengths[:, None]), lengths

    def loss(self, x, y, lengths):
        logs = self.net(x).log_softmax(2).transpose(0, 1)
        return F.ctc_loss(logs, y, torch.full((len(y),), 12), lengths)


class CtcWithTheBlankLast(Ctc):
    def data(self):
        return torch.randn(ROWS, 12, 5), torch.randint(0, 5, (ROWS, 3))

    def loss(self, x, y):
        logs = self.net(x).log_softmax(2).transpose(0, 1)
        lengths = torch.full((len(y),), 3)
        return nn.CTCLoss(blank=5)(logs, y.flatten(), torch.full((len(y),), 12), lengths)


class Half(Program):
    """Sums of probabilities in half precision are off by more than rounding in single precision."""

    def build(self):
        self.net = mlp(8, 300)

    def data(self):
        return classes(300)

    def loss(self, x, y):
        logs = self.net(x).bfloat16().log_softmax(1)
        return F.nll_loss(logs, y) - logs.gather(1, y[:, None]).mean()


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


class Characters(Program):
    """Connectionist classification of log-probabilities."""

    def build(self):
        self.net = nn.Linear(5, 4)

    def data(self):
        return torch.randn(ROWS, 12, 5), torch.randint(1, 4, (ROWS, 3))

    def loss(self, x, y):
        scores = self.net(x).log_softmax(2).transpose(0, 1)
        return F.ctc_loss(scores, y, torch.full((len(x),), 12), torch.full((len(x),), 3))
