"""Private batches of the training set: as the loader makes them, and nothing notices."""

import random

import numpy
import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from lightning_debug.callbacks._lightning_data import BufferedBatches, NotDrawable, training_batches
from tests.helpers import trainer


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(3, 1)

    def training_step(self, batch, batch_idx):
        return self.net(torch.ones(2, 3)).sum() * 0

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Moved(Net):
    def on_before_batch_transfer(self, batch, dataloader_idx):
        batch[0].add_(1)
        return batch


class Noisy(Dataset):
    def __len__(self):
        return 20

    def __getitem__(self, index):
        drawn = torch.rand(3) + numpy.random.rand() + random.random()
        return {"x": torch.full((3,), float(index)), "noise": drawn, "name": str(index)}


class Stream(IterableDataset):
    def __iter__(self):
        return iter(torch.ones(8, 3))


class Probe(pl.Callback):
    def __init__(self, look):
        self.look = look

    def on_train_start(self, trainer, pl_module):
        self.found = self.look(trainer, pl_module)


def look(loaders, function, module=None, **options):
    probe = Probe(function)
    trainer(probe, max_steps=1, **options).fit(module or Net(), loaders)
    return probe.found


def indices(batches, numbers):
    return [sorted(batches.raw(number)[0].flatten().int().tolist()) for number in numbers]


def rows(count):
    return TensorDataset(torch.arange(count).float()[:, None])


@pytest.mark.parametrize(
    "loader",
    [
        DataLoader(rows(40), batch_size=4, shuffle=True),
        DataLoader(rows(40), batch_size=4, drop_last=True),
        DataLoader(rows(40), sampler=WeightedRandomSampler(torch.ones(40), 40), batch_size=4),
        DataLoader(rows(80), sampler=SubsetRandomSampler(range(40)), batch_size=4),
        DataLoader(rows(40), batch_sampler=BatchSampler(RandomSampler(range(40)), 4, False)),
    ],
)
def test_batches_are_the_loaders_and_what_is_held_out_is_apart(loader):
    batches = look(loader, training_batches)
    train = {row for one in indices(batches, batches.train) for row in one}
    held = {row for one in indices(batches, batches.held_out) for row in one}
    assert all(len(one) == 4 for one in indices(batches, [*batches.train, *batches.held_out]))
    assert not train & held
    assert train | held <= set(range(40))
    assert len(batches.train) == 8
    assert len(batches.held_out) == 2


def test_nothing_is_drawn_from_the_global_generators():
    def draw(trainer, pl_module):
        before = torch.get_rng_state(), numpy.random.get_state()[1].tolist(), random.getstate()
        batch = training_batches(trainer, pl_module).batch(0)
        after = torch.get_rng_state(), numpy.random.get_state()[1].tolist(), random.getstate()
        return batch, torch.equal(before[0], after[0]) and before[1:] == after[1:]

    batch, same = look(DataLoader(Noisy(), batch_size=4, shuffle=True), draw)
    assert same
    assert set(batch) == {"x", "noise", "name"}


def test_transfer_hooks_are_the_loops_and_run_once_a_batch():
    def draw(trainer, pl_module):
        batches = training_batches(trainer, pl_module)
        return [float(batches.batch(0)[0].min() - batches.raw(0)[0].min()) for _ in range(3)]

    assert look(DataLoader(rows(8), batch_size=2), draw, Moved()) == [1, 1, 1]


def test_several_loaders_make_one_batch():
    loaders = {"a": DataLoader(rows(8), batch_size=2), "b": [DataLoader(rows(40), batch_size=4)]}
    batch = look(loaders, lambda *run: training_batches(*run).raw(3))
    assert batch["a"][0].shape == (2, 1)
    assert batch["b"][0][0].shape == (4, 1)


def test_whole_batches_from_the_data_set():
    pairs = TensorDataset(torch.arange(12.0).reshape(6, 2))
    batch = look(DataLoader(pairs, batch_size=None), lambda *run: training_batches(*run).raw(0))
    assert batch[0].shape == (2,)


def test_limited_runs_draw_from_what_they_see():
    batches = look(DataLoader(rows(40), batch_size=2), training_batches, limit_train_batches=5)
    assert {row for one in indices(batches, batches.train) for row in one} <= set(range(10))


class Odd(BatchSampler):
    pass


@pytest.mark.parametrize(
    ("loader", "words"),
    [
        (DataLoader(Stream(), batch_size=4), "Stream only yields samples in turn"),
        ([torch.ones(2, 3), torch.ones(2, 3)], "only yields batches in turn"),
        (DataLoader(rows(8), batch_sampler=Odd(RandomSampler(range(8)), 2, False)), "Odd decides"),
    ],
)
def test_what_cannot_be_drawn_is_said(loader, words):
    def draw(trainer, pl_module):
        with pytest.raises(NotDrawable, match=words):
            training_batches(trainer, pl_module)

    look(loader, draw)


def test_buffered_batches_are_copies_and_a_fifth_is_held_out():
    buffered, batch = BufferedBatches(wanted=10), {"x": torch.zeros(2)}
    while not buffered.full:
        buffered.add(batch)
        batch["x"] += 1
    assert [float(buffered.batch(index)["x"][0]) for index in buffered.held_out] == [8, 9]
    assert list(buffered.train) == list(range(8))
