"""BatchShelf gives back what was put, whatever it is, and holds little memory."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_sequence

from lightning_debug.probes.batch_shelf import BatchShelf


class Pair(NamedTuple):
    """A batch with names."""

    x: Any
    y: Any


@dataclass(frozen=True)
class Graph:
    """A batch as a dataclass."""

    nodes: torch.Tensor
    edges: torch.Tensor
    note: str | None = None


BATCHES: dict[str, Any] = {
    "tuple": (torch.randn(4, 3), torch.arange(4)),
    "dict": {"x": torch.randn(4, 3, dtype=torch.float64), "ids": ["a", "b", "c", "d"], "none": None},
    "named": Pair(torch.randn(4, 3).bfloat16(), torch.rand(4) > 0.5),
    "dataclass": Graph(torch.randn(5, 2, requires_grad=True), torch.zeros(2, 7, dtype=torch.int32)),
    "arrays": [np.arange(6.0).reshape(2, 3), torch.tensor(2.0)],
    "channels last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
    "a part": (torch.randn(1000, 3)[::50], torch.randn(3, 1000).T[:4]),
    "sparse": torch.eye(3).to_sparse(),
    "complex": torch.randn(3, 2, dtype=torch.complex64).conj(),
    "packed": pack_sequence([torch.randn(3, 2), torch.randn(2, 2)]),
    "function": (torch.ones(3), lambda: 1),
}


def _leaves(batch: Any) -> list[Any]:
    if isinstance(batch, dict):
        return [leaf for value in batch.values() for leaf in _leaves(value)]
    if isinstance(batch, (list, tuple)):
        return [leaf for value in batch for leaf in _leaves(value)]
    if isinstance(batch, Graph):
        return _leaves([batch.nodes, batch.edges, batch.note])
    return [batch]


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("in_memory", [0, 2**20])
def test_gives_back_what_was_put(name: str, in_memory: int) -> None:
    batch, shelf = BATCHES[name], BatchShelf(in_memory)
    shelf.put("another")
    shelf.put(batch)
    shelf.put("a third")
    found = shelf.get(1)
    assert type(found) is type(batch)
    for before, after in zip(_leaves(batch), _leaves(found), strict=True):
        if isinstance(before, torch.Tensor):
            assert (after.dtype, after.layout, after.requires_grad) == (
                before.dtype,
                before.layout,
                before.requires_grad,
            )
            if before.layout is torch.strided:
                assert after.is_contiguous(memory_format=torch.channels_last) or name != "channels last"
                assert torch.equal(before, after)
        elif isinstance(before, np.ndarray):
            np.testing.assert_array_equal(before, after)
        elif not callable(before):
            assert before == after
    assert (shelf.get(0), shelf.get(2), len(shelf)) == ("another", "a third", 3)


def test_is_a_copy() -> None:
    values, shelf = torch.zeros(3), BatchShelf()
    shelf.put([values])
    values.add_(1)
    shelf.get(0)[0].add_(5)
    assert shelf.get(0)[0].tolist() == [0, 0, 0]


def test_keeps_in_memory_what_no_disk_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    shelf = BatchShelf(0)
    for number in range(3):
        shelf.put(torch.full((4,), number))
    assert [item.tolist() for item in shelf.first(2)] == [[0] * 4, [1] * 4]


def test_writes_no_more_than_the_batch() -> None:
    shelf = BatchShelf(0)
    shelf.put(torch.randn(100_000)[:10])
    shelf.put(torch.randn(1000, 1000).T[:10, :2])
    assert sum(kept.size for kept in shelf._kept) < 2000
