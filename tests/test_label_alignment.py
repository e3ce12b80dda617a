"""Labels that have nothing to do with their inputs are seldom taken to depend on them, however many tests are tried."""

import numpy as np
import pytest

from lightning_debug.probes.relation_alignment import ENOUGH, label_alignment
from lightning_debug.probes.relation_stream import Samples


def samples(seed, labels):
    rows = np.random.default_rng(seed).normal(size=(96, 6)).astype(np.float32)
    return Samples(keys=np.arange(96, dtype=np.uint64), labels=labels(rows), kind="classes", rows=rows, shape=(6,))


def depends(seed, labels):
    found = label_alignment(samples(seed, labels))
    return min(found.p_values.values()) <= ENOUGH


def test_luck_of_many_tests_is_no_dependence():
    draw = np.random.default_rng(99)
    found = [depends(seed, lambda rows: draw.integers(0, 3, len(rows))) for seed in range(40)]
    assert sum(found) <= 1


@pytest.mark.parametrize(
    "labels",
    [
        lambda rows: (rows[:, 2] > 0).astype(int),
        lambda rows: (rows[:, 0] * rows[:, 1] > 0).astype(int),
        lambda rows: ((rows**2).sum(1) > 5.3).astype(int),
    ],
    ids=["a column", "a product", "a distance"],
)
def test_dependence_is_still_found(labels):
    assert all(depends(seed, labels) for seed in range(4))


def test_pairs_from_a_window_are_not_moved_labels():
    """A word and one of its neighbours in a sentence: a few rows on, the label is the word itself."""
    draw, pairs = np.random.default_rng(1), []
    for _ in range(60):
        group = draw.integers(3)
        words = [draw.integers(6) + (6 + 6 * group) * (place % 2) for place in range(8)]
        near = [(at, at + step) for at in range(8) for step in (-2, -1, 1, 2) if 0 <= at + step < 8]
        pairs += [(words[at], words[other]) for at, other in near]
    rows, labels = np.array([[word] for word, _ in pairs], dtype=np.float32), np.array([other for _, other in pairs])
    given = Samples(keys=np.arange(len(rows), dtype=np.uint64), labels=labels, kind="classes", rows=rows, shape=(1,))
    assert label_alignment(given).shift == 0
