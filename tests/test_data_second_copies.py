"""Samples that come twice: with another transform, or from each worker; and what is said of them."""

import pytest
import torch
from sklearn.datasets import load_iris
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, TensorDataset

from lightning_debug.evidence.data_augmentation import AugmentationDraws
from lightning_debug.evidence.data_relations import EpochOrders, SampleCopies, SharedSamples
from lightning_debug.finding import Claim
from lightning_debug.record import Record
from lightning_debug.registry import all_rules, get
from tests.data_programs import codes, found, make


def claims(code, *evidence):
    return [item for item in get(code).function(Record(evidence)) if isinstance(item, Claim)]


class Transformed(Dataset):
    def __init__(self, inputs, labels, transform=None):
        self.inputs, self.labels, self.transform = inputs, labels, transform

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        row = self.inputs[index]
        return row if self.transform is None else self.transform(row), self.labels[index]


def noisy(row):
    return row + 0.2 * torch.randn_like(row)


@pytest.mark.parametrize("transform", [None, noisy, torch.neg], ids=["none", "noise", "negated"])
def test_a_set_joined_with_itself_is_one_of_copies_unless_its_transform_says_otherwise(transform):
    rows = make("tabular")
    joined = ConcatDataset([Transformed(*rows), Transformed(*rows, transform)])
    told = codes(DataLoader(joined, 32, shuffle=True), epochs=2)
    assert told == (["LD507"] if transform is None else [])


def test_copies_within_a_part_are_copies_whatever_the_transform():
    inputs, labels = make("tabular")
    twice = Transformed(inputs.repeat(2, 1), labels.repeat(2), noisy)
    assert codes(DataLoader(ConcatDataset([twice, Transformed(inputs + 9, labels)]), 32, shuffle=True)) == ["LD507"]


class Stream(IterableDataset):
    def __init__(self, inputs, labels, share):
        self.inputs, self.labels, self.share = inputs, labels, share

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        first, step = (worker.id, worker.num_workers) if self.share else (0, 1)
        order = range(first, len(self.labels), step) if self.share else torch.randperm(len(self.labels)).tolist()
        for index in order:
            yield self.inputs[index], self.labels[index]


@pytest.mark.parametrize("share", [True, False])
def test_workers_that_each_deliver_the_whole_stream(share):
    told = found(DataLoader(Stream(*make("tabular"), share), 32, num_workers=2)).findings
    assert [item.code for item in told] == ([] if share else ["LD507"])
    assert share or "Each of 2 workers delivers the whole stream" in told[0].message


def test_a_stream_that_repeats_itself_is_not_its_workers():
    known = {"samples": 2000, "copies": 1000, "largest": 2, "exact": 9, "compared": 12, "streams": True}
    assert not claims("LD507", SampleCopies(**known))
    assert claims("LD507", SampleCopies(**known, readers=2))
    assert not claims("LD507", SampleCopies(**known, readers=2, expected=500.0)), "chance makes as many"


def test_samples_of_different_lengths_have_no_values_in_common():
    known = {"samples": 200, "training": 1200, "shared": 200, "chance": True}
    copies = SampleCopies(samples=1200)
    for compared, words in ((0, "a training sample, and"), (9, "a training sample in all 9 values compared, and")):
        (told,) = claims("LD510", SharedSamples(**known, compared=compared), copies)
        assert words in told.message


IRIS = load_iris()
FLOWERS = torch.tensor(IRIS.data, dtype=torch.float32), torch.tensor(IRIS.target)


def _flowers(order):
    inputs, labels = FLOWERS
    return DataLoader(TensorDataset(inputs[order].clone(), labels[order]), 16, shuffle=True)


def test_rounded_measurements_that_validation_shares_with_training():
    """Centimetres with one decimal: chance makes many that are near, and hardly two that are equal."""
    order = torch.randperm(150, generator=torch.Generator().manual_seed(1))
    whole, held_out = _flowers(order), _flowers(order[110:])
    assert "LD510" not in codes(_flowers(order[:110]), held_out)
    for validation in (held_out, _flowers(order.flip(0))):
        (told,) = [item for item in found(whole, validation).findings if item.code == "LD510"]
        assert "equal a training sample in all 4 values compared" in told.message


def test_a_grid_is_no_leak():
    """All points there are, in both: an image that is fitted, a table of all answers."""
    steps = torch.arange(8) / 8
    grid = torch.cartesian_prod(steps, steps, steps)
    points = DataLoader(TensorDataset(grid, grid.sum(1, keepdim=True)), 32, shuffle=True)
    validation = DataLoader(TensorDataset(grid.clone(), grid.sum(1, keepdim=True)), 32)
    assert "LD510" not in codes(points, validation)


def test_one_seed_at_the_start_of_each_epoch_is_told_once():
    orders = EpochOrders(epochs=4, repeated=2, repeated_samples=2, samples=700, shuffled=True, sampler="RandomSampler")
    draws = AugmentationDraws(samples=12, varies=True, dataset="Sensor")
    assert claims("LD513", draws, orders)
    assert claims("LD517", draws, orders)
    assert "LD517" in next(rule for rule in all_rules() if rule.code == "LD513").explains
