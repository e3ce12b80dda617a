"""Batches as other people build them: cut where that is certain, refused where it is not."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_sequence

from lightning_debug.probes.batch_slicing import Uncuttable, batch_size, cut_batch, structure


@dataclass
class Plain:
    image: torch.Tensor
    label: torch.Tensor
    name: str = "train"


@dataclass(frozen=True)
class Slotted:
    __slots__ = ("image", "label")
    image: torch.Tensor
    label: torch.Tensor


class Named(NamedTuple):
    image: torch.Tensor
    mask: Any
    label: torch.Tensor


Pair = namedtuple("Pair", "a b")


def rows(count, *shape):
    return torch.arange(count, dtype=torch.float32).reshape(count, *[1] * len(shape)).expand(count, *shape).clone()


@pytest.mark.parametrize(
    "batch",
    [
        rows(6, 3),
        (rows(6, 3), rows(6)),
        [rows(6, 3), rows(6).long()],
        {"x": rows(6, 2, 2), "y": rows(6) > 2, "ids": ["a", "b", "c", "d", "e", "f"], "epoch": 3, "name": "split"},
        OrderedDict(x=rows(6), scale=torch.tensor(3.0)),
        Plain(rows(6, 3, 4, 4), rows(6)),
        Slotted(rows(6, 1), rows(6)),
        Named(rows(6, 2), None, rows(6)),
        Pair(rows(6), (rows(6), None)),
        ({"x": rows(6)}, (rows(6), None)),
        [[rows(6, 2), rows(6, 2)], rows(6), ["f"] * 6],
        {"x": rows(6, 0), "y": rows(6)},
        {"x": rows(6).numpy(), "y": rows(6), 7: rows(6)},
        (rows(6), []),
        {"x": rows(6), "size": (224, 224)},
    ],
    ids=lambda batch: type(batch).__name__,
)
def test_every_sample_is_in_one_part(batch):
    assert batch_size(batch) == 6
    first, second = cut_batch(batch, 0, 3), cut_batch(batch, 3, 6)
    assert batch_size(first) == 3
    assert batch_size(second) == 3
    assert structure(first) == structure(batch)
    assert type(first) is type(batch)


def test_values_are_those_of_the_rows():
    batch = {"x": rows(4, 2), "names": ["a", "b", "c", "d"], "mixed": Named(rows(4), None, rows(4).long())}
    part = cut_batch(batch, 1, 3)
    assert part["x"].tolist() == [[1, 1], [2, 2]]
    assert part["names"] == ["b", "c"]
    assert part["mixed"].mask is None
    assert part["mixed"].label.tolist() == [1, 2]


def test_a_part_shares_no_memory_with_the_batch():
    batch = Slotted(rows(4), rows(4))
    cut_batch(batch, 0, 2).image.mul_(100)
    assert batch.image.tolist() == [0, 1, 2, 3]


def test_samples_of_different_sizes_are_kept_in_lists():
    images = [torch.zeros(3, 4, size) for size in (5, 6, 7, 8)]
    targets = [{"boxes": torch.zeros(count, 4)} for count in (1, 0, 2, 5)]
    batch = (images, targets)
    assert batch_size(batch) == 4
    part = cut_batch(batch, 1, 3)
    assert [item.shape[-1] for item in part[0]] == [6, 7]
    assert [len(item["boxes"]) for item in part[1]] == [0, 2]
    with_ids = {"images": images, "ids": torch.arange(4)}
    assert cut_batch(with_ids, 2, 4)["ids"].tolist() == [2, 3]


class Opaque:
    def __init__(self):
        self.x = rows(4)


@pytest.mark.parametrize(
    ("batch", "reason"),
    [
        ((rows(6), rows(10)), "leading sizes 6, 10"),
        ({"x": rows(7, 3), "edge_index": torch.zeros(2, 30).long()}, "leading sizes 2, 7"),
        ((rows(6), Opaque()), "Opaque"),
        ((pack_sequence([rows(3), rows(2)]), rows(2)), "PackedSequence"),
        (torch.eye(4).to_sparse(), "sparse"),
        ([rows(2), rows(2)], "could also be a batch"),
        (([rows(4)] * 4, rows(4)), "could also be a batch"),
        ({"name": "a"}, "no tensor"),
        (torch.tensor(3.0), "no tensor"),
        ((), "no tensor"),
        (torch.zeros(0, 3), "empty"),
        (([torch.zeros(3)] * 4, [torch.zeros(2)] * 5), "leading sizes"),
    ],
)
def test_refuses_what_is_not_certain(batch, reason):
    if reason == "could also be a batch" and isinstance(batch, list):
        batch = (batch, rows(2))
    with pytest.raises(Uncuttable, match=reason) as caught:
        batch_size(batch)
    assert caught.value.reason
    with pytest.raises(Uncuttable):
        cut_batch(batch, 0, 1)


def test_hugging_face_encodings_are_cut():
    from transformers import BatchEncoding

    batch = BatchEncoding({"input_ids": rows(4, 3).long(), "labels": rows(4).long()})
    part = cut_batch(batch, 0, 2)
    assert isinstance(part, BatchEncoding)
    assert part["labels"].tolist() == [0, 1]
    assert batch["labels"].tolist() == [0, 1, 2, 3]


def test_structures_differ_by_container_dtype_and_dimensions():
    base = structure((rows(4, 2), rows(4)))
    assert base == structure((rows(9, 5), rows(9)))
    assert base != structure([rows(4, 2), rows(4)])
    assert base != structure((rows(4, 2).double(), rows(4)))
    assert base != structure((rows(4, 2, 2), rows(4)))
    assert base != structure((rows(4, 2), rows(4), rows(4)))


def test_numpy_scalars_pass():
    assert batch_size({"x": rows(3), "scale": np.float32(2.0)}) == 3
