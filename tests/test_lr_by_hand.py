"""Learning rates of steps made by hand: what goes backward by itself, and optimizers that play against each other."""

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug import LRRangeFinder

SMALL = {"progress": False, "steps": 10, "sweeps": 1, "trial_steps": 16, "lr_min": 1e-3, "lr_max": 1.0}


class ByHand(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.one, self.other = nn.Linear(4, 3), nn.Linear(4, 3)

    def configure_optimizers(self):
        return torch.optim.Adam(self.one.parameters(), 1e-3)


class Plain(ByHand):
    """Four batches a step, and ``loss.backward()`` as in plain torch; nothing is returned."""

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers(use_pl_optimizer=False)
        (F.cross_entropy(self.one(batch[0]), batch[1]) / 4).backward()
        if batch_idx % 4 == 3:
            optimizer.step()
            optimizer.zero_grad()


class Against(ByHand):
    """What the first gains, the second loses."""

    def training_step(self, batch, batch_idx):
        first, second = self.optimizers()
        for optimizer, sign in ((first, 1), (second, -1)):
            self.toggle_optimizer(optimizer)
            distance = (self.one(batch[0]) - self.other(batch[0])).square().mean()
            optimizer.zero_grad()
            self.manual_backward((sign * distance).sigmoid())
            optimizer.step()
            self.untoggle_optimizer(optimizer)

    def configure_optimizers(self):
        return [torch.optim.SGD(part.parameters(), 1e-4) for part in (self.one, self.other)]


class Together(Against):
    """Each has its own task."""

    def training_step(self, batch, batch_idx):
        for optimizer, part in zip(self.optimizers(), (self.one, self.other), strict=True):
            optimizer.zero_grad()
            self.manual_backward(F.cross_entropy(part(batch[0]), batch[1]))
            optimizer.step()


def found(model):
    pl.seed_everything(3, verbose=False)
    labels = torch.randint(0, 3, (128,))
    inputs = torch.eye(3, 4)[labels] * 2 + 0.3 * torch.randn(128, 4)
    finder = LRRangeFinder(**SMALL)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(accelerator="cpu", max_epochs=1, enable_model_summary=False, callbacks=[finder], **quiet)
    trainer.fit(model, DataLoader(TensorDataset(inputs, labels), 8, shuffle=True))
    return finder.results


def test_what_goes_backward_by_itself_is_heard():
    original = torch.Tensor.backward
    [one] = found(Plain())
    assert one.suggestion > 5e-3
    assert torch.Tensor.backward is original


def test_no_rate_is_suggested_that_only_wins_against_another_optimizer():
    first, second = found(Against())
    assert (first.suggestion, second.suggestion) == (None, None)
    assert "optimizers[1] ends at" in first.reason
    assert "play against each other" in second.reason


@pytest.mark.slow
def test_optimizers_with_tasks_of_their_own_are_told_a_rate():
    assert all(one.suggestion > 1e-2 for one in found(Together()))


def test_steps_that_need_what_a_hook_of_the_model_sets_are_tried_amid_the_training(tmp_path):
    class Taught(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(4, 3)

        def on_train_batch_start(self, batch, batch_idx):
            self.weight = 1.0 + 0.0 * batch[0].mean()

        def training_step(self, batch, batch_idx):
            return self.weight * F.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), 1e-3)

    data = TensorDataset(torch.randn(512, 4), torch.randint(0, 3, (512,)))
    finder = LRRangeFinder(**SMALL)
    run = pl.Trainer(max_epochs=2, accelerator="cpu", callbacks=finder, logger=False, default_root_dir=tmp_path,
                     enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)  # fmt: skip
    run.fit(Taught(), DataLoader(data, batch_size=16, shuffle=True))
    assert len(finder.results) == 1
