"""A collate function that parts inputs from labels, and those that only look like it."""

import random
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from lightning_debug import Debugger
from lightning_debug.callbacks._data_collate import DataCollate
from lightning_debug.evidence.data_relations import CollatedOrder
from lightning_debug.finding import Claim
from lightning_debug.probes.collate_order import parted
from lightning_debug.record import Record
from lightning_debug.registry import get
from tests.data_programs import Context
from tests.helpers import trainer


def samples(kind="series", count=10):
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(5, 12, (count,), generator=generator).tolist()
    if kind == "token":
        rows = [torch.randint(1, 90, (length,), generator=generator) for length in lengths]
    elif kind == "image":
        rows = [torch.rand(3, 6, 6, generator=generator) * length for length in lengths]
    else:
        rows = [torch.randn(length, 4, generator=generator) for length in lengths]
    return [(row, index % 3) for index, row in enumerate(rows)]


def size(row):
    return float(len(row) if row.shape[0] != 3 else row.max())


def batch(rows, labels):
    return pad_sequence(list(rows), batch_first=True), torch.tensor(list(labels))


def kept(items):
    return batch(*zip(*items, strict=True))


def sorted_together(items):
    return kept(sorted(items, key=lambda item: size(item[0])))


def shuffled_together(items):
    return kept(random.sample(items, len(items)))


def time_first(items):
    rows, labels = sorted_together(items)
    return {"x": rows.transpose(0, 1), "y": labels}


def mixup(items):
    rows, labels = kept(items)
    order = torch.randperm(len(rows))
    return 0.7 * rows + 0.3 * rows[order], labels, labels[order]


def pairs(items):
    """Each sample with another of the batch, and both labels."""
    rows, labels = kept(items)
    order = torch.arange(len(rows)).roll(1)
    return rows, rows[order], labels, labels[order]


def mixed_in_the_step(items):
    """The inputs as they are, and the labels of those they will be mixed with."""
    rows, labels = kept(items)
    return rows, labels, labels.roll(1)


def masked(items):
    rows, labels = kept(items)
    return rows * (torch.rand(rows.shape) > 0.2), labels


def of_the_batch(items):
    """Labels that a batch gives: places in an order."""
    rows, _ = kept(items)
    return rows, torch.tensor([size(item[0]) for item in items]).argsort()


def concatenated(items):
    rows, labels = zip(*items, strict=True)
    return pad_sequence(list(rows), batch_first=True), torch.cat([torch.full((2,), label) for label in labels])


def unequal(items):
    return kept(items) if len(items) > 1 else items


HEALTHY = [kept, sorted_together, shuffled_together, time_first, mixup, pairs, mixed_in_the_step, masked, of_the_batch]
HEALTHY += [concatenated, unequal]


def found(items, collate):
    state = torch.get_rng_state(), random.getstate()

    def seed():
        torch.set_rng_state(state[0])
        random.setstate(state[1])

    return parted(items, collate, seed)


@pytest.mark.parametrize("collate", HEALTHY, ids=lambda item: item.__name__)
def test_samples_that_stay_together(collate):
    assert found(samples(), collate) is None


def test_fewer_samples_tell_nothing():
    assert found(samples(count=3), sorted_apart) is None


def sorted_apart(items):
    rows, labels = zip(*items, strict=True)
    return batch(sorted(rows, key=size), labels)


def molecules(count=12):
    """Chains of atoms, some of which have the same atoms, and some the same bonds."""
    found = []
    for index in range(count):
        atoms = torch.ones(4 + index // 3, dtype=torch.long)
        atoms[0] = 1 + index % 3 % 2
        bonds = torch.diag(torch.ones(len(atoms) - 1), 1)
        bonds[0, -1] = index % 3 // 2
        found.append((atoms, bonds, 0.5 * index))
    return found


def graphs(items, apart=False):
    values = torch.tensor([item[2] for item in items])
    items = sorted(items, key=lambda item: -len(item[0]))
    atoms = pad_sequence([item[0] for item in items], batch_first=True)
    bonds = torch.zeros(*atoms.shape, atoms.shape[1])
    for place, (_, one, _) in enumerate(items):
        bonds[place, : len(one), : len(one)] = one
    return {"atoms": atoms, "bonds": bonds, "value": values if apart else torch.tensor([item[2] for item in items])}


@pytest.mark.parametrize("apart", [False, True])
def test_graphs_that_only_atoms_and_bonds_tell_apart(apart):
    seen = found(molecules(), partial(graphs, apart=apart))
    assert (seen is not None and (seen.field, seen.inputs)) == (apart and ("batch['value']", "batch['atoms']"))


def lengths_apart(items):
    rows, labels = zip(*sorted(items, key=lambda item: size(item[0])), strict=True)
    padded, labels = batch(rows, labels)
    return {"inputs": padded, "lengths": torch.tensor([size(item[0]) for item in items]), "labels": labels}


def labels_apart(items):
    rows, labels = zip(*items, strict=True)
    return batch(rows, sorted(labels))


def judged(kind, collate):
    seen = found(samples(kind), collate)
    fields = {} if seen is None else {"field": seen.field, "inputs": seen.inputs, "moved": seen.moved}
    evidence = CollatedOrder(samples=10, collate=collate.__name__, **fields)
    return [item for item in get("LD522").function(Record([evidence])) if isinstance(item, Claim)]


@pytest.mark.parametrize("kind", ["image", "series", "token"])
def test_parted_by_type(kind):
    for collate, name in ((sorted_apart, "batch[1]"), (labels_apart, "batch[1]"), (lengths_apart, "batch['lengths']")):
        if collate is lengths_apart and kind == "image":
            continue
        claims = judged(kind, collate)
        assert [name in claim.message for claim in claims] == [True], (kind, collate)
    assert not judged(kind, sorted_together)


class Noisy:
    """Draws from a generator of its own, and counts."""

    def __init__(self):
        self.generator, self.calls = torch.Generator().manual_seed(0), 0

    def __call__(self, items):
        self.calls += 1
        rows, labels = kept(items)
        return rows + torch.randn(rows.shape, generator=self.generator), labels

    def method(self, items):
        return self(items)


SHARED = torch.Generator().manual_seed(0)


def of_the_module(items):
    torch.rand(1, generator=SHARED)
    return sorted_apart(items)


def test_a_generator_of_the_module_is_not_drawn_from():
    assert not asked(of_the_module)
    assert torch.equal(SHARED.get_state(), torch.Generator().manual_seed(0).get_state())


def closure(noisy):
    return lambda items: noisy(items)


def asked(collate):
    part = DataCollate()
    part.begin(Context(DataLoader(samples(count=24), 6, collate_fn=collate), None))
    return list(part.end_of_epoch("train") or ())


@pytest.mark.parametrize("how", ["object", "method", "closure", "partial"])
def test_a_collate_function_keeps_its_own_state(how):
    noisy = Noisy()
    ways = {"object": noisy, "method": noisy.method, "closure": closure(noisy), "partial": partial(Noisy.method, noisy)}
    assert not [item for item in asked(ways[how]) if item.field]
    assert noisy.calls == 0
    assert torch.equal(noisy.generator.get_state(), torch.Generator().manual_seed(0).get_state())


class Data:
    def collate(self, items):
        return sorted_apart(items)


@pytest.mark.parametrize("collate", [sorted_apart, Data().collate, partial(Data.collate, None)])
def test_functions_and_methods_are_asked(collate):
    assert [item.field for item in asked(collate)] == ["batch[1]"]


COUNTED, TOTAL = {"calls": 0}, 0


class Counting(pl.LightningDataModule):
    """Whose collate function counts its calls in each way there is, and makes batches by the counts."""

    def __init__(self, nested):
        super().__init__()
        self.nested, self.calls, self.seen = nested, 0, []

    def collate(self, items):
        self.calls += 1
        self.seen.append(self.calls)
        return sorted_together(items)

    def train_dataloader(self):
        inner = 0

        def collate(items):
            nonlocal inner
            global TOTAL
            inner, TOTAL = inner + 1, TOTAL + 1
            COUNTED["calls"] += 1
            self.seen.append(inner)
            return self.collate(items)

        return DataLoader(samples("image", 24), 6, collate_fn=collate if self.nested else self.collate)


class Plain(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(108, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(batch[0].flatten(1)).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1e-4)


@pytest.mark.parametrize("nested", [False, True])
def test_a_collate_function_that_counts_counts_the_run_alone(nested):
    global TOTAL
    COUNTED["calls"], TOTAL = 0, 0
    data = Counting(nested)
    trainer(Debugger(console=False), max_epochs=1).fit(Plain(), datamodule=data)
    assert data.calls == 4
    assert len(data.seen) == (8 if nested else 4)
    assert (COUNTED["calls"], TOTAL) == ((4, 4) if nested else (0, 0))
