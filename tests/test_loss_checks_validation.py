"""LD212: the same batch gives another loss in validation_step than in training_step, by a mistake."""

import pytest
import torch
from torch.nn import functional as F

from tests.loss_programs import (
    Program,
    blobs,
    classify,
    compared,
    digits,
    findings,
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


def regularised(self, batch):
    return classify(self, batch) + 0.01 * sum(item.square().sum() for item in self.parameters())


def by_log_softmax(self, batch):
    return F.nll_loss(self.net(batch[0]).log_softmax(1), batch[1])


def soft(self, batch):
    return {"val_loss": F.cross_entropy(self.net(batch[0]).softmax(1), batch[1])}


@pytest.mark.parametrize(
    ("net", "data"), [(lambda: mlp(64, 10), digits), (lambda: segmenter(3), segments)], ids=["table", "image"]
)
@pytest.mark.parametrize("train", [classify, smoothed, by_log_softmax, regularised])
def test_finds_a_softmax_in_validation_only(net, data, train):
    (found,) = compared(net(), train, soft, data())
    assert "validation takes a softmax first" in found.message
    assert found.measured["relation"] == "softmax"
    assert "test_loss_checks_validation.py:" in found.subject


def test_finds_a_softmax_over_another_dimension():
    def validate(self, batch):
        return {"val_loss": F.cross_entropy(self.net(batch[0]).softmax(2).transpose(1, 2), batch[1])}

    def train(self, batch):
        return F.cross_entropy(self.net(batch[0]).transpose(1, 2), batch[1])

    (found,) = compared(tagger(), train, validate, sequences())
    assert found.measured["relation"] == "softmax"


def test_finds_a_sigmoid_in_validation_only():
    inputs, labels = blobs(2)

    def train(self, batch):
        return F.binary_cross_entropy_with_logits(self.net(batch[0]).squeeze(1), batch[1].float())

    def validate(self, batch):
        loss = F.binary_cross_entropy_with_logits(self.net(batch[0]).squeeze(1).sigmoid(), batch[1].float())
        return {"val_loss": loss}

    (found,) = compared(mlp(8, 1), train, validate, (inputs, labels))
    assert "validation takes a sigmoid first" in found.message


@pytest.mark.parametrize("logits", [True, False])
def test_finds_scores_given_to_nll_loss(logits):
    def validate(self, batch):
        scores = self.net(batch[0])
        return {"val_loss": F.nll_loss(scores if logits else scores.softmax(1), batch[1])}

    (found,) = compared(mlp(64, 10), classify, validate, digits(160))
    assert found.measured["relation"] == ("unnormalised" if logits else "softmax")


@pytest.mark.parametrize("how", ["reduction", "times"])
@pytest.mark.parametrize("form", ["table", "tokens"])
def test_finds_a_sum_that_is_logged_as_the_loss(how, form):
    net, data = (mlp(64, 10), digits(160)) if form == "table" else (tagger(), sequences())

    def train(self, batch):
        return F.cross_entropy(self.net(batch[0]).flatten(0, -2), batch[1].flatten())

    def validate(self, batch):
        if how == "times":
            return {"val/loss": train(self, batch) * len(batch[0]), "val/acc": 0.5}
        scores = self.net(batch[0]).flatten(0, -2)
        return {"val/loss": F.cross_entropy(scores, batch[1].flatten(), reduction="sum")}

    (found,) = compared(net, train, validate, data)
    assert "'val/loss' is" in found.message


def test_finds_a_mean_that_is_divided_again():
    def validate(self, batch):
        return {"val_loss": classify(self, batch) / len(batch[1])}

    (found,) = compared(mlp(64, 10), classify, validate, digits(160))
    assert found.measured["relation"] == "divided"
    assert "without a division by the number of samples" in found.fix


@pytest.mark.parametrize("name", ["val_mae", "val_nll"])
def test_finds_a_sum_under_a_name_that_says_mean(name):
    def train(self, batch):
        loss = classify(self, batch)
        self.log("train_nll", loss)
        return loss

    def validate(self, batch):
        return {name: F.cross_entropy(self.net(batch[0]), batch[1], reduction="sum")}

    (found,) = compared(mlp(64, 10), train, validate, digits(160))
    assert f"{name!r} is" in found.message


def test_finds_scores_that_are_reshaped_for_transposed():
    def train(self, batch):
        return F.cross_entropy(self.net(batch[0]).transpose(1, 2), batch[1])

    def validate(self, batch):
        scores = self.net(batch[0])
        return {"val_loss": F.cross_entropy(scores.reshape(len(scores), 6, -1), batch[1])}

    (found,) = compared(tagger(), train, validate, sequences())
    assert "another order" in found.message


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("which", ["validation", "training"])
def test_finds_labels_that_one_step_does_not_shift(flat, which):
    def shifted(self, batch):
        scores, labels = self.net(batch[0])[:, :-1], batch[0][:, 1:]
        return F.cross_entropy(scores.flatten(0, 1), labels.flatten()) if flat else deep(scores, labels)

    def unshifted(self, batch):
        scores, labels = self.net(batch[0]), batch[0]
        return F.cross_entropy(scores.flatten(0, 1), labels.flatten()) if flat else deep(scores, labels)

    def deep(scores, labels):
        return F.cross_entropy(scores.transpose(1, 2), labels)

    train, val = (shifted, unshifted) if which == "validation" else (unshifted, shifted)
    (found,) = compared(tagger(12), train, lambda self, b: {"val_loss": val(self, b)}, sequences())
    assert "moved by one position" in found.message


def test_finds_it_in_other_batches():
    inputs, labels = digits(160)
    rows = [{"x": x, "y": y} for x, y in zip(inputs, labels, strict=True)]

    def train(self, batch):
        return {"loss": F.cross_entropy(self.net(batch["x"]), batch["y"])}

    def validate(self, batch):
        return {"valid_loss": F.cross_entropy(self.net(batch["x"]).softmax(-1), batch["y"])}

    one, two = (torch.utils.data.DataLoader(rows, batch_size=32, shuffle=shuffle) for shuffle in (True, False))
    assert findings(Program(mlp(64, 10), train, validate), one, two, num_sanity_val_steps=0, select=MINE)["LD212"]


class Opaque:
    """A batch that only its owner knows how to read."""

    def __init__(self, rows):
        self.inputs = torch.stack([row[0] for row in rows])
        self.labels = torch.stack([row[1] for row in rows])

    def to(self, device):
        return self


def test_finds_it_in_batches_that_cannot_be_cut():
    rows = list(zip(*digits(160), strict=True))

    def train(self, batch):
        return F.cross_entropy(self.net(batch.inputs), batch.labels)

    def validate(self, batch):
        return {"val_loss": F.cross_entropy(self.net(batch.inputs).softmax(1), batch.labels)}

    class Sized(Program):
        def validation_step(self, batch, batch_idx):
            self.log_dict(self.validate(self, batch), batch_size=len(batch.inputs))

    options = {"batch_size": 32, "collate_fn": Opaque}
    data = torch.utils.data.DataLoader(rows, shuffle=True, **options), torch.utils.data.DataLoader(rows, **options)
    assert findings(Sized(mlp(64, 10), train, validate), *data, max_epochs=2, select=MINE)["LD212"]
    again = skips(Sized(mlp(64, 10), train, validate), *data, max_epochs=1, select=MINE)
    assert "Opaque, whose samples are not known" in again["LD212"]


def pinball(self, batch):
    gap = batch[1] - self.net(batch[0])
    return torch.max(0.9 * gap, -0.1 * gap)


@pytest.mark.parametrize(
    ("reduce", "name", "found"),
    [
        (lambda loss: loss.sum(1).mean(), "val_loss", True),
        (lambda loss: loss.mean(0).sum(), "val_pinball_loss", True),
        (lambda loss: loss.mean(), "val_loss", False),
        (lambda loss: loss.sum(1).mean(), "val_loss_sum", False),
        (lambda loss: 11.5 * loss.mean(), "val_loss", False),  # in the unit of the data
        (lambda loss: loss.mean(1).sum(), "val_cost", False),
    ],
)
def test_finds_a_sum_of_a_loss_made_by_hand(reduce, name, found):
    def train(self, batch):
        loss = pinball(self, batch).mean()
        self.log_dict({"train_loss": loss, "train_pinball_loss": loss})
        return loss

    data = torch.randn(160, 8), torch.randn(160, 12)
    told = compared(mlp(8, 12), train, lambda self, batch: {name: reduce(pinball(self, batch))}, data)
    assert bool(told) is found
    if found:
        assert "12 times the mean" in told[0].message
