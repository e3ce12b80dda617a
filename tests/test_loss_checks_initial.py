"""LD210: the loss begins far above what a model pays that knows nothing."""

import pytest
import torch
from sklearn.datasets import load_diabetes
from torch import nn
from torch.nn import functional as F

from tests.loss_programs import Trained, blobs, digits, findings, loader, mlp, skips

MINE = ("LD210",)


def classify(self, batch):
    return F.cross_entropy(self.net(batch[0]), batch[1])


def conv(outputs, *, norm=True):
    norms = [nn.BatchNorm2d(16)] if norm else []
    layers = [nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 16, 3, padding=1), *norms, nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(1024, outputs))


class LanguageModel(nn.Module):
    def __init__(self, vocabulary=200, width=64, tied=None, scale=1.0):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.embedding.weight, std=scale)
        self.mixer, self.head = nn.GRU(width, width, batch_first=True), nn.Linear(width, vocabulary)
        self.norm = nn.LayerNorm(width)
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, tokens):
        return self.head(self.norm(self.mixer(self.embedding(tokens))[0]))


def next_token(self, batch):
    logits = self.net(batch[0][:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), batch[0][:, 1:].flatten())


def kaiming(net):
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return net


def scaled(net, scale):
    with torch.no_grad():
        net[-1].weight.mul_(scale)
    return net


# ------------------------------------------------------------------------------------------------ healthy look-alikes


@pytest.mark.parametrize(
    "net", [lambda: mlp(64, 10), lambda: kaiming(mlp(64, 10)), lambda: conv(10), lambda: kaiming(conv(10))]
)
def test_quiet_on_usual_initialisations(net):
    assert not findings(Trained(net(), classify), loader(*digits()), select=MINE)


@pytest.mark.parametrize("options", [{}, {"vocabulary": 30_000, "width": 8}, {"tied": True, "scale": 0.02}])
def test_quiet_on_language_models(options):
    tokens = torch.randint(0, 200, (160, 12))
    assert not findings(Trained(LanguageModel(**options), next_token), loader(tokens), select=MINE)


def test_quiet_on_smoothing_and_weights():
    weight = torch.tensor([10.0, 1, 1, 1, 1, 0.01, 1, 1, 1, 1])
    rare = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(50.0))
    losses = [
        lambda self, b: F.cross_entropy(self.net(b[0]), b[1], label_smoothing=0.2),
        lambda self, b: F.cross_entropy(self.net(b[0]), b[1], weight=weight),
        lambda self, b: rare(self.net(b[0])[:, 0], (b[1] == 0).float()),
        lambda self, b: 20 * F.cross_entropy(self.net(b[0]), b[1]),
        lambda self, b: F.cross_entropy(self.net(b[0]), b[1]) + 5 * self.net(b[0]).square().mean() + 30,
    ]
    for loss in losses:
        assert not findings(Trained(mlp(64, 10), loss), loader(*digits(160)), select=MINE)


def test_quiet_on_targets_with_an_offset():
    data = load_diabetes()
    inputs = torch.tensor(data.data, dtype=torch.float32) * 20
    targets = torch.tensor(data.target, dtype=torch.float32)
    for loss in (F.mse_loss, F.l1_loss, F.smooth_l1_loss):

        def regress(self, batch, loss=loss):
            return loss(self.net(batch[0]).squeeze(1), batch[1])

        assert not findings(Trained(mlp(10, 1), regress), loader(inputs, targets), select=MINE)


def test_quiet_on_tiny_targets():
    inputs = torch.randn(160, 8)
    program = Trained(mlp(8, 1), lambda self, b: F.mse_loss(self.net(b[0]), b[1]))
    assert not findings(program, loader(inputs, 0.001 * inputs[:, :1]), select=MINE)


def test_quiet_on_targets_that_the_model_makes():
    net = scaled(mlp(8, 1), 100.0)
    target = mlp(8, 1).requires_grad_(False)
    program = Trained(net, lambda self, b: F.mse_loss(self.net(b[0]), 0.1 * target(b[0])))
    assert not findings(program, loader(torch.randn(160, 8)), select=MINE)


def test_quiet_on_a_loss_that_is_right_after_one_odd_batch():
    inputs, labels = blobs(4, 160)
    inputs[:32] *= 200
    program = Trained(mlp(8, 4), classify, lr=1e-4)
    assert not findings(program, loader(inputs, labels, shuffle=False), select=MINE)


def test_says_that_the_weights_were_trained_before():
    inputs, labels = digits()
    net = conv(10)
    program = Trained(net, classify, lr=3e-3)
    findings(program, loader(inputs, labels), max_epochs=5, select=MINE)
    scaled(net, 20)  # sure of its answers
    again = Trained(net, classify, lr=1e-6)
    assert "trained before" in skips(again, loader(inputs, (labels + 3) % 10), select=MINE)["LD210"]


def test_quiet_on_a_second_fit_with_other_classes():
    inputs, labels = blobs(4, 320)
    program = Trained(mlp(8, 4), classify, lr=0.05)
    first, second = labels < 2, labels >= 2
    findings(program, loader(inputs[first], labels[first]), max_epochs=20, select=MINE)
    assert "an earlier fit" in skips(program, loader(inputs[second], labels[second]), select=MINE)["LD210"]


def test_says_that_training_is_resumed(tmp_path):
    program = Trained(scaled(mlp(64, 10), 100), classify)
    findings(program, loader(*digits()), max_epochs=1)
    program.trainer.save_checkpoint(tmp_path / "one.ckpt")
    from lightning_debug import Debugger
    from tests.helpers import trainer

    debugger = Debugger(strict=True, console=False, select=list(MINE))
    trainer(debugger, max_epochs=2).fit(program, loader(*digits()), ckpt_path=tmp_path / "one.ckpt", weights_only=False)
    assert not debugger.report.findings
    assert [skip.reason for skip in debugger.report.skips] == ["training continues from a checkpoint"]


def test_says_that_too_little_was_seen():
    net = scaled(mlp(64, 10), 1000)
    assert "of the first steps" in skips(Trained(net, classify), loader(*digits(60)), select=MINE)["LD210"]
    one = loader(*digits(4), batch_size=1)
    assert "fewer than 16 targets" in skips(Trained(net, classify), one, select=MINE)["LD210"]


def test_says_that_the_loss_is_not_known():
    program = Trained(mlp(64, 10), lambda self, b: -self.net(b[0]).log_softmax(1)[:, 0].mean())
    assert "not the value of one loss function" in skips(program, loader(*digits()), select=MINE)["LD210"]


# ------------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize("net", [lambda: scaled(mlp(64, 10), 100), lambda: scaled(conv(10), 100)])
def test_finds_a_last_layer_that_is_too_large(net):
    found = findings(Trained(net(), classify), loader(*digits()), select=MINE)["LD210"]
    assert len(found) == 1
    assert found[0].measured["ratio"] > 3
    assert "(ln 10)" in found[0].message
    assert found[0].subject.startswith("net.")


def test_finds_it_for_two_classes():
    found = findings(Trained(scaled(mlp(8, 2), 200), classify), loader(*blobs(2)), select=MINE)
    assert "(ln 2)" in found["LD210"][0].message


def test_finds_tied_embeddings_of_unit_variance():
    tokens = torch.randint(0, 200, (160, 12))
    program = Trained(LanguageModel(tied=True, width=256), next_token)
    (found,) = findings(program, loader(tokens), select=MINE)["LD210"]
    assert "ln 200" in found.message
    assert "weights of `net.embedding`, which are those of `net.head` too" in found.fix


class Cosines(nn.Module):
    """The cosine of an embedding and of each class's direction."""

    def __init__(self):
        super().__init__()
        self.body, self.directions = mlp(64, 16), nn.Parameter(torch.randn(10, 16))

    def forward(self, inputs):
        return F.linear(F.normalize(self.body(inputs)), F.normalize(self.directions))


@pytest.mark.parametrize("form", ["angle", "difference"])
def test_quiet_on_margins(form):
    def loss(self, batch):
        margin = 0.3 * F.one_hot(batch[1], 10)
        cosines = self.net(batch[0]).clamp(-0.999, 0.999)
        scores = torch.cos(torch.acos(cosines) + margin) if form == "angle" else cosines - margin
        return F.cross_entropy(30 * scores, batch[1])

    assert "LD210" not in findings(Trained(Cosines(), loss), loader(*digits()), select=MINE)


def test_names_the_factor_behind_the_last_layer():
    def loss(self, batch):
        return F.cross_entropy(self.net(batch[0]) / 0.01, batch[1])

    (found,) = findings(Trained(Cosines(), loss), loader(*digits()), select=MINE)["LD210"]
    assert "multiplied by 100 at" in found.fix


@pytest.mark.parametrize("sigmoid", [True, False])
def test_finds_binary_scores_that_are_too_large(sigmoid):
    inputs, labels = blobs(2)

    def loss(self, batch):
        scores = self.net(300 * batch[0]).squeeze(1)
        if sigmoid:
            return F.binary_cross_entropy(scores.sigmoid(), batch[1].float())
        return F.binary_cross_entropy_with_logits(scores, batch[1].float())

    assert "(ln 2)" in findings(Trained(mlp(8, 1), loss), loader(inputs, labels), select=MINE)["LD210"][0].message


@pytest.mark.parametrize("loss", [F.mse_loss, F.l1_loss])
def test_finds_outputs_far_beyond_the_targets(loss):
    inputs = torch.randn(160, 8)
    targets = inputs @ torch.randn(8, 1) / 3
    program = Trained(scaled(mlp(8, 1), 100), lambda self, b: loss(self.net(b[0]), b[1]))
    assert "predicting 0 costs" in findings(program, loader(inputs, targets), select=MINE)["LD210"][0].message


def test_finds_it_under_accumulation_and_in_other_batches():
    inputs, labels = digits()
    rows = [{"image": x, "label": y} for x, y in zip(inputs, labels, strict=True)]
    data = torch.utils.data.DataLoader(rows, batch_size=16, shuffle=True)
    program = Trained(
        scaled(mlp(64, 10), 100), lambda self, b: {"loss": F.cross_entropy(self.net(b["image"]), b["label"])}
    )
    assert "LD210" in findings(program, data, accumulate_grad_batches=4, select=MINE)
