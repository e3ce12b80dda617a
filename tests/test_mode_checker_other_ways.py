"""Programs written in other ways, and legitimate randomness in eval mode: not a word about them."""

from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from tests.mode_programs import IGNORED_WARNINGS, Net, checked, data

pytestmark = [pytest.mark.filterwarnings(text) for text in IGNORED_WARNINGS]


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setenv("LIGHTNING_DEBUG_STRICT", "1")
    monkeypatch.setenv("LIGHTNING_DEBUG_CONSOLE", "0")


def assert_quiet(report):
    assert not report.findings, [(item.code, item.message) for item in report.findings]


@dataclass
class Sample:
    inputs: torch.Tensor
    labels: torch.Tensor


class Triple(NamedTuple):
    inputs: torch.Tensor
    labels: torch.Tensor
    mask: None = None


@pytest.mark.parametrize("kind", [Sample, Triple])
def test_batch_of_another_kind(kind):
    class Other(Net):
        def training_step(self, batch, batch_idx):
            return {"loss": F.cross_entropy(self(batch.inputs), batch.labels)}

        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            self.log("val_loss", F.cross_entropy(self(batch.inputs), batch.labels))

        def transfer_batch_to_device(self, batch, device, dataloader_idx):
            return batch

    samples = [(torch.randn(8), torch.tensor(i % 2)) for i in range(64)]

    def collate(items):
        return kind(torch.stack([item[0] for item in items]), torch.stack([item[1] for item in items]))

    loader = DataLoader(samples, batch_size=16, collate_fn=collate)
    assert_quiet(checked(Other(), train=loader, val=[loader, loader]))


@pytest.mark.parametrize(
    "options",
    [
        {"num_sanity_val_steps": 0},
        {"check_val_every_n_epoch": 2, "max_epochs": 4},
        {"val_check_interval": 1},
        {"accumulate_grad_batches": 4},
        {"fast_dev_run": True},
        {"max_steps": 1, "max_epochs": -1},
        {"limit_val_batches": 0},
        {"overfit_batches": 1},
        {"precision": "64-true"},
        {"precision": "bf16-mixed"},
    ],
    ids=str,
)
def test_options_of_the_trainer(options):
    with torch.random.fork_rng():
        model = Net()
        if options.get("precision") == "64-true":
            assert_quiet(checked(model, **options))
        else:
            assert_quiet(checked(model, **options))


def test_generator_that_draws_in_eval_mode():
    class Variational(Net):
        def __init__(self):
            super().__init__()
            self.encode, self.decode = nn.Linear(8, 4), nn.Linear(2, 8)

        def forward(self, inputs):
            mean, scale = self.encode(inputs).chunk(2, dim=1)
            return self.decode(mean + torch.randn_like(mean) * scale.exp())

        def training_step(self, batch, batch_idx):
            return F.mse_loss(self(batch[0]), batch[0])

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", F.mse_loss(self(batch[0]), batch[0]))

    assert_quiet(checked(Variational()))


class MonteCarloHead(nn.Module):
    def forward(self, inputs):
        return F.dropout(inputs, 0.3)


class KeptDropout(nn.Dropout):
    def forward(self, inputs):
        return F.dropout(inputs, self.p, training=True)


@pytest.mark.parametrize("kind", ["class", "layer", "function", "loop", "in_step"])
def test_monte_carlo_dropout(kind):
    class Uncertain(Net):
        def __init__(self):
            super().__init__()
            extra = {"class": MonteCarloHead(), "layer": KeptDropout(0.2)}.get(kind, nn.Identity())
            self.net.append(extra)

        def mc_forward(self, inputs):
            return torch.stack([F.dropout(self(inputs), 0.1) for _ in range(3)]).mean(0)

        def dropouts_on(self, mode=True):
            for module in self.modules():
                if module.__class__.__name__.startswith("Dropout"):
                    module.train(mode)

        def on_validation_epoch_start(self):
            if kind == "loop":
                self.dropouts_on()

        def validation_step(self, batch, batch_idx):
            if kind == "in_step":
                self.dropouts_on()
                self(batch[0])
                self.dropouts_on(False)
            scores = self.mc_forward(batch[0]) if kind == "function" else self(batch[0])
            self.log("val_loss", F.cross_entropy(scores, batch[1]))

    assert_quiet(checked(Uncertain()))


def test_dropout_function_that_follows_the_mode():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix = nn.Linear(8, 8)
            self.heads = nn.MultiheadAttention(8, 2, dropout=0.1, batch_first=True)

        def forward(self, inputs):
            x = self.mix(inputs)[:, None]
            x = F.scaled_dot_product_attention(x, x, x, dropout_p=0.2 if self.training else 0.0)
            x = self.heads(x, x, x)[0]
            return F.dropout(x[:, 0], 0.2, self.training)

    class Attending(Net):
        def __init__(self):
            super().__init__()
            self.attention = Attention()

        def forward(self, inputs):
            return self.net(self.attention(inputs))

    assert_quiet(checked(Attending()))


def test_batch_norms_without_weights_and_partly_frozen_networks():
    class Partly(Net):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(
                nn.Linear(8, 16), nn.BatchNorm1d(16, affine=False), nn.ReLU(), nn.Linear(16, 2), nn.BatchNorm1d(2)
            )
            self.net[4].requires_grad_(False)  # its feeder is trained, so its statistics must follow

    assert_quiet(checked(Partly()))


def test_frozen_normalisation_of_the_input():
    class Normalised(Net):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(8).requires_grad_(False)

        def forward(self, inputs):
            return self.net(self.norm(inputs))

    assert_quiet(checked(Normalised()))


def test_two_fits_with_one_checker():
    from lightning_debug import ModeChecker
    from tests.helpers import trainer

    checker = ModeChecker()
    for _ in range(2):
        trainer(checker, max_epochs=1).fit(Net(), data(), data(32))
        assert_quiet(checker.report)


def test_callbacks_that_average_or_search():
    from pytorch_lightning.callbacks import LearningRateFinder, StochasticWeightAveraging

    class Rated(Net):
        def __init__(self):
            super().__init__()
            self.lr = 1e-3

    averaging = StochasticWeightAveraging(swa_lrs=1e-3, swa_epoch_start=1)
    assert_quiet(checked(Net(), averaging, max_epochs=4))
    search = LearningRateFinder(num_training_steps=12, update_attr=False)
    assert_quiet(checked(Rated(), before=[search], max_epochs=1, train=data(320)))


def test_hooks_of_lightning_overridden_well():
    class Overriding(Net):
        def on_validation_model_eval(self):
            super().on_validation_model_eval()

        def on_validation_model_train(self):
            self.trainer.model.train()

    assert_quiet(checked(Overriding(), max_epochs=3))
