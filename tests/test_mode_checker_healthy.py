"""Programs in which modules are in eval mode by design: not a word about them."""

import copy

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F

from tests.mode_programs import IGNORED_WARNINGS, Net, checked, data, network

pytestmark = [pytest.mark.filterwarnings(text) for text in IGNORED_WARNINGS]


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setenv("LIGHTNING_DEBUG_STRICT", "1")
    monkeypatch.setenv("LIGHTNING_DEBUG_CONSOLE", "0")


def assert_quiet(report):
    assert not report.findings, [(item.code, item.message) for item in report.findings]


def test_plain_program():
    report = checked(Net())
    assert_quiet(report)
    assert not report.skips


class Frozen(Net):
    """A head on features of a frozen network."""

    def __init__(self, style):
        super().__init__()
        self.style = style
        self.extractor = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3)).eval()
        if style == "requires_grad":
            self.extractor.requires_grad_(False)

    def forward(self, inputs):
        if self.style == "no_grad":
            with torch.no_grad():
                inputs = self.extractor(inputs)
        elif self.style == "inference_mode":
            with torch.inference_mode():
                inputs = self.extractor(inputs)
            inputs = inputs.clone()
        elif self.style == "detach":
            inputs = self.extractor(inputs).detach()
        else:
            inputs = self.extractor(inputs)
        return self.net(inputs)

    def configure_optimizers(self):
        parameters = self.net.parameters() if self.style == "not_in_optimizer" else self.parameters()
        return torch.optim.Adam(parameters, lr=1e-3)


@pytest.mark.parametrize("style", ["requires_grad", "no_grad", "inference_mode", "detach", "not_in_optimizer"])
@pytest.mark.parametrize("val", [True, None], ids=["val", "no-val"])
def test_frozen_extractor(style, val):
    assert_quiet(checked(Frozen(style), val=val))


def test_frozen_transformer_without_gradients():
    class WithTransformer(Net):
        def __init__(self):
            super().__init__()
            layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2).eval()

        def forward(self, inputs):
            with torch.no_grad():
                inputs = self.encoder(inputs[:, None])[:, 0]
            return self.net(inputs)

    assert_quiet(checked(WithTransformer()))


@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.99])
@pytest.mark.parametrize("teacher_mode", ["eval", "train"])
@pytest.mark.parametrize("freeze", [True, False])
def test_moving_average_teacher(momentum, teacher_mode, freeze):
    class MeanTeacher(Net):
        def __init__(self):
            super().__init__()
            self.teacher = copy.deepcopy(self.net)
            self.teacher.requires_grad_(not freeze)
            self.teacher.train(teacher_mode == "train")

        def training_step(self, batch, batch_idx):
            scores = self(batch[0])
            with torch.no_grad():
                target = self.teacher(batch[0]).softmax(1)
            return F.cross_entropy(scores, batch[1]) + F.mse_loss(scores.softmax(1), target)

        def on_train_batch_end(self, outputs, batch, batch_idx):
            for mean, weight in zip(self.teacher.parameters(), self.net.parameters(), strict=True):
                mean.data = mean.data * momentum + weight.data * (1 - momentum)

        def configure_optimizers(self):
            return torch.optim.Adam(self.net.parameters(), lr=1e-3)

    assert_quiet(checked(MeanTeacher()))


def test_rollout_baseline_in_eval_while_all_parameters_require_grad():
    class Policy(Net):
        def __init__(self):
            super().__init__()
            self.policy = network()
            self.baseline = copy.deepcopy(self.policy).eval()

        def training_step(self, batch, batch_idx):
            self.policy.eval()
            with torch.no_grad():
                actions = self.policy(batch[0]).argmax(1)
                reference = self.baseline(batch[0]).argmax(1)
            self.policy.train()
            advantage = (actions == batch[1]).float() - (reference == batch[1]).float()
            chosen = self.policy(batch[0]).log_softmax(1).gather(1, actions[:, None])[:, 0]
            return -(advantage * chosen).mean()

        def on_train_epoch_end(self):
            self.baseline.load_state_dict(self.policy.state_dict())

        def validation_step(self, batch, batch_idx):
            self.log("val_reward", (self.policy(batch[0]).argmax(1) == batch[1]).float().mean())

    assert_quiet(checked(Policy()))


def test_q_learning_with_a_target_network():
    class QLearning(Net):
        def __init__(self):
            super().__init__()
            self.target = copy.deepcopy(self.net).eval()

        def training_step(self, batch, batch_idx):
            value = self.target(batch[0]).max(1).values
            return F.mse_loss(self.net(batch[0]).gather(1, batch[1][:, None])[:, 0], 1 + 0.9 * value.detach())

        def on_train_batch_end(self, outputs, batch, batch_idx):
            self.target.load_state_dict(self.net.state_dict())

    assert_quiet(checked(QLearning()))


class Adversarial(pl.LightningModule):
    """A generator and a discriminator with dropout, trained in turns."""

    def __init__(self, style):
        super().__init__()
        self.style = style
        self.automatic_optimization = False
        self.generator = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8))
        self.discriminator = nn.Sequential(nn.Linear(8, 16), nn.LeakyReLU(), nn.Dropout(0.3), nn.Linear(16, 1))
        if style == "eval by default":
            self.discriminator.eval()

    def generator_loss(self, inputs):
        return F.softplus(-self.discriminator(self.generator(torch.randn_like(inputs)))).mean()

    def discriminator_loss(self, inputs):
        fake = self.generator(torch.randn_like(inputs)).detach()
        return F.softplus(-self.discriminator(inputs)).mean() + F.softplus(self.discriminator(fake)).mean()

    def take(self, optimizer, loss):
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()

    def training_step(self, batch, batch_idx):
        of_generator, of_discriminator = self.optimizers()
        if self.style == "eval by default":
            self.take(of_generator, self.generator_loss(batch[0]))
            self.discriminator.train()
            self.take(of_discriminator, self.discriminator_loss(batch[0]))
            self.discriminator.eval()
        elif self.style == "put back":
            self.discriminator.eval()
            self.take(of_generator, self.generator_loss(batch[0]))
            self.discriminator.train()
            self.take(of_discriminator, self.discriminator_loss(batch[0]))
        elif self.style == "in turns":
            if batch_idx % 3:
                self.discriminator.eval()
                self.take(of_generator, self.generator_loss(batch[0]))
            else:
                self.discriminator.train()
                self.take(of_discriminator, self.discriminator_loss(batch[0]))
        else:
            self.toggle_optimizer(of_generator)
            self.discriminator.eval()
            self.take(of_generator, self.generator_loss(batch[0]))
            self.untoggle_optimizer(of_generator)
            self.toggle_optimizer(of_discriminator)
            self.discriminator.train()
            self.take(of_discriminator, self.discriminator_loss(batch[0]))
            self.untoggle_optimizer(of_discriminator)

    def configure_optimizers(self):
        return (
            torch.optim.Adam(self.generator.parameters(), lr=1e-3),
            torch.optim.Adam(self.discriminator.parameters(), lr=1e-3),
        )


@pytest.mark.parametrize("style", ["put back", "eval by default", "in turns", "toggled"])
def test_adversarial_network_with_the_discriminator_in_eval_for_the_generator(style):
    assert_quiet(checked(Adversarial(style), val=None, train=data(320)))


def test_perceptual_loss_of_a_network_that_is_not_trained():
    class Perceptual(Net):
        def __init__(self):
            super().__init__()
            self.judge = network().eval()

        def training_step(self, batch, batch_idx):
            made = self.net[0](batch[0])[:, :8]
            return F.mse_loss(self.judge(made), self.judge(batch[0])) + super().training_step(batch, batch_idx)

        def configure_optimizers(self):
            return torch.optim.Adam(self.net.parameters(), lr=1e-3)

    assert_quiet(checked(Perceptual()))
