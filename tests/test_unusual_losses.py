"""Losses and language models of unusual forms: faults that are found in them, and what they leave quiet."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

from tests.helpers import codes, debugged


class Program(pl.LightningModule):
    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 5e-3)


class Ratings(Program):
    """A bias by user and one by item, the target in a column beside the ids."""

    def __init__(self, squeezed):
        super().__init__()
        self.user, self.item, self.squeezed = nn.Embedding(30, 1), nn.Embedding(20, 1), squeezed

    def training_step(self, batch, index):
        user, item = self.user(batch[:, 0].long()), self.item(batch[:, 1].long()).squeeze(1)
        score = (user.squeeze(1) if self.squeezed else user) + item
        return (score - batch[:, 2]).pow(2).mean()


@pytest.mark.parametrize("squeezed", [True, False])
def test_predictions_of_pairs_are_found_in_a_plain_difference(squeezed):
    pl.seed_everything(0, verbose=False)
    users, items = torch.randint(0, 30, (600,)), torch.randint(0, 20, (600,))
    table = torch.stack([users, items, (users % 5).float() + 0.3 * torch.randn(600)], 1)
    report = debugged(Ratings(squeezed), DataLoader(table, 24, shuffle=True))
    assert ("LD206" in codes(report)) is not squeezed


class Unsqueezed(pl.LightningModule):
    """One number a sample, and a target whose new dimension is in front or behind; or quantiles, each with each."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.net = kind, nn.Linear(6, 5 if kind == "quantiles" else 1)

    def training_step(self, batch, index):
        scores, targets = self.net(batch[:, :6]), batch[:, 6]
        if self.kind == "quantiles":
            several = targets.unsqueeze(1) + 0.1 * torch.randn(len(batch), 5)
            return F.smooth_l1_loss(scores.unsqueeze(2), several.unsqueeze(1))
        return F.l1_loss(scores, targets.unsqueeze(0 if self.kind == "in front" else 1))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


@pytest.mark.parametrize("kind", ["in front", "behind", "quantiles"])
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_a_dimension_in_front_of_the_samples_of_the_target(kind):
    pl.seed_everything(0, verbose=False)
    table = torch.randn(480, 7)
    table[:, 6] = table[:, :6].sum(1) + 0.1 * table[:, 6]
    report = debugged(Unsqueezed(kind), DataLoader(table, 24, shuffle=True))
    told = [one for one in report.findings if one.code == "LD206"]
    assert bool(told) is (kind == "in front")
    assert all("(24, 1) with targets of shape (1, 24)" in one.message for one in told)


class Values(Program):
    """Values of actions against targets that a copy of the net makes, squared by hand."""

    def __init__(self, squeezed):
        super().__init__()
        self.net, self.copy, self.squeezed = nn.Linear(6, 3), nn.Linear(6, 3), squeezed

    def training_step(self, batch, index):
        state, action, reward, after = batch
        value = self.net(state).gather(1, action[:, None])
        with torch.no_grad():
            target = reward + 0.9 * self.copy(after).max(1).values
        return ((value.squeeze(1) if self.squeezed else value) - target).pow(2).mean()


@pytest.mark.parametrize("squeezed", [True, False])
def test_values_of_actions_against_targets_of_a_net(squeezed):
    pl.seed_everything(0, verbose=False)
    data = TensorDataset(torch.randn(480, 6), torch.randint(0, 3, (480,)), torch.randn(480), torch.randn(480, 6))
    report = debugged(Values(squeezed), DataLoader(data, 24, shuffle=True))
    assert ("LD206" in codes(report)) is not squeezed


class Words(Dataset):
    """Sequences of a chain; labels are a second copy of the tokens, as published collate functions give them."""

    def __init__(self, count):
        steps = torch.randint(1, 3, (count, 24)).cumsum(1)
        self.tokens = (steps + torch.randint(0, 12, (count, 1))) % 12

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, index):
        return {"input_ids": self.tokens[index], "labels": self.tokens[index]}


class Convolved(Program):
    """Mixes time by a convolution in the frequency domain, which wraps around unless it is padded."""

    def __init__(self, length):
        super().__init__()
        self.words, self.out, self.length = nn.Embedding(12, 32), nn.Linear(32, 12), length
        self.kernel = nn.Parameter(torch.randn(24, 32) * 0.3)

    def training_step(self, batch, index):
        given = self.words(batch["input_ids"])
        frequencies = torch.fft.rfft(given, self.length, dim=1) * torch.fft.rfft(self.kernel, self.length, dim=0)
        scores = self.out(torch.fft.irfft(frequencies, self.length, dim=1)[:, :24])
        first = self.first  # of the steps whose next one counts
        return F.cross_entropy(scores[:, first:-1].flatten(0, 1), batch["labels"][:, 1 + first :].flatten())


@pytest.mark.parametrize(("length", "first", "told"), [(24, 0, True), (48, 0, False), (24, 9, True), (48, 9, False)])
def test_the_future_is_found_though_labels_are_a_second_copy(length, first, told):
    pl.seed_everything(0, verbose=False)
    model = Convolved(length)
    model.first = first
    report = debugged(model, DataLoader(Words(480), 24, shuffle=True))
    assert ("LD410" in codes(report)) is told


class Prefix(Program):
    """Attends to all of a question, and to what comes before in the answer."""

    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(12, 32), nn.Parameter(0.1 * torch.randn(15, 32))
        self.attend, self.out = nn.MultiheadAttention(32, 2, batch_first=True), nn.Linear(32, 12)
        mask = torch.ones(15, 15, dtype=torch.bool).triu(1)
        mask[:8, :8] = False
        self.register_buffer("mask", mask)

    def training_step(self, batch, index):
        given = self.words(batch[0]) + self.places
        seen = given + self.attend(given, given, given, attn_mask=self.mask, need_weights=False)[0]
        return F.cross_entropy(self.out(seen).flatten(0, 1), batch[1].flatten())


@pytest.mark.parametrize("shifted", [True, False])
def test_labels_that_are_not_shifted_behind_a_prefix(shifted):
    pl.seed_everything(0, verbose=False)
    question = torch.randint(2, 12, (480, 7))
    text = torch.cat([question, torch.ones(480, 1, dtype=torch.long), question.sort(1).values, question[:, :1]], 1)
    labels = text[:, 1:].clone() if shifted else text[:, :-1].clone()
    labels[:, : 7 if shifted else 8] = -100
    report = debugged(Prefix(), DataLoader(TensorDataset(text[:, :-1], labels), 24, shuffle=True))
    assert ("LD506" in codes(report)) is not shifted


class Grouped(Program):
    """Rebuilds inputs, given their label, or tells the label."""

    def __init__(self, conditional):
        super().__init__()
        self.conditional = conditional
        self.net = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 8 if conditional else 4))

    def training_step(self, batch, index):
        inputs, labels = batch
        known = F.one_hot(labels, 4) * float(self.conditional)
        made = self.net(torch.cat([inputs, known], 1))
        return F.mse_loss(made, inputs) if self.conditional else F.cross_entropy(made, labels)


@pytest.mark.parametrize("conditional", [True, False])
def test_batches_of_one_label_that_is_a_condition(conditional):
    pl.seed_everything(0, verbose=False)
    labels = torch.arange(640) // 16 % 4
    inputs = torch.randn(4, 8)[labels] + 0.5 * torch.randn(640, 8)
    order = [(16 * torch.randperm(40)[:, None] + torch.arange(16)).flatten().tolist()][0]
    batches = [order[start : start + 16] for start in range(0, 640, 16)]
    report = debugged(Grouped(conditional), DataLoader(TensorDataset(inputs, labels), batch_sampler=batches))
    assert ("LD504" in codes(report)) is not conditional
