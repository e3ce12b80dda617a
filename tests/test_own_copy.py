"""Copies of data sets that are asked in the run's stead."""

import numpy
import pytest
import torch

from lightning_debug.probes.own_copy import own_copy


class Texts:
    def __init__(self, samples, path=None):
        self.samples, self.asked, self.cache = samples, 0, {}
        self.rows = None if path is None else numpy.memmap(path, "float32", "r")


SAMPLES = {
    "pairs": lambda index: ([index, 1, 2], index % 2),
    "dictionaries": lambda index: {"input_ids": [index, 1], "label": index % 2, "meta": {"at": [index]}},
    "tensors": lambda index: (torch.full((2,), index), index % 2),
    "objects": lambda index: Texts([index]),
}


@pytest.mark.parametrize("kind", SAMPLES)
def test_nothing_that_a_copy_changes_is_the_originals(kind):
    original = Texts([SAMPLES[kind](index) for index in range(500)])
    copied = own_copy(original)
    copied.asked += 1
    copied.cache[0] = "seen"
    copied.samples.append(None)
    for sample in copied.samples[:-1]:
        if kind == "objects":
            sample.samples.append(1)
        else:
            first = sample["meta"]["at"] if kind == "dictionaries" else sample[0]
            first.add_(1) if kind == "tensors" else first.append(1)
    again = Texts([SAMPLES[kind](index) for index in range(500)])
    assert (original.asked, original.cache, len(original.samples)) == (0, {}, 500)
    if kind == "objects":
        assert all(len(sample.samples) == 1 for sample in original.samples)
    elif kind == "tensors":
        assert all(torch.equal(one[0], other[0]) for one, other in zip(original.samples, again.samples, strict=True))
    else:
        assert original.samples == again.samples


def test_only_files_mapped_for_reading_are_shared(tmp_path):
    numpy.arange(8, dtype="float32").tofile(tmp_path / "rows")
    original = Texts([numpy.zeros(2)], tmp_path / "rows")
    copied = own_copy(original)
    assert copied.rows is original.rows
    assert copied.samples[0] is not original.samples[0]


def test_a_list_within_itself_is_copied():
    rows = [[index] for index in range(300)]
    rows.append(rows)
    copied = own_copy(rows)
    assert copied[-1] is copied
    assert copied[0] is not rows[0]
