"""LD209: the loss is one for another kind of task than the targets are."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_debug.evidence.loss import LossCall, LossGraph, Operand
from lightning_debug.finding import Severity
from lightning_debug.record import Record
from lightning_debug.rules.ld209_loss_does_not_fit_task import loss_does_not_fit_task
from tests.loss_programs import Program, Trained, blobs, digits, findings, held_out, loader, mlp

MINE = ("LD209",)


def accuracy(self, batch):
    return {"val_acc": (self.net(batch[0]).squeeze(-1).round() == batch[1]).float().mean()}


def label_mse(self, batch):
    return F.mse_loss(self.net(batch[0]).squeeze(-1), batch[1].float())


class Recurrent(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.cell, self.head = nn.GRU(8, 16, batch_first=True), nn.Linear(16, outputs)

    def forward(self, x):
        return self.head(self.cell(x.reshape(len(x), 8, 8))[0][:, -1])


def conv(outputs):
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, outputs)
    )


@pytest.mark.parametrize("net", [lambda: mlp(64, 1), lambda: conv(1), lambda: Recurrent(1)])
@pytest.mark.parametrize("loss", [F.mse_loss, F.l1_loss, F.smooth_l1_loss])
def test_finds_a_distance_to_class_labels(net, loss):
    def distance(self, batch):
        return loss(self.net(batch[0]).squeeze(-1), batch[1].float())

    found = findings(Program(net(), distance, accuracy), loader(*digits()), held_out(*digits()), select=MINE)["LD209"]
    assert len(found) == 1
    assert "10 class labels 0 … 9 of batch[1]" in found[0].message
    assert "test_loss_checks_task.py:" in found[0].subject


def test_finds_class_labels_by_their_lack_of_order():
    found = findings(Trained(mlp(64, 1), label_mse), loader(*digits(1280)), max_epochs=2, select=MINE)["LD209"]
    assert found[0].measured["rank_correlation"] < 0.2
    assert found[0].measured["separation_p"] <= 0.01


def test_finds_class_labels_in_other_batches():
    inputs, labels = digits()
    rows = [{"x": x, "y": {"label": label}} for x, label in zip(inputs, labels, strict=True)]

    def loss(self, batch):
        return ((self.net(batch["x"])[:, 0] - batch["y"]["label"]) ** 2).mean()

    def validate(self, batch):
        return {"val/f1": 0.5}

    train, val = (torch.utils.data.DataLoader(rows, batch_size=32, shuffle=shuffle) for shuffle in (True, False))
    found = findings(Program(mlp(64, 1), loss, validate), train, val, select=MINE)
    assert "batch['y']['label']" in found["LD209"][0].message


@pytest.mark.parametrize("form", ["table", "image", "sequence"])
def test_finds_squares_of_a_softmax(form):
    inputs, labels = digits()
    if form == "table":
        net, target = mlp(64, 10, nn.Softmax(-1)), F.one_hot(labels, 10).float()
    elif form == "image":
        net = nn.Sequential(nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 3, 3, padding=1), nn.Softmax(1))
        target = F.one_hot(torch.bucketize(inputs, torch.tensor([0.0, 0.4])), 3).float()
        target = target.reshape(-1, 8, 8, 3).movedim(-1, 1)
    else:
        net = nn.Sequential(nn.Unflatten(1, (8, 8)), nn.Linear(8, 4), nn.Softmax(-1))
        target = F.one_hot(torch.randint(0, 4, (160, 8)), 4).float()

    def loss(self, batch):
        return F.mse_loss(self.net(batch[0]), batch[1])

    found = findings(Trained(net, loss), loader(inputs, target), select=MINE)["LD209"]
    assert "softmax probabilities" in found[0].message


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda x, y: (y > 4).float() + 1, "from 1 to 2"),
        (lambda x, y: 2 * (y > 4).float() - 1, "from -1 to 1"),
        (lambda x, y: x.sum(1), "outside of 0 to 1"),
        (lambda x, y: y.float(), "from 0 to 9"),
    ],
)
def test_finds_binary_cross_entropy_beyond_its_range(make, text):
    inputs, labels = digits()

    def loss(self, batch):
        return F.binary_cross_entropy_with_logits(self.net(batch[0]).squeeze(1), batch[1])

    found = findings(Trained(conv(1), loss), loader(inputs, make(inputs, labels)), select=MINE)["LD209"]
    assert text in found[0].message


def test_binary_cross_entropy_that_falls_below_zero_is_an_error():
    target = Operand(
        shape=(8,), from_batch=True, minimum=0.0, maximum=255.0, integral=True, distinct=2, share_in_unit=0.9
    )
    call = LossCall(
        function="binary_cross_entropy_with_logits",
        line="a.py:3",
        reduction="mean",
        scores=Operand(shape=(8,)),
        target=target,
    )
    graphs = [LossGraph(loss=loss, calls=(call,)) for loss in (0.5, -7.25)]
    said = [next(iter(loss_does_not_fit_task(Record(graphs[:count])))) for count in (1, 2)]
    assert [claim.severity for claim in said] == [None, Severity.ERROR]
    assert "fallen to -7.25" in said[1].message


@pytest.mark.parametrize("form", ["cross_entropy", "softmax", "image"])
def test_finds_a_softmax_over_several_labels(form):
    inputs, _ = digits()
    target = (torch.rand(160, 6) < 0.4).float()
    if form == "image":
        target = (torch.rand(160, 6, 8, 8) < 0.4).float()
    net = nn.Sequential(nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 6, 3, padding=1)) if form == "image" else mlp(64, 6)

    def loss(self, batch):
        scores = self.net(batch[0])
        if form == "softmax":
            return F.binary_cross_entropy(scores.softmax(-1), batch[1])
        return F.cross_entropy(scores, batch[1])

    found = findings(Trained(net, loss), loader(inputs, target), select=MINE)["LD209"]
    assert "labels, of which up to" in found[0].message


def test_finds_cross_entropy_of_one_score():
    inputs, labels = blobs(2)

    def loss(self, batch):
        return F.cross_entropy(self.net(batch[0]), batch[1].float().unsqueeze(1))

    assert "1 score" in findings(Trained(mlp(8, 1), loss), loader(inputs, labels), select=MINE)["LD209"][0].message
