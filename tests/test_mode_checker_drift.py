"""Batch-norms with frozen weights whose statistics drift (LD403)."""

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.mode_programs import IGNORED_WARNINGS, Net, checked, only

pytestmark = [pytest.mark.filterwarnings(text) for text in IGNORED_WARNINGS]
SOURCE = Path(__file__).read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setenv("LIGHTNING_DEBUG_STRICT", "1")
    monkeypatch.setenv("LIGHTNING_DEBUG_CONSOLE", "0")


def line(mark: str) -> str:
    found = [number for number, text in enumerate(SOURCE.splitlines(), 1) if text.endswith(f"# {mark}")]
    assert len(found) == 1, mark
    return f"{Path(__file__).name}:{found[0]}"


class FineTuned(Net):
    """A head on a frozen network with batch-norms, which is in ``mode``."""

    def __init__(self, training=True):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.BatchNorm1d(8))
        self.backbone.requires_grad_(False)
        self.backbone.train(training)

    def forward(self, inputs):
        return self.net(self.backbone(inputs))


@pytest.mark.parametrize("no_grad", [False, True])
def test_frozen_batch_norms_drift(no_grad):
    class Model(FineTuned):
        def forward(self, inputs):
            with torch.set_grad_enabled(not no_grad and torch.is_grad_enabled()):
                features = self.backbone(inputs)
            return self.net(features)

    found = only(checked(Model()), "LD403")
    assert found.severity == "warning"
    assert found.subject == "backbone"
    assert "2 batch-norms with frozen weights (2 BatchNorm1d in `backbone`)" in found.message
    assert "within 4 steps their running statistics are updated 4 times" in found.message


def test_a_backbone_that_is_frozen_for_its_first_epoch_only():
    class Gradual(FineTuned):
        def on_train_epoch_start(self):
            self.backbone.requires_grad_(self.current_epoch > 0)

    assert not checked(Gradual(), max_epochs=2).findings
    assert only(checked(Gradual(), max_epochs=1), "LD403")


def test_flat_network_whose_last_layer_is_trained():
    model = Net()
    model.net[0].requires_grad_(False)
    model.net[1].requires_grad_(False)
    found = only(checked(model), "LD403")
    assert found.measured["modules"] == ("net.1",)


def test_old_recipe_flips_frozen_batch_norms():
    class OldRecipe(FineTuned):
        def on_validation_model_train(self):
            self.trainer.model.train()

    found = only(checked(OldRecipe(training=False)), "LD403")
    assert "OldRecipe.on_validation_model_train puts every module into train mode" in found.message
    assert "Delete OldRecipe.on_validation_model_train" in found.fix
    late = only(checked(OldRecipe(training=False), num_sanity_val_steps=0, max_epochs=3), "LD403")
    assert late.at.step > 6


def test_batch_norm_behind_a_trained_branch():
    class Branching(Net):
        def __init__(self):
            super().__init__()
            self.trained, self.frozen = nn.Linear(8, 8), nn.Linear(8, 8).requires_grad_(False)
            self.norm = nn.BatchNorm1d(8).requires_grad_(False)

        def forward(self, inputs):
            first, second = self.trained(inputs), self.frozen(inputs)
            return self.net(self.norm(first) + second)

    assert not checked(Branching()).findings


@pytest.mark.parametrize("how", ["averaged", "reset"])
def test_statistics_that_are_adapted_on_purpose(how):
    model = FineTuned()
    for norm in (model.backbone[1], model.backbone[4]):
        nn.init.uniform_(norm.weight, 0.5, 1.5)  # trained elsewhere
        nn.init.uniform_(norm.running_mean, -1, 1)
        if how == "reset":
            norm.reset_running_stats()
        else:
            norm.momentum = None
    assert not [finding for finding in checked(model).findings if finding.code == "LD403"]


def test_statistics_that_came_with_the_weights():
    model = FineTuned()
    for norm in (model.backbone[1], model.backbone[4]):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.running_mean, -1, 1)
    assert only(checked(model), "LD403")
