"""Seeds that workers and samplers are given anew in each epoch."""

import numpy
import pytest
import torch
from torch.utils.data import DataLoader, Sampler, TensorDataset

from tests.data_programs import codes, found, loader, make
from tests.test_data_relations_draws import OfNumpy, stated


def of_epoch(worker):
    numpy.random.seed(torch.initial_seed() % 2**32 + worker)


def of_worker(worker):
    numpy.random.seed(7 + worker)


def of_nothing(worker):
    numpy.random.seed(0)


def of_another(worker):
    torch.manual_seed(0)


def of_more(worker):
    numpy.random.seed(0)
    of_epoch(worker)


@pytest.mark.parametrize("seeds", [of_worker, of_nothing, numpy.random.seed])
def test_workers_that_are_seeded_alike_in_each_epoch(seeds):
    given = stated(OfNumpy("tabular"), worker_init_fn=seeds)
    assert codes(given) == ["LD513"]
    assert ("2 workers draw alike" in found(given).findings[0].message) == (seeds is of_nothing)
    assert not codes(loader(OfNumpy("tabular"), worker_init_fn=seeds))  # without workers it is not called


@pytest.mark.parametrize("seeds", [of_epoch, of_another, of_more, print])
def test_workers_that_are_seeded_otherwise(seeds):
    assert not codes(stated(OfNumpy("tabular"), worker_init_fn=seeds))


def test_workers_that_live_on_are_seeded_once():
    kept = {"persistent_workers": True}
    assert not codes(stated(OfNumpy("tabular"), worker_init_fn=of_worker, **kept))
    assert codes(stated(OfNumpy("tabular"), worker_init_fn=of_nothing, **kept)) == ["LD513"]


class Redrawn(Sampler):
    """Draws its order each time, under one seed."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __iter__(self):
        return iter(torch.randperm(self.count, generator=torch.Generator().manual_seed(0)).tolist())


class DrawnOnce(Redrawn):
    def __init__(self, count):
        super().__init__(count)
        self.order = torch.randperm(count).tolist()

    def __iter__(self):
        return iter(self.order)


@pytest.mark.parametrize(("sampler", "said"), [(Redrawn, ["LD517"]), (DrawnOnce, [])])
def test_a_sampler_of_ones_own(sampler, said):
    rows = TensorDataset(*make("tabular", 200))
    assert codes(DataLoader(rows, batch_size=20, sampler=sampler(200)), epochs=3) == said
