"""What is remembered of data: all but the samples of large sets."""

import pytest
import torch

from lightning_debug.experiments._snapshot import Snapshot

SAMPLES = {
    "lists": lambda index: [index, 1, 2],
    "nested": lambda index: ({"ids": [index]}, [[index]]),
    "tensors": lambda index: torch.full((1,), index),
}


class Texts:
    def __init__(self, samples):
        self.samples, self.asked, self.seen, self.cache = samples, 0, [], {"last": [0]}


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("count", [100, 5000])
def test_counters_and_caches_are_put_back_however_large_the_data(kind, count):
    data = Texts([SAMPLES[kind](index) for index in range(count)])
    state = Snapshot()
    state.add(data, "data", lenient=True)
    data.asked += 1
    data.seen.append(3)
    data.cache["last"].append(1)
    data.cache["first"] = 2
    data.samples.append(None)
    state.restore()
    assert (data.asked, data.seen, data.cache, len(data.samples)) == (0, [], {"last": [0]}, count)


@pytest.mark.parametrize("kind", SAMPLES)
def test_samples_of_small_data_are_put_back(kind):
    data = Texts([SAMPLES[kind](index) for index in range(100)])
    state = Snapshot()
    state.add(data, "data", lenient=True)
    for sample in data.samples:
        if kind == "tensors":
            sample.add_(1)
        elif kind == "lists":
            sample.append(0)
        else:
            sample[0]["ids"].append(0)
            sample[1][0].append(0)
    state.restore()
    assert all(item == SAMPLES[kind](index) for index, item in enumerate(data.samples))


def test_samples_of_large_data_are_passed_over():
    small, large = Snapshot(), Snapshot()
    small.add(Texts([]), "data", lenient=True)
    large.add(Texts([{"ids": [index, [1]]} for index in range(5000)]), "data", lenient=True)
    assert len(large._walk.keepers) - len(small._walk.keepers) < 5  # what one step costs


def test_what_the_module_holds_is_not_data():
    held = [[index] for index in range(5000)]
    state = Snapshot()
    state.add(held, "module")
    held[4321].append(1)
    state.restore()
    assert held[4321] == [4321]


def test_what_joins_is_taken_off_its_graph_as_well():
    memory = [torch.ones(2, requires_grad=True) * 2]
    state, other = Snapshot(), Snapshot(asked=True)
    other.add(memory, "memory", lenient=True)
    state.join(other)
    state.detach()
    assert memory[0].is_leaf
    state.restore()
    assert not memory[0].is_leaf
