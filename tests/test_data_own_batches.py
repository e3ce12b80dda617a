"""Datasets that are asked for whole lists of indices, and make their batches themselves."""

from __future__ import annotations

from typing import Any

import numpy
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler

from lightning_debug.callbacks._data_part import Source
from lightning_debug.callbacks._data_scan import private_loader
from tests.data_programs import codes, loader, make
from tests.test_data_relations_draws import Augmented


class Batches(Dataset[Any]):
    """Rows by lists of indices, with noise from a generator of its own if wanted."""

    def __init__(self, inputs: torch.Tensor, labels: torch.Tensor, noise: str = "") -> None:
        self.inputs, self.labels, self.noise = inputs.tolist(), labels, noise
        self.rng = numpy.random.default_rng(0)

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        inputs = torch.tensor([self.inputs[row] for row in rows])
        if self.noise == "own":
            inputs = inputs + 0.1 * torch.tensor(self.rng.normal(size=inputs.shape)).float()
        elif self.noise:
            inputs = inputs + 0.1 * torch.randn(inputs.shape)
        return inputs, self.labels[rows]


def by_lists(dataset: Batches, workers: int = 0) -> DataLoader[Any]:
    order = BatchSampler(RandomSampler(dataset), 20, False)
    return DataLoader(dataset, batch_size=None, sampler=order, num_workers=workers)


def test_faults_are_found_in_batches_of_the_dataset():
    inputs, labels = make("tabular", 400)
    twice = torch.cat([inputs, inputs[:60]]), torch.cat([labels, labels[:60]])
    assert "LD507" in codes(by_lists(Batches(*twice)))
    assert "LD505" in codes(by_lists(Batches(inputs, labels.roll(2))))
    assert "LD513" in codes(by_lists(Batches(inputs, labels, "own"), workers=2))


def test_batches_of_the_dataset_are_healthy():
    inputs, labels = make("tabular", 400)
    for noise in ("", "global"):
        assert not codes(by_lists(Batches(inputs, labels, noise)))


def test_a_scan_asks_for_the_same_lists_without_a_copy_of_the_dataset():
    dataset = Batches(*make("tabular", 50))
    loader, _ = private_loader(Source("train", 0, by_lists(dataset)))
    assert loader.dataset is dataset
    assert [len(rows) for rows in loader.sampler] == [20, 20, 10]
    assert loader.sampler._batches.sampler.data_source is dataset


class Shards(Dataset[Any]):
    """An item is a batch: some rows in turn, or drawn anew from a pool, with noise if wanted."""

    def __init__(self, noise: str = "", drawn: bool = False) -> None:
        self.inputs, self.labels = make("tabular", 400)
        self.noise, self.drawn = noise, drawn
        self.rng = numpy.random.default_rng(0)

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        rows = torch.arange(20 * index, 20 * index + 20)
        if self.drawn:
            rows = torch.randint(0, 400, (20,)) if self.noise != "own" else torch.tensor(self.rng.integers(0, 400, 20))
        if self.noise == "seeded":
            numpy.random.seed(0)
        inputs = self.inputs[rows]
        if self.noise == "own" and not self.drawn:
            inputs = inputs + 0.1 * torch.tensor(self.rng.normal(size=inputs.shape)).float()
        elif self.noise and not self.drawn:
            inputs = inputs + 0.1 * torch.tensor(numpy.random.normal(size=inputs.shape)).float()
        return inputs, self.labels[rows]


def own_way(worker: int) -> None:
    """A worker's generator is made where it begins."""
    torch.utils.data.get_worker_info().dataset.rng = numpy.random.default_rng(worker)


def test_items_that_are_batches_are_healthy():
    quiet = [
        DataLoader(Shards(), batch_size=None, shuffle=True),
        DataLoader(Shards("global"), batch_size=None, shuffle=True),
        DataLoader(Shards(drawn=True), batch_size=None),
        DataLoader(Shards("own"), batch_size=None, shuffle=True),
        DataLoader(Shards("own"), batch_size=None, shuffle=True, num_workers=2, worker_init_fn=own_way),
    ]
    for given in quiet:
        assert not codes(given)


def test_items_that_are_batches_may_draw_alike():
    assert "LD513" in codes(DataLoader(Shards("seeded"), batch_size=None, shuffle=True))
    for drawn in (False, True):
        assert "LD513" in codes(DataLoader(Shards("own", drawn=drawn), batch_size=None, num_workers=2))


class Views(Augmented):
    """Two views of each sample in a list, of which the second is drawn anew, or the first again."""

    def __init__(self, drawn):
        super().__init__("image")
        self.drawn = drawn

    def __getitem__(self, index):
        views = [self.inputs[index] + 0.1 * self.noise(self.inputs[index].shape) for _ in range(self.drawn)]
        return (views * 2)[:2], self.labels[index]


class Rebuilt(Augmented):
    """What an autoencoder is given, and is to give back."""

    def __getitem__(self, index):
        noisy, _ = super().__getitem__(index)
        return noisy, noisy


def test_views_that_are_one_and_the_same():
    assert codes(loader(Views(1))) == ["LD513"]
    assert not codes(loader(Views(2)))
    assert not codes(loader(Rebuilt("image")))
