"""Layers that are kept in eval mode by hand, by class or for a moment: not a word about them."""

import pytest
import torch
import torchmetrics
from pytorch_lightning.callbacks import BackboneFinetuning
from torch import nn

from tests.mode_programs import IGNORED_WARNINGS, Net, checked, network

pytestmark = [pytest.mark.filterwarnings(text) for text in IGNORED_WARNINGS]


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setenv("LIGHTNING_DEBUG_STRICT", "1")
    monkeypatch.setenv("LIGHTNING_DEBUG_CONSOLE", "0")


def assert_quiet(report):
    assert not report.findings, [(item.code, item.message) for item in report.findings]


class Backbone(nn.Module):
    def __init__(self, pinned):
        super().__init__()
        self.pinned = pinned
        self.layers = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.BatchNorm1d(8))

    def forward(self, inputs):
        return self.layers(inputs)

    def freeze_norms(self):
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


class Pinned(Backbone):
    def train(self, mode=True):
        super().train(mode)
        if self.pinned:
            self.freeze_norms()
        return self


class AlwaysEval(Backbone):
    def train(self, mode=True):
        return super().train(False)


@pytest.mark.parametrize("kind", [Pinned, AlwaysEval])
def test_class_keeps_its_batch_norms_in_eval(kind):
    class FineTuned(Net):
        def __init__(self):
            super().__init__()
            self.backbone = kind(pinned=True)
            self.train()

        def forward(self, inputs):
            return self.net(self.backbone(inputs))

    assert_quiet(checked(FineTuned()))


@pytest.mark.parametrize("when", ["before", "on_train_start", "on_train_epoch_start", "training_step"])
def test_batch_norms_alone_are_put_into_eval(when):
    class FineTuned(Net):
        def freeze(self, hook):
            for module in self.net.modules() if hook == when else ():
                if isinstance(module, nn.BatchNorm1d):
                    module.eval()

        def on_train_start(self):
            self.freeze("on_train_start")

        def on_train_epoch_start(self):
            self.freeze("on_train_epoch_start")

        def training_step(self, batch, batch_idx):
            self.freeze("training_step")
            return super().training_step(batch, batch_idx)

    model = FineTuned()
    model.freeze("before")
    assert_quiet(checked(model))


def test_all_dropouts_are_switched_off_by_a_loop():
    model = Net()
    model.net = nn.Sequential(network(), nn.Linear(2, 8), network())
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    assert_quiet(checked(model))


@pytest.mark.parametrize("train_bn", [True, False])
def test_backbone_finetuning_callback(train_bn):
    class FineTuned(Net):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1))

        def forward(self, inputs):
            return self.net(self.backbone(inputs))

        def configure_optimizers(self):
            return torch.optim.Adam(self.net.parameters(), lr=1e-3)

    callback = BackboneFinetuning(unfreeze_backbone_at_epoch=1, train_bn=train_bn, verbose=False)
    assert_quiet(checked(FineTuned(), callback, max_epochs=3))


def test_root_flag_set_by_hand():
    class ByHand(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network()
            self.training = False

        def forward(self, inputs):
            return self.net(inputs if self.training else inputs + 0)

    class Model(Net):
        def __init__(self):
            super().__init__()
            self.net = ByHand()

    model = Model()
    model.training = False
    assert not model.net.training
    assert model.net.net.training
    assert_quiet(checked(model))


def test_scripted_networks():
    class Scripted(Net):
        def __init__(self):
            super().__init__()
            self.extractor = torch.jit.script(nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.1))).eval()

        def forward(self, inputs):
            return self.net(self.extractor(inputs).detach())

    report = checked(Scripted())
    assert_quiet(report)
    reason = "1 TorchScript modules are in eval mode, and how they are used cannot be seen"
    assert [(skip.code, skip.reason) for skip in report.skips] == [("LD401", reason)]


def test_mode_that_does_not_matter():
    class Plain(Net):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.ReLU(), nn.Dropout(0.0), nn.Linear(16, 2))

    model = Plain()
    model.eval()
    assert_quiet(checked(model))


def test_networks_of_metrics():
    class Distance(torchmetrics.Metric):
        def __init__(self):
            super().__init__()
            self.features = network().eval()
            self.add_state("total", torch.tensor(0.0))

        def update(self, inputs):
            self.total = self.total + self.features(inputs).sum().detach()

        def compute(self):
            return self.total

    class Measured(Net):
        def __init__(self):
            super().__init__()
            self.distance = Distance()

        def training_step(self, batch, batch_idx):
            self.distance.update(batch[0])
            return super().training_step(batch, batch_idx)

        def validation_step(self, batch, batch_idx):
            self.distance.features.train()
            self.distance.update(batch[0])

    assert_quiet(checked(Measured()))


def test_sampling_that_puts_the_mode_back():
    class Sampler(Net):
        def sample(self, inputs):
            self.eval()
            with torch.no_grad():
                made = self(inputs)
            self.train()
            return made

        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            self.sample(batch[0])
            return loss

        def on_train_epoch_end(self):
            self.sample(torch.randn(4, 8))

    assert_quiet(checked(Sampler()))


def test_train_mode_is_asked_for_before_each_forward():
    class Careful(Net):
        def training_step(self, batch, batch_idx):
            self.net.train()
            loss = super().training_step(batch, batch_idx)
            self.net.eval()
            with torch.no_grad():
                self(batch[0])
            return loss

    model = Careful()
    model.eval()
    assert_quiet(checked(model))


@pytest.mark.parametrize("hook", ["on_train_start", "on_train_epoch_start", "on_train_batch_start"])
def test_train_mode_is_set_by_a_hook(hook):
    model = Net()
    model.eval()
    setattr(type("Cured", (Net,), {}), hook, None)
    cured = type("Cured", (Net,), {hook: lambda self, *arguments: self.train() and None})()
    cured.eval()
    assert_quiet(checked(cured))
