"""LD211: the loss is a sum over the batch."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_debug.evidence.loss_checks import BatchScaling
from lightning_debug.record import Record
from lightning_debug.rules.ld211_loss_summed_over_batch import loss_summed_over_batch
from tests.loss_programs import Trained, blobs, digits, findings, loader, mlp, skips

MINE = ("LD211",)


def sequences(count=160):
    tokens = torch.randint(0, 12, (count, 10))
    return tokens, tokens.roll(1, 1) % 4


def tagger(outputs=4):
    return nn.Sequential(nn.Embedding(12, 16), nn.Linear(16, outputs))


def conv(outputs):
    layers = [nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(288, outputs))


# ------------------------------------------------------------------------------------------------ healthy look-alikes


def mean(self, batch):
    return F.cross_entropy(self.net(batch[0]), batch[1])


def over_time(self, batch):
    losses = F.cross_entropy(self.net(batch[0]).transpose(1, 2), batch[1], reduction="none")
    return losses.sum(1).mean()


def divided(self, batch):
    return F.cross_entropy(self.net(batch[0]), batch[1], reduction="sum") / len(batch[1])


def divided_by_a_constant(self, batch):
    return F.cross_entropy(self.net(batch[0]), batch[1], reduction="sum") / 1797


def batch_mean(self, batch):
    target = F.one_hot(batch[1], 10).float() * 0.9 + 0.01
    return F.kl_div(self.net(batch[0]).log_softmax(1), target, reduction="batchmean")


def contrastive(self, batch):
    one, two = F.normalize(self.net(batch[0])), F.normalize(self.net(batch[0] + 0.01))
    return F.cross_entropy(one @ two.T / 0.1, torch.arange(len(one)), reduction="sum")


def regularised(self, batch):
    weights = sum(item.square().sum() for item in self.parameters())
    return F.cross_entropy(self.net(batch[0]), batch[1]) + 0.1 * weights


def constant(self, batch):
    return 0 * self.net(batch[0]).sum()


def negative(self, batch):
    scores = self.net(batch[0])
    return -(scores * torch.linspace(-1, 1, scores.shape[1])).sum() + scores.sum().square() * 1e-3


@pytest.mark.parametrize(
    "loss", [mean, divided, divided_by_a_constant, batch_mean, contrastive, regularised, constant, negative]
)
def test_quiet_on_what_is_no_sum_over_the_batch(loss):
    assert not findings(Trained(mlp(64, 10), loss), loader(*digits(160)), select=MINE)


def test_quiet_on_sums_over_time():
    assert not findings(Trained(tagger(), over_time), loader(*sequences()), select=MINE)


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = mlp(64, 8), mlp(4, 64)

    def forward(self, x):
        centre, spread = self.encoder(x).chunk(2, 1)
        return self.decoder(centre + torch.randn_like(centre) * spread.exp()), centre, spread


@pytest.mark.parametrize("share", [True, False])
def test_quiet_on_evidence_lower_bounds(share):
    def loss(self, batch):
        output, centre, spread = self.net(batch[0])
        reconstruction = F.mse_loss(output, batch[0], reduction="sum")
        divergence = -0.5 * (1 + 2 * spread - centre.square() - (2 * spread).exp()).sum()
        return (reconstruction + divergence) / (len(batch[0]) if share else 1)

    assert not findings(Trained(VAE(), loss), loader(*digits(160)), select=MINE)


def test_quiet_where_one_batch_is_all():
    def loss(self, batch):
        return F.mse_loss(self.net(batch[0])[:, 0], batch[1].float(), reduction="sum")

    assert not findings(Trained(mlp(64, 1), loss), loader(*digits(64), batch_size=64), select=MINE)


class Manual(Trained):
    def __init__(self, *args):
        super().__init__(*args)
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx))
        optimizer.step()


@dataclass
class Graph:
    x: torch.Tensor
    edges: torch.Tensor
    y: torch.Tensor


def test_says_why_it_cannot_judge():
    inputs, labels = digits(160)
    nothing = Manual(mlp(64, 10), mean)
    assert "no loss" in skips(nothing, loader(inputs, labels), select=MINE)["LD211"]
    assert "too small" in skips(Trained(mlp(64, 10), mean), loader(*digits(8), batch_size=2), select=MINE)["LD211"]

    def graph(self, batch):
        return F.cross_entropy(self.net(batch.x), batch.y, reduction="sum")

    rows = [Graph(inputs[:9], torch.zeros(2, 30).long(), labels[:9])] * 4
    data = torch.utils.data.DataLoader(rows, batch_size=None)
    assert "leading sizes" in skips(Trained(mlp(64, 10), graph), data, select=MINE)["LD211"]

    def whole_batches_only(self, batch):
        return F.cross_entropy(self.net(batch[0]).reshape(32, 10), batch[1])

    assert (
        "raises RuntimeError"
        in skips(Trained(mlp(64, 10), whole_batches_only), loader(inputs, labels), select=MINE)["LD211"]
    )


# ------------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize("net", [lambda: mlp(64, 10), lambda: conv(10)])
@pytest.mark.parametrize("form", ["argument", "module", "none", "negative", "hand", "weighted"])
def test_finds_a_sum_over_samples(net, form):
    module = nn.CrossEntropyLoss(reduction="sum", label_smoothing=0.1)

    def loss(self, batch):
        scores, labels = self.net(batch[0]), batch[1]
        if form == "argument":
            return F.cross_entropy(scores, labels, reduction="sum")
        if form == "module":
            return {"loss": module(scores, labels), "scores": scores.detach()}
        if form == "none":
            return F.cross_entropy(scores, labels, reduction="none").sum()
        if form == "negative":
            return -scores.log_softmax(1).gather(1, labels[:, None]).sum()
        if form == "hand":
            return (scores - F.one_hot(labels, 10)).pow(2).sum()
        return 0.5 * F.cross_entropy(scores, labels, reduction="sum") + scores.square().sum()

    found = findings(Trained(net(), loss), loader(*digits(160)), select=MINE)["LD211"]
    assert len(found) == 1
    assert "test_loss_checks_scaling.py:" in found[0].subject
    assert "summed over the batch" in found[0].message


def test_finds_a_sum_over_tokens():
    def loss(self, batch):
        return F.cross_entropy(self.net(batch[0]).flatten(0, 1), batch[1].flatten(), reduction="sum")

    assert findings(Trained(tagger(), loss), loader(*sequences()), select=MINE)["LD211"]


def test_finds_a_sum_in_structured_batches():
    inputs, labels = blobs()
    rows = [{"x": x, "y": (y, f"row {index}")} for index, (x, y) in enumerate(zip(inputs, labels, strict=True))]

    def loss(self, batch):
        return F.cross_entropy(self.net(batch["x"]), batch["y"][0], reduction="sum")

    data = torch.utils.data.DataLoader(rows, batch_size=32, shuffle=True)
    assert findings(Trained(mlp(8, 5), loss), data, select=MINE)["LD211"]


def test_finds_a_sum_with_dropout_on():
    net = nn.Sequential(mlp(8, 64), nn.Dropout(0.5), nn.Linear(64, 5))

    def loss(self, batch):
        return F.cross_entropy(self.net(batch[0]), batch[1], reduction="sum")

    assert findings(Trained(net, loss), loader(*blobs()), select=MINE)["LD211"]


@pytest.mark.parametrize(
    ("penalty", "second", "said"), [(0.5, 0.5, True), (0.5, 2.5, False), (0.0, 0.0, True), (9.0, 9.0, False)]
)
def test_a_penalty_on_weights_is_paid_by_each_part(penalty, second, said):
    parts = ((8.0 + penalty, 12.0), (5.0 + second, 15.0))
    seen = BatchScaling(samples=16, whole=20.0, cuts=(8, 4), parts=parts, terms=2, batches=20)
    assert bool(list(loss_summed_over_batch(Record([seen])))) is said


def a_sum(self, batch):
    return F.cross_entropy(self.net(batch[0]), batch[1], reduction="sum")


class DividedLater(Trained):
    """Divides the gradient of a sum by the number of samples that it is of."""

    def on_before_optimizer_step(self, optimizer):
        for parameter in self.parameters():
            self.divide(parameter)

    def divide(self, parameter):
        parameter.grad /= 32


class Watched(DividedLater):
    """Only looks at the gradient."""

    def divide(self, parameter):
        self.largest = float(parameter.grad.abs().max())


def test_gradients_that_a_hook_divides_are_no_sums():
    data = loader(*digits(160))
    assert not findings(DividedLater(mlp(64, 10), a_sum), data, select=MINE)
    assert "scales the gradients" in skips(DividedLater(mlp(64, 10), a_sum), data, select=MINE)["LD211"]
    assert findings(Watched(mlp(64, 10), a_sum), data, select=MINE)["LD211"]


def denoising(reduce):
    """Other noise and another amount of it in each call, as in diffusion."""

    def loss(self, batch):
        amount, noise = torch.rand(len(batch[0]), 1), torch.randn_like(batch[0])
        return reduce((self.net(batch[0] * (1 - amount) + noise * amount) - noise).square())

    return loss


@pytest.mark.parametrize(
    ("reduce", "said"),
    [
        (lambda errors: errors.sum(), True),
        (lambda errors: errors.mean(), False),
        (lambda errors: errors.sum(1).mean(), False),
        (lambda errors: errors.mean(1).sum(), True),
        (lambda errors: errors.sum() / len(errors), False),
        (lambda errors: errors.sum() + errors.mean(), False),
        (lambda errors: F.mse_loss(errors, torch.zeros_like(errors), reduction="sum"), True),
    ],
)
def test_sums_of_losses_that_draw(reduce, said):
    found = findings(Trained(mlp(8, 8), denoising(reduce)), loader(*blobs()), select=MINE)
    assert ("LD211" in found) is said


def test_no_sum_where_one_loss_compares_all_samples():
    def loss(self, batch):
        one, two = (F.normalize(self.net(batch[0] + 0.1 * torch.randn_like(batch[0]))) for _ in range(2))
        return F.cross_entropy(one @ two.T, torch.arange(len(one)), reduction="sum")

    assert not findings(Trained(mlp(8, 8), loss), loader(*blobs()), select=MINE)


def test_weights_that_add_up_to_one_make_a_mean_of_a_sum():
    def loss(self, batch):
        errors = (self.net(batch[0] + 0.3 * torch.randn_like(batch[0])) - batch[0]).square().mean(1)
        return (errors * torch.rand(len(errors)).softmax(0)).sum()

    assert not findings(Trained(mlp(8, 8), loss), loader(*blobs()), select=MINE)


@pytest.mark.parametrize("said", [True, False])
def test_sums_whose_draws_hardly_differ(said):
    def loss(self, batch):  # by luck halves seem to add up, to within a hundredth
        errors = (self.net(batch[0]) - batch[0]).square().mean(1) * (1 + 0.01 * torch.rand(()))
        return errors.sum() if said else errors.mean()

    assert ("LD211" in findings(Trained(mlp(8, 8), loss), loader(*blobs()), select=MINE)) is said
