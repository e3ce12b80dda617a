"""What LossInspector must find: each fault in several spellings, and as the only headline."""

import warnings

import pytest
import torch
import torchmetrics
from torch import nn
from torch.nn import functional as F

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

CASES = []


def faulty(code, *, subject="", also=()):
    def register(kind):
        CASES.append(pytest.param(kind, code, subject, also, id=f"{code}-{kind.__name__}"))
        return kind

    return register


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    for name, value in QUICK.items():
        monkeypatch.setenv(name, value)


# --- LD201


@faulty("LD201", subject="(net.3)")
class SoftmaxModule(Program):
    def build(self):
        self.net, self.criterion = mlp(8, 4, nn.Softmax(dim=-1)), nn.CrossEntropyLoss()

    def loss(self, x, y):
        return self.criterion(self.net(x), y)


@faulty("LD201")
class SoftmaxInForwardOfImages(Program):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.out = nn.Conv2d(3, 4, 3), nn.Linear(64, 5)

        def forward(self, x):
            return torch.softmax(self.out(self.conv(x).flatten(1)), 1)

    def build(self):
        self.net = SoftmaxInForwardOfImages.Net()

    def data(self):
        return Rows(image=torch.randn(ROWS, 3, 6, 6), label=torch.randint(0, 5, (ROWS,)))

    def loss(self, image, label):
        loss = F.cross_entropy(self.net(image), label)
        return {"loss": loss, "scores": 1}


@faulty("LD201")
class SoftmaxOfLanguageModel(Program):
    def build(self):
        self.embed, self.rnn, self.out = nn.Embedding(11, 8), nn.LSTM(8, 8, batch_first=True), nn.Linear(8, 11)

    def data(self):
        tokens = torch.randint(0, 11, (ROWS, 8))
        return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    def loss(self, x, y):
        probabilities = self.out(self.rnn(self.embed(x))[0]).softmax(-1)
        return F.cross_entropy(probabilities.view(-1, 11), y.view(-1), label_smoothing=0.1)


@faulty("LD201")
class SoftmaxOfSegmentation(Program):
    def build(self):
        self.net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Softmax2d())

    def data(self):
        return images(4)

    def loss(self, x, y):
        return F.cross_entropy(input=self.net(x), target=y)


@faulty("LD201")
class SoftmaxByHand(Program):
    def loss(self, x, y):
        exponentials = torch.exp(self.net(x) - self.net(x).max(dim=1, keepdim=True).values)
        return F.cross_entropy(exponentials / exponentials.sum(dim=1, keepdim=True), y)


@faulty("LD201")
class NormalisedByValue(Program):
    """No softmax is to be seen: the values prove it."""

    def loss(self, x, y):
        scores = self.net(x).square() + 0.01
        return F.cross_entropy(scores / scores.norm(p=1, dim=1)[:, None], y)


@faulty("LD201")
class SoftmaxWithCare(Program):
    """Dropout, an epsilon and a clamp between softmax and loss."""

    def build(self):
        self.net, self.drop = mlp(8, 4), nn.Dropout(0.2)

    def loss(self, x, y):
        return F.cross_entropy(self.drop(self.net(x).softmax(1)).clamp(1e-7, 1) + 1e-9, y)


@faulty("LD201")
class SoftmaxBeforeLogSoftmax(Program):
    def build(self):
        self.net = mlp(8, 4, nn.Softmax(dim=1))

    def loss(self, x, y):
        logs = self.net(x).log_softmax(dim=1)
        return F.nll_loss(logs, y) - logs[torch.arange(len(y)), y].mean()


@faulty("LD201")
class ProbabilitiesAsLogits(Program):
    def loss(self, x, y):
        return -torch.distributions.Categorical(logits=self.net(x).softmax(-1)).log_prob(y).mean()


@faulty("LD201")
class SoftmaxWithSoftTargets(Program):
    def data(self):
        inputs, _ = classes(4)
        return inputs, torch.rand(ROWS, 4).softmax(1)

    def loss(self, x, y):
        return F.cross_entropy(self.net(x).softmax(1), y)


@faulty("LD201")
class SoftmaxByManualOptimization(Program):
    def build(self):
        self.automatic_optimization = False
        self.net = mlp(8, 4)

    def loss(self, x, y):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(F.cross_entropy(F.softmax(self.net(x), dim=1), y))
        optimizer.step()


@faulty("LD201")
class SoftmaxWithoutBackground(Program):
    """A class is left out after the softmax."""

    def loss(self, x, y):
        return F.cross_entropy(self.net(x).softmax(1)[:, 1:], (y - 1).clamp(min=0))


@faulty("LD201")
class SoftmaxInHalfPrecision(Program):
    def build(self):
        self.net = mlp(8, 200)

    def data(self):
        return classes(200)

    def loss(self, x, y):
        return F.cross_entropy(self.net(x).bfloat16().softmax(1), y)


@faulty("LD201")
class SoftmaxInSquareBatch(Program):
    def build(self):
        self.net = mlp(8, BATCH)

    def data(self):
        return classes(BATCH)

    def loss(self, x, y):
        return F.cross_entropy(self.net(x).softmax(dim=1), y)


@faulty("LD201", subject="(net.3)")
class SoftmaxOfSoftmax(Program):
    """The logarithm is taken of a second softmax."""

    def build(self):
        self.net = mlp(8, 4, nn.Softmax(dim=1))

    def loss(self, x, y):
        probabilities = self.net(x).softmax(dim=-1)
        return -(F.one_hot(y, 4) * torch.log(probabilities + 1e-9)).sum(1).mean()


@faulty("LD201")
class TransposedProbabilities(Program):
    def build(self):
        self.net = nn.Linear(5, 4)

    def data(self):
        return sequences(4)

    def loss(self, x, y):
        return F.cross_entropy(self.net(x).softmax(2).mT, y)


# --- LD202


@faulty("LD202", subject="(net.3)")
class SoftmaxOverBatch(Program):
    def build(self):
        self.net = mlp(8, 4, nn.Softmax(dim=0))

    def loss(self, x, y):
        return F.cross_entropy(self.net(x), y)


@faulty("LD202")
class SquareSoftmaxOverBatch(Program):
    def build(self):
        self.net = mlp(8, BATCH)

    def data(self):
        return classes(BATCH)

    def loss(self, x, y):
        return F.nll_loss(F.log_softmax(self.net(x), dim=0), y)


@faulty("LD202")
class SoftmaxOverTime(Program):
    """The reshape before the loss hides it."""

    def build(self):
        self.net = nn.Linear(5, 4)

    def data(self):
        return sequences(4)

    def loss(self, x, y):
        return F.nll_loss(self.net(x).log_softmax(1).reshape(-1, 4), y.reshape(-1))


@faulty("LD202")
class LastStepOfSoftmaxOverTime(Program):
    def build(self):
        self.net = nn.Linear(5, 4)

    def data(self):
        inputs, labels = sequences(4)
        return inputs, labels[:, -1]

    def loss(self, x, y):
        return F.cross_entropy((self.net(x) * 4).softmax(dim=1)[:, -1], y)


@faulty("LD202")
class ImplicitDimension(Program):
    """Softmax without a dimension takes the batch of three-dimensional tensors."""

    def build(self):
        self.net, self.softmax = nn.Linear(5, 4), nn.LogSoftmax()

    def data(self):
        return sequences(4)

    def loss(self, x, y):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return -self.softmax(self.net(x)).gather(2, y.unsqueeze(2)).mean()


@faulty("LD202")
class ByHandOverBatch(Program):
    def loss(self, x, y):
        exponentials = self.net(x).exp()
        probabilities = exponentials / exponentials.sum(dim=0)
        return -torch.log(probabilities[range(len(y)), y]).mean()


@faulty("LD202")
class OneHotProductOverBatch(Program):
    def data(self):
        inputs, labels = classes(4)
        return inputs, F.one_hot(labels, 4).float()

    def loss(self, x, y):
        return -(y * torch.log_softmax(self.net(x), 0)).sum(1).mean()


@faulty("LD202")
class NegatedProductOverBatch(Program):
    def loss(self, x, y):
        probabilities = F.softmax(self.net(x), dim=0)
        return torch.sum(-F.one_hot(y, 4) * torch.log(probabilities + 1e-9), dim=1).mean()


@faulty("LD202")
class BrierOverBatch(Program):
    def build(self):
        self.net = mlp(8, 4, nn.Softmax(0))

    def loss(self, x, y):
        return F.mse_loss(self.net(x), F.one_hot(y, 4).float())


@faulty("LD202")
class DistillationOverBatch(Program):
    def build(self):
        self.net, self.teacher = mlp(8, 4), mlp(8, 4).requires_grad_(False)

    def loss(self, x, y):
        soft = F.kl_div(self.net(x).log_softmax(0), self.teacher(x).softmax(1), reduction="batchmean")
        return F.cross_entropy(self.net(x), y) + soft


@faulty("LD202")
class SegmentationOverRows(Program):
    def build(self):
        self.net = nn.Conv2d(3, 4, 1)

    def data(self):
        return images(4)

    def loss(self, x, y):
        return F.nll_loss(self.net(x).log_softmax(dim=2), y)


@faulty("LD202")
class CtcOverBatch(Program):
    def build(self):
        self.net = nn.Linear(5, 6)

    def data(self):
        return torch.randn(ROWS, 12, 5), torch.randint(1, 6, (ROWS, 3))

    def loss(self, x, y):
        logs = self.net(x).transpose(0, 1).log_softmax(1)
        return F.ctc_loss(logs, y, torch.full((len(y),), 12), torch.full((len(y),), 3))


@faulty("LD202")
class MetricOverBatch(Program):
    """The loss is right; the metric sees a softmax over the batch."""

    def build(self):
        self.net = mlp(8, 4)
        self.accuracy = torchmetrics.Accuracy(task="multiclass", num_classes=4)

    def loss(self, x, y):
        scores = self.net(x)
        self.accuracy(F.softmax(scores, dim=0), y)
        self.log("accuracy", self.accuracy)
        return F.cross_entropy(scores, y)


@faulty("LD202")
class MetricOverBatchInValidation(Program):
    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        predicted = torch.softmax(self.net(batch[0]), 0).max(1)[1]
        self.log("val_accuracy", predicted.eq(batch[1]).float().mean())


# --- LD203


@faulty("LD203", subject="(net.3)")
class SigmoidModule(Program):
    def build(self):
        self.net, self.criterion = mlp(8, 3, nn.Sigmoid()), nn.BCEWithLogitsLoss()

    def data(self):
        return torch.randn(ROWS, 8), (torch.rand(ROWS, 3) > 0.5).float()

    def loss(self, x, y):
        return self.criterion(self.net(x), y)


@faulty("LD203")
class SigmoidSqueezed(Program):
    def build(self):
        self.net = mlp(8, 1)

    def data(self):
        inputs, labels = classes(2)
        return Rows(x=inputs, y=labels)

    def loss(self, x, y):
        score = torch.sigmoid(self.net(x)).squeeze(1)
        return {"loss": F.binary_cross_entropy_with_logits(score, y.float())}


@faulty("LD203")
class SigmoidByHand(Program):
    def build(self):
        self.net = nn.Conv2d(3, 1, 1)

    def data(self):
        inputs, labels = images(2)
        return inputs, labels[:, None].float()

    def loss(self, x, y):
        return F.binary_cross_entropy_with_logits(1 / (1 + torch.exp(-self.net(x))), y)


@faulty("LD203")
class SigmoidBeforeCrossEntropy(Program):
    def loss(self, x, y):
        return F.cross_entropy(self.net(x).sigmoid(), y)


@faulty("LD203")
class SigmoidTwice(Program):
    def build(self):
        self.net = mlp(8, 1, nn.Sigmoid())

    def data(self):
        inputs, labels = classes(2)
        return inputs, labels.float()[:, None]

    def loss(self, x, y):
        return F.binary_cross_entropy(torch.sigmoid(self.net(x)), y)


@faulty("LD203")
class SoftmaxBeforeBinary(Program):
    def data(self):
        return torch.randn(ROWS, 8), (torch.rand(ROWS, 4) > 0.5).float()

    def loss(self, x, y):
        return F.binary_cross_entropy_with_logits(self.net(x).softmax(1), y)


@faulty("LD203")
class SigmoidInBranchOfManual(Program):
    def build(self):
        self.automatic_optimization = False
        self.net = mlp(8, 1, nn.Sigmoid())

    def data(self):
        return (torch.randn(ROWS, 8),)

    def loss(self, x):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        score = self.net(x)
        self.manual_backward(F.binary_cross_entropy_with_logits(score, torch.ones_like(score)))
        optimizer.step()


@faulty("LD203")
class LogSigmoidOfSigmoid(Program):
    def build(self):
        self.net = mlp(8, 1, nn.Sigmoid())

    def data(self):
        inputs, labels = classes(2)
        return inputs, labels.float()[:, None]

    def loss(self, x, y):
        score = self.net(x)
        return -(y * F.logsigmoid(score) + (1 - y) * F.logsigmoid(-score)).mean()


# --- LD204


@faulty("LD204")
class RawScores(Program):
    def loss(self, x, y):
        return F.nll_loss(self.net(x), y)


@faulty("LD204")
class Probabilities(Program):
    def build(self):
        self.net, self.criterion = mlp(8, 4, nn.Softmax(dim=1)), nn.NLLLoss()

    def loss(self, x, y):
        return {"loss": self.criterion(self.net(x), y)}


@faulty("LD204")
class RawScoresOfSegmentation(Program):
    def build(self):
        self.net = nn.Conv2d(3, 4, 1)

    def data(self):
        return images(4)

    def loss(self, x, y):
        return nn.functional.nll_loss(self.net(x), y)


@faulty("LD204")
class RawScoresOfSequence(Program):
    def build(self):
        self.net = nn.Linear(5, 4)

    def data(self):
        inputs, labels = sequences(4)
        return Rows(x=inputs, y=labels)

    def loss(self, x, y):
        return F.nll_loss(self.net(x).transpose(1, 2), y)


@faulty("LD204")
class ProbabilitiesFromLogSoftmax(Program):
    def loss(self, x, y):
        return F.nll_loss(self.net(x).log_softmax(1).exp(), y)


@faulty("LD204")
class SmallRawScores(Program):
    """Nothing is positive, and the exponentials sum to far more than 1."""

    def build(self):
        self.net = nn.Linear(8, 6)
        nn.init.zeros_(self.net.weight)
        nn.init.constant_(self.net.bias, -0.2)

    def data(self):
        return classes(6)

    def loss(self, x, y):
        return F.nll_loss(self.net(x), y)


# --- LD205


@faulty("LD205")
class SingleUnit(Program):
    def build(self):
        self.net = mlp(8, 1, nn.Softmax(dim=1))

    def data(self):
        inputs, labels = classes(2)
        return inputs, labels.float()[:, None]

    def loss(self, x, y):
        return F.binary_cross_entropy(self.net(x), y)


@faulty("LD205")
class SingleUnitRegression(Program):
    def build(self):
        self.net = mlp(8, 1)

    def data(self):
        return regression()

    def loss(self, x, y):
        return ((self.net(x).softmax(-1).squeeze(-1) - y) ** 2).mean()


@faulty("LD205")
class CrossEntropyOfOne(Program):
    def build(self):
        self.net = mlp(8, 1)

    def data(self):
        inputs, labels = classes(2)
        return Rows(x=inputs, y=labels.float()[:, None])

    def loss(self, x, y):
        return F.cross_entropy(self.net(x), y)


@faulty("LD205")
class SingleChannel(Program):
    def build(self):
        self.net = nn.Conv2d(3, 1, 1)

    def data(self):
        inputs, labels = images(2)
        return inputs, labels[:, None].float()

    def loss(self, x, y):
        return F.binary_cross_entropy_with_logits(F.softmax(self.net(x), dim=1), y)


@faulty("LD205")
class SingleUnitLogarithm(Program):
    def build(self):
        self.net = mlp(8, 1, nn.LogSoftmax(dim=1))

    def data(self):
        inputs, labels = classes(2)
        return inputs, labels.float()[:, None]

    def loss(self, x, y):
        return -(y * self.net(x)).mean()


# --- LD206


@faulty("LD206")
class ColumnAgainstRow(Program):
    def build(self):
        self.net = mlp(8, 1)

    def data(self):
        return regression()

    def loss(self, x, y):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return F.mse_loss(self.net(x), y)


@faulty("LD206")
class RowAgainstColumnByHand(Program):
    def build(self):
        self.net = mlp(8, 1)

    def data(self):
        inputs, targets = regression(1)
        return Rows(x=inputs, y=targets)

    def loss(self, x, y):
        error = self.net(x).squeeze() - y
        return {"loss": torch.mean(torch.abs(error))}


@faulty("LD206")
class ConvertedTarget(Program):
    """The target was given its dimension on a line of its own."""

    def build(self):
        self.net = mlp(8, 1)

    def data(self):
        return regression()

    def loss(self, x, y):
        target = y.float().unsqueeze(1)
        output = self.net(x).flatten()
        return torch.sqrt(((output - target) ** 2).mean())


@faulty("LD206")
class HuberOfSequence(Program):
    def build(self):
        self.rnn, self.out = nn.GRU(5, 8, batch_first=True), nn.Linear(8, 1)

    def data(self):
        inputs, _ = sequences(4)
        return inputs, inputs[:, :, 0].mean(1)

    def loss(self, x, y):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return nn.HuberLoss()(self.out(self.rnn(x)[0][:, -1]), y)


@faulty("LD206")
class PoissonColumn(Program):
    def build(self):
        self.net = mlp(8, 1)

    def data(self):
        return torch.randn(ROWS, 8), torch.randint(0, 5, (ROWS,)).float()

    def loss(self, x, y):
        return F.poisson_nll_loss(self.net(x), y)


@faulty("LD206")
class BellmanTarget(Program):
    """The pairs are formed in the target: a reward (N,) and a value (N, 1)."""

    def build(self):
        self.net, self.target = mlp(8, 1), mlp(8, 1).requires_grad_(False)

    def data(self):
        inputs, rewards = regression()
        return inputs, rewards, torch.randn(ROWS, 8)

    def loss(self, x, reward, following):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return F.mse_loss(self.net(x), reward + 0.9 * self.target(following))


@faulty("LD206")
class WeightsOfSamples(Program):
    def build(self):
        self.net = mlp(8, 1)

    def data(self):
        inputs, targets = regression(1)
        return inputs, targets, torch.rand(ROWS)

    def loss(self, x, y, weight):
        return ((self.net(x) - y) ** 2 * weight).mean()


# --- LD207


@faulty("LD207", subject="(net.3)")
class RectifiedScores(Program):
    def build(self):
        self.net = mlp(8, 4, nn.ReLU())

    def loss(self, x, y):
        return F.cross_entropy(self.net(x), y)


@faulty("LD207")
class RectifiedThenDropped(Program):
    def build(self):
        self.net = mlp(8, 4, nn.ReLU(inplace=True), nn.Dropout(0.1))

    def data(self):
        inputs, labels = classes(4)
        return Rows(x=inputs, y=labels)

    def loss(self, x, y):
        return F.nll_loss(F.log_softmax(self.net(x), dim=-1), y)


@faulty("LD207")
class RectifiedTokens(Program):
    def build(self):
        self.net = nn.Linear(5, 4)

    def data(self):
        return sequences(4)

    def loss(self, x, y):
        return F.cross_entropy(self.net(x).relu().transpose(1, 2), y)


@faulty("LD207")
class RectifiedBinary(Program):
    def build(self):
        self.net = mlp(8, 1)

    def data(self):
        inputs, labels = classes(2)
        return inputs, labels.float()[:, None]

    def loss(self, x, y):
        return F.binary_cross_entropy_with_logits(self.net(x).clamp(min=0), y)


@faulty("LD207")
class RectifiedRegression(Program):
    def build(self):
        self.net = mlp(8, 1, nn.ReLU())

    def data(self):
        return regression(1)

    def loss(self, x, y):
        return F.mse_loss(self.net(x), y)


@faulty("LD207")
class RectifiedRegressionByHand(Program):
    def build(self):
        self.net = mlp(8, 1)

    def data(self):
        return regression()

    def loss(self, x, y):
        return (y - torch.relu(self.net(x)).squeeze(-1)).abs().mean()


@faulty("LD207")
class RectifiedBySix(Program):
    def build(self):
        self.net = mlp(8, 4, nn.ReLU6())

    def loss(self, x, y):
        return F.cross_entropy(self.net(x), y)


# --- LD208


@faulty("LD208", subject="(net.3)")
class SigmoidOfStandardised(Program):
    def build(self):
        self.net = mlp(8, 1, nn.Sigmoid())

    def data(self):
        return regression(1)

    def loss(self, x, y):
        return F.mse_loss(self.net(x), y)


@faulty("LD208")
class TanhOfPixels(Program):
    def build(self):
        self.net = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Tanh())

    def data(self):
        inputs, _ = images(4)
        return inputs, torch.randint(0, 256, inputs.shape).float()

    def loss(self, x, y):
        return F.l1_loss(self.net(x), y)


@faulty("LD208")
class TanhByHand(Program):
    def build(self):
        self.net = nn.Linear(5, 1)

    def data(self):
        inputs, _ = sequences(4)
        return Rows(x=inputs, y=3 * inputs[..., 0])

    def loss(self, x, y):
        return {"loss": (y - self.net(x).tanh().squeeze(-1)).pow(2).mean()}


@faulty("LD208")
class SoftmaxRegression(Program):
    def data(self):
        return torch.randn(ROWS, 8), torch.rand(ROWS, 4) * 10

    def loss(self, x, y):
        return nn.SmoothL1Loss()(self.net(x).softmax(dim=1), y)


@faulty("LD208")
class SoftplusOfNegative(Program):
    def build(self):
        self.net = mlp(8, 1, nn.Softplus())

    def data(self):
        return regression(1)

    def loss(self, x, y):
        return F.mse_loss(self.net(x), y)


@faulty("LD208")
class LabelsOfMinusOne(Program):
    """Sigmoid outputs for labels of -1 and 1."""

    def build(self):
        self.net = mlp(8, 1, nn.Sigmoid())

    def data(self):
        inputs, labels = classes(2)
        return inputs, labels.float()[:, None] * 2 - 1

    def loss(self, x, y):
        return F.mse_loss(self.net(x), y)


@pytest.mark.parametrize(("kind", "code", "subject", "also"), CASES)
def test_fault_is_the_headline(kind, code, subject, also):
    report, _ = inspected(kind)
    headlines = [finding for finding in report.headlines if "LD200" < finding.code < "LD209"]
    assert {finding.code for finding in headlines} == {code, *also}, [
        (finding.code, finding.subject, finding.message) for finding in report
    ]
    first = headlines[0]
    assert "test_loss_inspector_faults.py:" in first.subject
    assert subject in first.subject
    assert first.fix
    assert "None" not in first.message + first.fix
