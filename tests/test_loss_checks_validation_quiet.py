"""LD212 on programs whose two steps differ for good reasons."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.loss_programs import (
    Program,
    Trained,
    blobs,
    classify,
    compared,
    digits,
    findings,
    held_out,
    loader,
    mlp,
    segmenter,
    segments,
    sequences,
    skips,
    tagger,
)

MINE = ("LD212",)


def smoothed(self, batch):
    return F.cross_entropy(self.net(batch[0]), batch[1], label_smoothing=0.1)


def weighted(self, batch):
    return F.cross_entropy(self.net(batch[0]), batch[1], weight=torch.arange(1.0, 11.0))


def regularised(self, batch):
    return classify(self, batch) + 0.01 * sum(item.square().sum() for item in self.parameters())


def auxiliary(self, batch):
    scores = self.net(batch[0])
    return F.cross_entropy(scores, batch[1]) + 0.3 * F.cross_entropy(2 * scores.flip(0), batch[1].flip(0))


def mixed(self, batch):
    inputs, labels = batch
    order = torch.randperm(len(inputs))
    scores = self.net(0.7 * inputs + 0.3 * inputs[order])
    return 0.7 * F.cross_entropy(scores, labels) + 0.3 * F.cross_entropy(scores, labels[order])


def noisy(self, batch):
    return F.cross_entropy(self.net(batch[0] + torch.randn_like(batch[0])), batch[1])


def focal(self, batch):
    losses = F.cross_entropy(self.net(batch[0]), batch[1], reduction="none")
    return ((1 - (-losses).exp()) ** 2 * losses).mean()


def by_log_softmax(self, batch):
    return F.nll_loss(self.net(batch[0]).log_softmax(1), batch[1])


def idempotent(self, batch):
    return F.cross_entropy(self.net(batch[0]).log_softmax(1), batch[1])


def plain(self, batch):
    return {"val_loss": classify(self, batch), "val_acc": (self.net(batch[0]).argmax(1) == batch[1]).float().mean()}


@pytest.mark.parametrize(
    "train",
    [classify, smoothed, weighted, regularised, auxiliary, mixed, noisy, focal, by_log_softmax, idempotent],
)
def test_quiet_on_what_training_alone_has(train):
    assert not compared(mlp(64, 10), train, plain, digits(160))


@pytest.mark.parametrize(
    "log",
    [
        lambda self, b: {"val_loss": by_log_softmax(self, b)},
        lambda self, b: {"val_loss": idempotent(self, b)},
        lambda self, b: {"val_loss_sum": F.cross_entropy(self.net(b[0]), b[1], reduction="sum")},
        lambda self, b: {"val_total_loss": len(b[1]) * classify(self, b), "val_loss": classify(self, b)},
        lambda self, b: {"val_error": F.l1_loss(self.net(b[0]).softmax(1), F.one_hot(b[1], 10).float())},
        lambda self, b: {"val_acc": (self.net(b[0]).softmax(1).argmax(1) == b[1]).float().mean()},
        lambda self, b: {"val_loss": smoothed(self, b)},
        lambda self, b: {"val_loss": classify(self, b), "val_cold": F.cross_entropy(self.net(b[0]).softmax(1), b[1])},
    ],
)
def test_quiet_on_a_validation_that_logs_otherwise(log):
    assert not compared(mlp(64, 10), classify, log, digits(160))


def test_quiet_on_original_units():
    inputs = torch.randn(160, 8)
    targets = 40 * inputs[:, :1] + 300

    def train(self, batch):
        return F.mse_loss(self.net(batch[0]), (batch[1] - 300) / 40)

    def validate(self, batch):
        return {"val_loss": F.mse_loss(self.net(batch[0]) * 40 + 300, batch[1]), "val_mae": 39.5}

    assert not compared(mlp(8, 1), train, validate, (inputs, targets))


def test_quiet_on_a_sum_over_as_many_outputs_as_there_are_samples():
    def train(self, batch):
        return F.mse_loss(self.net(batch[0]), batch[1])

    def validate(self, batch):
        return {"val_mse": F.mse_loss(self.net(batch[0]), batch[1], reduction="none").sum(1).mean()}

    assert not compared(mlp(8, 8), train, validate, (torch.randn(160, 8), torch.randn(160, 8)))


class Accumulates(Trained):
    """The recipe of PyTorch's examples: summed in the step, divided by the number of samples at the end."""

    def validation_step(self, batch, batch_idx):
        self.total = getattr(self, "total", 0) + F.cross_entropy(self.net(batch[0]), batch[1], reduction="sum")
        return F.cross_entropy(self.net(batch[0]), batch[1], reduction="sum")

    def on_validation_epoch_end(self):
        self.log("val_loss", self.total / 160)
        self.total = 0


class LogsSums(Trained):
    def validation_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.net(batch[0]), batch[1], reduction="sum")
        self.log("val_loss", loss, reduce_fx="sum")


@pytest.mark.parametrize("kind", [Accumulates, LogsSums])
def test_quiet_on_sums_that_are_not_averaged(kind):
    data = digits(160)
    assert not findings(kind(mlp(64, 10), classify), loader(*data), held_out(*data), select=MINE)


def test_quiet_on_flattened_tokens_and_images():
    def flat(self, batch):
        return {"val_loss": F.cross_entropy(self.net(batch[0]).flatten(0, 1), batch[1].flatten())}

    def deep(self, batch):
        return F.cross_entropy(self.net(batch[0]).transpose(1, 2), batch[1])

    assert not compared(tagger(), deep, flat, sequences())

    def pixels(self, batch):
        return {"val_loss": F.cross_entropy(self.net(batch[0]).movedim(1, -1).flatten(0, 2), batch[1].flatten())}

    assert not compared(segmenter(3), classify, pixels, segments())


def test_quiet_on_two_binary_losses_that_are_one():
    inputs, labels = blobs(2)

    def logits(self, batch):
        return F.binary_cross_entropy_with_logits(self.net(batch[0]).squeeze(1), batch[1].float())

    def probabilities(self, batch):
        return {"val_loss": F.binary_cross_entropy(self.net(batch[0]).squeeze(1).sigmoid(), batch[1].float())}

    assert not compared(mlp(8, 1), logits, probabilities, (inputs, labels))


def test_quiet_before_anything_is_learned():
    net = mlp(64, 10)
    nn.init.zeros_(net[2].weight)
    nn.init.zeros_(net[2].bias)
    program = Program(
        net, classify, lambda self, b: {"val_loss": F.cross_entropy(self.net(b[0]).softmax(1), b[1])}, lr=0
    )
    assert not findings(program, loader(*digits(160)), held_out(*digits(160)), select=MINE)


def test_says_why_it_cannot_judge():
    inputs, labels = digits(160)

    def pairs(self, batch):
        return F.cross_entropy(self.net(batch[0]) + self.net(batch[1]), batch[2])

    other = skips(
        Program(mlp(64, 10), pairs, plain), loader(inputs, inputs, labels), held_out(inputs, labels), select=MINE
    )
    assert "training_step raises" in other["LD212"]
    none = skips(Trained(mlp(64, 10), classify), loader(inputs, labels), select=MINE)
    assert none["LD212"]
