"""Data sets that keep count, draw or remember, and what is left of our asking them."""

import functools
import itertools
import random

import numpy
import pytest
import torch
from pytorch_lightning import LightningModule, seed_everything
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Sampler, Subset

from lightning_debug import DataAuditor, Debugger
from lightning_debug.experiments.asking import Traceable, asked, put_back, trace_of
from lightning_debug.probes.own_copy import own_copy
from tests.helpers import trainer

GENERATOR, PYTHONS = numpy.random.default_rng(0), random.Random(0)
COUNT, SEEN, ENDLESS = 0, [], itertools.count()


class Rows(Dataset):
    total, last = 0, None

    def __init__(self, transform=None, size=192):
        labels = torch.arange(size) % 3
        noise = torch.randn(size, 8, generator=torch.Generator().manual_seed(0))
        self.inputs, self.labels, self.transform = 3 * torch.eye(8)[labels] + noise, labels, transform

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        inputs = self.inputs[index]
        return (inputs if self.transform is None else self.transform(inputs)), int(self.labels[index])


def drawn(inputs):
    return inputs + 0.1 * float(GENERATOR.standard_normal()) + 0.1 * PYTHONS.random()


def counted(inputs):
    global COUNT
    COUNT += 1
    SEEN.append(COUNT)
    Rows.total += 1
    return inputs * (1 + COUNT % 7 / 50 + Rows.total % 5 / 50)


def endless(inputs):
    return inputs * (1 + next(ENDLESS) % 7 / 50)


class Noise:
    def __init__(self):
        self.generator, self.calls = torch.Generator().manual_seed(0), 0

    def __call__(self, inputs):
        self.calls += 1
        return inputs + 0.1 * torch.randn(8, generator=self.generator) + self.calls % 5 / 50


class Cached(Rows):
    """Keeps what it drew, in a large list of samples."""

    def __init__(self):
        super().__init__(size=4200)
        self.samples = [{"drawn": None} for _ in range(4200)]

    def __getitem__(self, index):
        sample = self.samples[int(index)]
        if sample["drawn"] is None:
            sample["drawn"] = self.inputs[index] + 0.1 * torch.randn(8)
        return sample["drawn"], int(self.labels[index])


class Remembering(Rows):
    @functools.cache  # noqa: B019
    def __getitem__(self, index):
        return self.inputs[index] + 0.1 * torch.randn(8), int(self.labels[index])


class Going(Rows):
    def __init__(self):
        super().__init__()
        self.going = iter(range(10**9))

    def __getitem__(self, index):
        return self.inputs[index] * (1 + next(self.going) % 5 / 50), int(self.labels[index])


def closing():
    calls = 0

    def scaled(inputs):
        nonlocal calls
        calls += 1
        return inputs * (1 + calls % 5 / 50)

    return scaled


PUT_BACK = {
    "draws from variables": lambda: Rows(drawn),
    "counts in variables and classes": lambda: Rows(counted),
    "draws by an object": lambda: Rows(Noise()),
    "counts in a closure": lambda: Rows(closing()),
    "keeps what it drew": Cached,
    "remembers calls, and had none": Remembering,
    "in a subset": lambda: Subset(Rows(Noise()), range(150)),
    "of two": lambda: ConcatDataset([Rows(counted), Rows(drawn)]),
}


def asked_before():
    dataset = Remembering()
    dataset[len(dataset) - 1]
    return dataset


NOT_PUT_BACK = {"remembers calls": asked_before, "goes on": Going, "goes on in a variable": lambda: Rows(endless)}


def begin_anew():
    global COUNT, ENDLESS
    GENERATOR.bit_generator.state = numpy.random.default_rng(0).bit_generator.state
    PYTHONS.seed(0)
    COUNT, Rows.total, ENDLESS = 0, 0, itertools.count()
    SEEN.clear()
    Remembering.__getitem__.cache_clear()
    seed_everything(0, verbose=False)


def first(dataset):
    torch.manual_seed(0)
    return [dataset[index][0].tolist() for index in range(5)]


@pytest.mark.parametrize("kind", PUT_BACK)
def test_what_asking_changes_is_put_back(kind):
    begin_anew()
    dataset = PUT_BACK[kind]()
    state = asked([dataset])
    assert not state.reasons
    assert not trace_of([dataset])
    answers = first(dataset)
    state.restore()
    assert first(dataset) == answers


@pytest.mark.parametrize("kind", ["draws from variables", "counts in variables and classes"])
def test_what_a_copy_shares_is_put_back(kind):
    begin_anew()
    dataset = PUT_BACK[kind]()
    with put_back(None, dataset):
        answers = first(own_copy(dataset))
    assert first(dataset) == answers


@pytest.mark.parametrize("kind", NOT_PUT_BACK)
def test_what_would_leave_a_trace_is_not_asked(kind):
    begin_anew()
    dataset = NOT_PUT_BACK[kind]()
    assert trace_of([dataset])
    with pytest.raises(Traceable), put_back(None, dataset):
        pass


def test_what_can_be_put_back_is_where_the_run_is_over():
    begin_anew()
    dataset = asked_before()
    with put_back(dataset, careful=False):
        torch.rand(3)
        dataset.inputs.add_(1)
        Rows.total += 1
    assert Rows.total == 0
    assert torch.equal(dataset.inputs, Rows().inputs)


class Classifier(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))

    def training_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", nn.functional.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 3e-3)


def trained(kind, *callbacks):
    begin_anew()
    make = {**PUT_BACK, **NOT_PUT_BACK}[kind]
    dataset, size = make(), 300 if kind == "keeps what it drew" else 16
    model = Classifier()
    loaders = DataLoader(dataset, size, shuffle=True), DataLoader(make(), size)
    trainer(*callbacks, max_epochs=4).fit(model, *loaders)
    left = [COUNT, Rows.total, len(SEEN), GENERATOR.random(), PYTHONS.random(), str(ENDLESS), first(dataset)]
    return torch.cat([item.detach().flatten() for item in model.parameters()]), left


class Drawn(Sampler):
    """In an order that a generator of its module draws."""

    def __init__(self, size):
        self.size = size

    def __iter__(self):
        return iter(GENERATOR.permutation(self.size).tolist())

    def __len__(self):
        return self.size


def test_a_full_scan_draws_no_order_from_the_runs_generators():
    begin_anew()
    rows = Rows()
    loaders = DataLoader(rows, 16, sampler=Drawn(len(rows))), DataLoader(Rows(), 16)
    trainer(DataAuditor(scan="full"), max_steps=1).fit(Classifier(), *loaders)
    own = numpy.random.default_rng(0)
    own.permutation(len(rows))
    assert GENERATOR.bit_generator.state == own.bit_generator.state


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*PUT_BACK, *NOT_PUT_BACK])
def test_a_run_on_data_that_keep_count_is_the_same_run(kind):
    weights, left = trained(kind)
    watched, rest = trained(kind, Debugger(console=False))
    assert torch.equal(weights, watched)
    assert left == rest
