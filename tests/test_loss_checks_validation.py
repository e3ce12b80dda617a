"""LD212: the same batch gives another loss in validation_step than in training_step, by a mistake."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.loss_programs import Program, Trained, blobs, digits, findings, held_out, loader, mlp, skips

MINE = ("LD212",)


def classify(self, batch):
    return F.cross_entropy(self.net(batch[0]), batch[1])


def conv(outputs):
    layers = [nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3)]
    return nn.Sequential(*layers, nn.Conv2d(8, outputs, 1))


def tagger(outputs=6):
    return nn.Sequential(nn.Embedding(12, 16), nn.Linear(16, outputs))


def sequences(count=160, length=9):
    tokens = torch.randint(0, 12, (count, length))
    return tokens, (tokens * 5 + 1) % 6


def segments(count=160):
    inputs, _ = digits(count)
    return inputs, torch.bucketize(inputs, torch.tensor([-0.2, 0.2])).reshape(-1, 8, 8)


def run(net, train, validate, data, **options):
    options = {"select": MINE, "max_epochs": 1, **options}
    return findings(Program(net, train, validate, lr=1e-2), loader(*data), held_out(*data), **options).get("LD212", [])


# ------------------------------------------------------------------------------------------------ healthy look-alikes


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
    assert not run(mlp(64, 10), train, plain, digits(160))


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
    assert not run(mlp(64, 10), classify, log, digits(160))


def test_quiet_on_original_units():
    inputs = torch.randn(160, 8)
    targets = 40 * inputs[:, :1] + 300

    def train(self, batch):
        return F.mse_loss(self.net(batch[0]), (batch[1] - 300) / 40)

    def validate(self, batch):
        return {"val_loss": F.mse_loss(self.net(batch[0]) * 40 + 300, batch[1]), "val_mae": 39.5}

    assert not run(mlp(8, 1), train, validate, (inputs, targets))


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

    assert not run(tagger(), deep, flat, sequences())

    def pixels(self, batch):
        return {"val_loss": F.cross_entropy(self.net(batch[0]).movedim(1, -1).flatten(0, 2), batch[1].flatten())}

    assert not run(conv(3), classify, pixels, segments())


def test_quiet_on_two_binary_losses_that_are_one():
    inputs, labels = blobs(2)

    def logits(self, batch):
        return F.binary_cross_entropy_with_logits(self.net(batch[0]).squeeze(1), batch[1].float())

    def probabilities(self, batch):
        return {"val_loss": F.binary_cross_entropy(self.net(batch[0]).squeeze(1).sigmoid(), batch[1].float())}

    assert not run(mlp(8, 1), logits, probabilities, (inputs, labels))


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


# ------------------------------------------------------------------------------------------------------------- faults


def soft(self, batch):
    return {"val_loss": F.cross_entropy(self.net(batch[0]).softmax(1), batch[1])}


@pytest.mark.parametrize(
    ("net", "data"), [(lambda: mlp(64, 10), digits), (lambda: conv(3), segments)], ids=["table", "image"]
)
@pytest.mark.parametrize("train", [classify, smoothed, by_log_softmax, regularised])
def test_finds_a_softmax_in_validation_only(net, data, train):
    (found,) = run(net(), train, soft, data())
    assert "validation takes a softmax first" in found.message
    assert found.measured["relation"] == "softmax"
    assert "test_loss_checks_validation.py:" in found.subject


def test_finds_a_softmax_over_another_dimension():
    def validate(self, batch):
        return {"val_loss": F.cross_entropy(self.net(batch[0]).softmax(2).transpose(1, 2), batch[1])}

    def train(self, batch):
        return F.cross_entropy(self.net(batch[0]).transpose(1, 2), batch[1])

    (found,) = run(tagger(), train, validate, sequences())
    assert found.measured["relation"] == "softmax"


def test_finds_a_sigmoid_in_validation_only():
    inputs, labels = blobs(2)

    def train(self, batch):
        return F.binary_cross_entropy_with_logits(self.net(batch[0]).squeeze(1), batch[1].float())

    def validate(self, batch):
        loss = F.binary_cross_entropy_with_logits(self.net(batch[0]).squeeze(1).sigmoid(), batch[1].float())
        return {"val_loss": loss}

    (found,) = run(mlp(8, 1), train, validate, (inputs, labels))
    assert "validation takes a sigmoid first" in found.message


@pytest.mark.parametrize("logits", [True, False])
def test_finds_scores_given_to_nll_loss(logits):
    def validate(self, batch):
        scores = self.net(batch[0])
        return {"val_loss": F.nll_loss(scores if logits else scores.softmax(1), batch[1])}

    (found,) = run(mlp(64, 10), classify, validate, digits(160))
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

    (found,) = run(net, train, validate, data)
    assert "'val/loss' is" in found.message


def test_finds_scores_that_are_reshaped_for_transposed():
    def train(self, batch):
        return F.cross_entropy(self.net(batch[0]).transpose(1, 2), batch[1])

    def validate(self, batch):
        scores = self.net(batch[0])
        return {"val_loss": F.cross_entropy(scores.reshape(len(scores), 6, -1), batch[1])}

    (found,) = run(tagger(), train, validate, sequences())
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
    (found,) = run(tagger(12), train, lambda self, b: {"val_loss": val(self, b)}, sequences())
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
