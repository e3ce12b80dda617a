"""LD523 in windows of a series: labels that are the last inputs, and forecasts that are rightly near to them."""

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lightning_debug.callbacks.data_auditor import DataAuditor
from tests.helpers import trainer

LENGTH, STEPS = 500, 12
NOISE = np.random.default_rng(0).normal(size=(LENGTH, 3))
WALK = (0.5 * NOISE).cumsum(0)
REPEATS = np.sin(np.arange(LENGTH)[:, None] * 2 * np.pi / 20 + np.arange(3))
HELD = WALK[np.arange(LENGTH) // 5 * 5]  # changes every fifth step
STATES = (NOISE[:, :1] > 0.5).astype(float)


class Recurrent(pl.LightningModule):
    """Fits one amount or classes; ``hidden`` last steps are not looked at."""

    def __init__(self, channels, units, hidden, steps_first):
        super().__init__()
        self.rnn, self.head = nn.GRU(channels, 8, batch_first=True), nn.Linear(8, units)
        self.hidden, self.steps_first = hidden, steps_first

    def training_step(self, batch, batch_idx):
        inputs, labels = batch
        inputs = inputs.unsqueeze(2) if inputs.ndim == 2 else inputs
        inputs = inputs if self.steps_first else inputs.transpose(1, 2)
        if self.hidden:
            inputs = inputs * torch.tensor([1.0] * (STEPS - 1) + [0.0])[:, None]
        outputs = self.head(self.rnn(inputs)[0][:, -1])
        if outputs.shape[1] > 1:
            return F.cross_entropy(outputs, labels)
        return F.mse_loss(outputs[:, 0], labels.float())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-3)


class Windows(Dataset):
    """Windows of a series with what follows ``ahead`` steps after their end."""

    def __init__(self, series, target, ahead, stride=1):
        self.series, self.target = torch.tensor(series, dtype=torch.float32), torch.tensor(target)
        self.ahead, self.stride = ahead, stride

    def __len__(self):
        return (LENGTH - STEPS - 3) // self.stride

    def __getitem__(self, index):
        start = index * self.stride
        label = self.target[start + STEPS - 1 + self.ahead]
        return self.series[start : start + STEPS], label.float() if label.is_floating_point() else label


def findings(data, channels=3, units=1, hidden=False, steps_first=True):
    auditor = DataAuditor()
    loader = DataLoader(data, 20, shuffle=True)
    trainer(auditor, max_epochs=2).fit(Recurrent(channels, units, hidden, steps_first), loader)
    return [item for item in auditor.report.findings if item.code in ("LD523", "LD001", "LD002")]


TOLD = {
    "an amount": (Windows(WALK, WALK[:, 1], 0), 1),
    "in other units": (Windows(WALK, 100 - 3 * WALK[:, 2], 0), 2),
    "every third window": (Windows(WALK, WALK[:, 0], 0, stride=3), 0),
    "states": (Windows(np.column_stack([WALK[:, :2], STATES]), STATES[:, 0].astype(int), 0), 2),
    "held values": (Windows(HELD, HELD[:, 0], 0), 0),
    "counts": (Windows(np.round(20 * WALK), np.round(20 * WALK[:, 0]).astype(int) + 500, 0), 0),
}


@pytest.mark.parametrize("name", TOLD)
def test_told(name):
    data, channel = TOLD[name]
    (told,) = findings(data, units=2 if name == "states" else 1)
    assert told.severity == "warning"
    assert told.message.startswith(f"The last step of batch[0] (step {STEPS - 1}, channel {channel}) holds the label")
    assert told.measured["followed_by_another"] >= 8
    assert f"series[start + {STEPS}, {channel}] is the first value after" in told.fix


def test_channels_first():
    data = Windows(WALK, WALK[:, 1], 0)
    (told,) = findings([(inputs.T.contiguous(), label) for inputs, label in data], steps_first=False)
    assert told.message.startswith("The last step of batch[0] (step 11, channel 1) holds the label")


def test_one_channel():
    data = Windows(WALK[:, 0], WALK[:, 0], 0)
    (told,) = findings(data, channels=1)
    assert told.severity == "warning"
    assert told.message.startswith("The last step of batch[0] (step 11) holds the label")


def of_samples(inputs, labels):
    return TensorDataset(inputs, labels)


SEPARATE = torch.randn(320, STEPS, 3, generator=torch.Generator().manual_seed(1))
MASKED = SEPARATE * (torch.rand(320, STEPS, 1, generator=torch.Generator().manual_seed(2)) > 0.2)
QUIET = {
    "the next amount": Windows(WALK, WALK[:, 1], 1),
    "persistence with noise": Windows(WALK + 0.01 * NOISE, WALK[:, 1], 0),
    "persistence of series that stand still": Windows(WALK // 1e9, WALK[:, 0] // 1e9, 1),
    "persistence of what is held": Windows(HELD, HELD[:, 0], 1),
    "what repeats": Windows(REPEATS, REPEATS[:, 0], 0),  # a period ahead
    "the difference to the last": Windows(WALK, np.diff(WALK[:, 0], append=0.0), 0),
    "persistence of sequences that go on nowhere": of_samples(SEPARATE, SEPARATE[:, -1, 0]),
    "the first, to be remembered": of_samples(SEPARATE, SEPARATE[:, 0, 0]),
    "an echo": Windows(WALK, WALK[:, 0], -3),
    "masked entries": of_samples(MASKED, SEPARATE[:, -1, 0]),
    "states that stay": Windows(STATES[np.arange(LENGTH) // 40], STATES[np.arange(LENGTH) // 40, 0].astype(int), 1, 12),
}


@pytest.mark.parametrize("name", QUIET)
def test_quiet(name):
    data = QUIET[name]
    inputs, label = data[0]
    assert not findings(data, channels=inputs.shape[-1], units=1 if label.is_floating_point() else 2)


def test_a_last_step_that_is_masked_on_the_way_is_quiet():
    assert not findings(Windows(WALK, WALK[:, 1], 0), hidden=True)
