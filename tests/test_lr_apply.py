"""A learning rate is put to use wherever a schedule, the optimizer or the module keep the old one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from torch.optim import lr_scheduler

from lightning_debug.callbacks._lr_apply import apply_rate

SCHEDULES = {
    "none": None,
    "cyclic, up to the rate": lambda one, lr: lr_scheduler.CyclicLR(one, lr / 10, lr, 3, cycle_momentum=False),
    "cyclic, from the rate": lambda one, lr: lr_scheduler.CyclicLR(one, lr, lr * 8, 3, cycle_momentum=False),
    "one cycle, up to the rate": lambda one, lr: lr_scheduler.OneCycleLR(one, lr, total_steps=12),
    "one cycle, ten times the rate": lambda one, lr: lr_scheduler.OneCycleLR(one, 10 * lr, total_steps=12),
    "warm-up, then cosine": lambda one, lr: lr_scheduler.SequentialLR(
        one,
        [lr_scheduler.LinearLR(one, 0.1, 1.0, 4), lr_scheduler.CosineAnnealingLR(one, 8, eta_min=lr / 100)],
        milestones=[4],
    ),
}


class Model(pl.LightningModule):
    def __init__(self, lr):
        super().__init__()
        self.save_hyperparameters()
        self.lr, self.learning_rate, self.max_lr = lr, 0.5, 10 * lr
        self.net = torch.nn.Linear(2, 1)


def run(make, scale):
    """The rates of twelve steps, multiplied at the start; and the module."""
    model = Model(1e-3)
    optimizer = torch.optim.Adam(model.parameters(), lr=model.lr)
    scheduler = make(optimizer, model.lr) if make else None
    configs = [SimpleNamespace(scheduler=scheduler)] if scheduler else []
    trainer = SimpleNamespace(optimizers=[optimizer], lr_scheduler_configs=configs)
    if scale:
        peak = max(run(make, None)[0])
        apply_rate(trainer, model, optimizer, peak, peak * scale)
    rates = []
    for _ in range(11):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if scheduler:
            scheduler.step()
    return rates, model


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.filterwarnings("ignore:.*epoch parameter in `scheduler.step:UserWarning")
def test_every_step_of_a_schedule_and_what_the_module_keeps_are_scaled_alike(name):
    before, _ = run(SCHEDULES[name], None)
    after, model = run(SCHEDULES[name], 7.0)
    assert after == pytest.approx([7 * rate for rate in before])
    assert model.lr == model.hparams.lr == pytest.approx(7e-3)
    assert model.learning_rate == 0.5  # no rate of this optimizer
    assert model.max_lr == pytest.approx(0.07 if name == "one cycle, ten times the rate" else 0.01)
