"""LD209 on tasks that look like others."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.loss_programs import Program, Trained, blobs, digits, findings, held_out, loader, mlp

MINE = ("LD209",)


def accuracy(self, batch):
    return {"val_acc": (self.net(batch[0]).squeeze(-1).round() == batch[1]).float().mean()}


def label_mse(self, batch):
    return F.mse_loss(self.net(batch[0]).squeeze(-1), batch[1].float())


def ordered(classes, count=160, noise=0.3):
    """Inputs in which the order of the labels shows."""
    labels = torch.randint(0, classes, (count,))
    return torch.stack([labels / classes + noise * torch.randn(count) / classes for _ in range(4)], 1) - 0.5, labels


def ratings(seed=0):
    inputs, labels = ordered(5)
    return inputs, labels


def counts():
    inputs = torch.randn(160, 4)
    return inputs, torch.poisson(torch.exp(0.6 * inputs[:, 0] + 0.3)).long()


def ages():
    inputs, labels = ordered(80)
    return inputs, labels


@pytest.mark.parametrize(
    ("data", "logged"),
    [
        (ratings, {}),
        (ratings, {"val_mae": 1.0, "val_acc": 1.0}),
        (ratings, {"val_acc": 1.0}),
        (ratings, {"val_qwk": 1.0, "val_accuracy": 1.0}),
        (counts, {}),
        (counts, {"val_rmse": 1.0}),
        (ages, {}),
        (ages, {"val_r2": 1.0}),
    ],
    ids=lambda item: getattr(item, "__name__", str(sorted(item)) if isinstance(item, dict) else ""),
)
def test_quiet_on_amounts_that_are_whole_numbers(data, logged):
    inputs, labels = data()
    program = Program(mlp(4, 1), label_mse, lambda self, batch: logged)
    assert not findings(program, loader(inputs, labels), held_out(inputs, labels), select=MINE)


def test_quiet_on_two_classes_by_squares():
    inputs, labels = blobs(2)
    assert not findings(Program(mlp(8, 1), label_mse, accuracy), loader(inputs, labels), held_out(inputs, labels))


def test_quiet_on_integer_targets_that_the_inputs_do_not_tell_apart():
    inputs, labels = torch.randn(160, 8), torch.randint(0, 6, (160,))
    assert not findings(Trained(mlp(8, 1), label_mse), loader(inputs, labels), select=MINE)


class Brier(Trained):
    def training_step(self, batch, batch_idx):
        probabilities = self.net(batch[0]).softmax(-1)
        return brier_score(probabilities, F.one_hot(batch[1], 10).float())


def brier_score(probabilities, target):
    return F.mse_loss(probabilities, target)


def test_quiet_on_the_brier_score_stated_in_the_source():
    assert not findings(Brier(mlp(64, 10), None), loader(*digits()), select=MINE)


def test_quiet_on_the_brier_score_stated_in_a_name():
    def loss(self, batch):
        return F.mse_loss(self.net(batch[0]), F.one_hot(batch[1], 10).float())

    net = mlp(64, 10, nn.Softmax(-1))
    program = Trained(net, loss, logged=lambda self, batch: {"train/Brier": 0.5})
    assert not findings(program, loader(*digits()), select=MINE)


def test_quiet_on_distillation():
    teacher = mlp(64, 10).eval().requires_grad_(False)

    def loss(self, batch):
        return F.mse_loss(self.net(batch[0]).softmax(-1), teacher(batch[0]).softmax(-1))

    assert not findings(Trained(mlp(64, 10), loss), loader(*digits()), select=MINE)


@pytest.mark.parametrize("length", [(), (5,)])
def test_quiet_on_two_classes(length):
    inputs, labels = torch.randn(160, *length, 8), torch.randint(0, 2, (160, *length))

    def loss(self, batch):
        return F.cross_entropy(self.net(batch[0]).movedim(-1, 1), batch[1])

    assert not findings(Trained(mlp(8, 2), loss), loader(inputs, labels))


def test_quiet_on_squares_of_raw_scores():
    def loss(self, batch):
        return F.mse_loss(self.net(batch[0]), F.one_hot(batch[1], 10).float())

    assert not findings(Trained(mlp(64, 10), loss), loader(*digits()), select=MINE)


def test_quiet_on_labels_that_a_gan_smooths():
    def loss(self, batch):
        scores = self.net(batch[0])
        real = torch.empty_like(scores).uniform_(0.7, 1.4)
        return F.binary_cross_entropy_with_logits(scores, real)

    assert not findings(Trained(mlp(64, 1), loss), loader(*digits()), select=MINE)


def test_quiet_on_missing_labels_that_are_masked():
    inputs = torch.randn(160, 8)
    labels = torch.randint(-1, 2, (160, 4)).float()

    def unreduced(self, batch):
        loss = F.binary_cross_entropy_with_logits(self.net(batch[0]), batch[1], reduction="none")
        mask = batch[1] >= 0
        return (loss * mask).sum() / mask.sum()

    def weighted(self, batch):
        return F.binary_cross_entropy_with_logits(self.net(batch[0]), batch[1], weight=(batch[1] >= 0).float())

    for loss in (unreduced, weighted):
        assert not findings(Trained(mlp(8, 4), loss), loader(inputs, labels), select=MINE)


@pytest.mark.parametrize("how", ["normalised", "mixup", "autoencoder", "several", "smoothed"])
def test_quiet_on_soft_targets(how):
    inputs = torch.randn(160, 8)
    several = (torch.rand(160, 8) < 0.4).float()
    several[:, 0] = 1

    def loss(self, batch):
        x, y = batch[0], batch[-1]
        if how == "autoencoder":
            return F.cross_entropy(self.net(y), y)
        if how == "several":
            return F.binary_cross_entropy_with_logits(self.net(x), y)
        if how == "normalised":
            return F.cross_entropy(self.net(x), y / y.sum(1, keepdim=True))
        labels = F.one_hot(y.argmax(1), 8).float()
        if how == "mixup":
            return F.cross_entropy(self.net(x), 0.7 * labels + 0.3 * labels.roll(1, 0))
        return F.cross_entropy(self.net(x), labels, label_smoothing=0.1)

    data = loader(several) if how == "autoencoder" else loader(inputs, several)
    assert not findings(Trained(mlp(8, 8), loss), data, select=MINE)


def test_quiet_on_a_regression_of_numbers_that_happen_to_be_real():
    inputs = torch.randn(160, 8)
    targets = inputs @ torch.randn(8, 1)
    assert not findings(Trained(mlp(8, 1), lambda self, b: F.mse_loss(self.net(b[0]), b[1])), loader(inputs, targets))


def test_quiet_on_a_count_beside_a_classification():
    inputs, labels = digits()
    counts = torch.randint(0, 4, (160,))

    def both(self, batch):
        scores = self.net(batch[0])
        return F.cross_entropy(scores[:, :10], batch[1]) + F.mse_loss(scores[:, 10], batch[2].float())

    data = loader(inputs, labels, counts), held_out(inputs, labels, counts)
    assert not findings(Program(mlp(64, 11), both, lambda self, b: {"val_acc": 0.9}), *data, select=MINE)
