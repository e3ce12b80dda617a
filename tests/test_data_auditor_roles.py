"""Roles of the fields of batches of every structure."""

import dataclasses
from typing import Any, NamedTuple

import numpy
import pytest
import torch
from torch import randint, randn

from lightning_debug.probes.batch_roles import batch_roles, with_tensors


class Pair(NamedTuple):
    x: Any
    y: Any
    z: Any = None


@dataclasses.dataclass
class Item:
    feats: torch.Tensor
    target: torch.Tensor
    names: list[str]
    extra: object = None


class Slotted:
    __slots__ = ("x",)

    def __init__(self):
        self.x = randn(4, 2)


PADDED = torch.ones(4, 6, 5).cumsum(1) * (torch.arange(6) < torch.tensor([[6], [4], [2], [3]]))[..., None]
tokens = randint(0, 50, (8, 12))
CASES = {
    "images": ((randn(8, 3, 16, 16), randint(0, 10, (8,))), "input:image label:classes"),
    "raw images": ((randint(0, 255, (8, 16, 16, 3), dtype=torch.uint8), randint(0, 9, (8,))), "input:image label:classes"),
    "regression": ((randn(8, 5), randn(8)), "input:values label:values"),
    "regression (N, 1)": ((randn(8, 5), randn(8, 1)), "input:values label:values"),
    "several targets": ((randn(8, 5), randn(8, 3)), "input:values label:values"),
    "binary": ((randn(8, 5), randint(0, 2, (8,)).float()), "input:values label:binary"),
    "one-hot": ((randn(8, 5), torch.eye(4)[randint(0, 4, (8,))]), "input:values label:one-hot"),
    "multi-hot": ((randn(8, 5), torch.tensor([[1.0, 1, 0]] * 8)), "input:values label:multi-hot"),
    "segmentation": ((randn(8, 3, 16, 16), randint(0, 4, (8, 16, 16))), "input:image label:classes"),
    "forecast": ((randn(8, 24, 3), randn(8, 6)), "input:series label:values"),
    "lengths behind the label": (
        (PADDED, torch.tensor([0, 2, 0, 1]), torch.tensor([6, 4, 2, 3])),
        "input:counts label:classes tokens:ids",
    ),
    "no lengths": (
        (randn(4, 6), torch.tensor([0, 2, 0, 1]), torch.tensor([6, 2, 2, 3])),
        "input:values tokens:ids label:classes",
    ),
    "particles": (
        {"position": randn(8, 5, 3), "charge": randn(8, 5, 1), "future": randn(8, 5, 3)},
        "input:series input:series label:values",
    ),
    "covariates": (
        {"past": randn(8, 24, 1), "future_covariates": randn(8, 6, 2), "future": randn(8, 6, 1)},
        "input:series input:series label:values",
    ),
    "two views": (((randn(8, 3, 8, 8), randn(8, 3, 8, 8)), randint(0, 3, (8,))), "input:image input:image label:classes"),
    "autoencoder": ([randn(8, 1, 8, 8)], "input:image"),
    "tensor": (randn(8, 5), "input:values"),
    "text": ((tokens, randint(0, 2, (8,))), "tokens:ids label:classes"),
    "language": ((tokens, tokens.roll(-1, 1)), "tokens:ids label:classes"),
    "language by name": (
        {"input_ids": tokens, "attention_mask": torch.ones(8, 12).long(), "labels": tokens},
        "tokens:ids mask: label:classes",
    ),
    "ratings": (
        {"user": randint(0, 50, (8,)), "item": randint(0, 50, (8,)), "stars": randint(1, 6, (8,))},
        "tokens:ids tokens:ids label:classes",
    ),
    "events": ({"src": randint(0, 50, (8,)), "dst": randint(0, 50, (8,)), "t": torch.arange(8.0)}, "tokens:ids label:classes other:"),
    "complex": ((randn(8, 64, dtype=torch.complex64), randint(0, 4, (8,))), "other: label:classes"),
    "complex targets": ((randn(8, 5, dtype=torch.complex64), randn(8, 5, dtype=torch.complex64)), "other: other:"),
    "x and t": ({"x": randn(8, 5), "t": randn(8)}, "input:values label:values"),
    "weights": ((randn(8, 5), randint(0, 3, (8,)), torch.rand(8)), "input:values label:classes other:"),
    "index": ((randn(8, 5), torch.zeros(8).long(), torch.arange(8)), "input:values label:classes tokens:ids"),
    "strings": ({"x": randn(2, 5), "label": ["a", "b"], "file": ["p", "q"]}, "input:values label:texts other:texts"),
    "names of classes": ((randn(4, 5), ["cat", "dog", "cat", "dog"]), "input:values label:texts"),
    "names of files": ((randn(4, 5), ["a.png", "b.png", "c.png", "d.png"]), "input:values other:texts"),
    "names of domains": ((randn(4, 5), randint(0, 3, (4,)), ["on", "off"] * 2), "input:values label:classes other:texts"),
    "names that are sorted": ((randn(4, 5), ["cat"] * 4), "input:values label:texts"),
    "speakers": ({"audio": randn(4, 5), "speaker": ["ann", "bob"] * 2}, "input:values other:texts"),
    "named tuple": (Pair(randn(8, 3), randint(0, 3, (8,))), "input:values label:classes"),
    "dataclass": (Item(randn(2, 3), randn(2), ["p", "q"]), "input:values label:values other:texts"),
    "nested": (({"a": randn(8, 3)}, (randint(0, 2, (8,)), None)), "input:values label:classes"),
    "arrays": ((numpy.random.randn(8, 3), numpy.arange(8)), "input:values label:classes"),
    "0-d": ((randn(8, 3), torch.tensor(3)), "input:values other:"),
    "empty": ((randn(0, 3), randint(0, 3, (0,))), "other: other:"),
    "none": (None, ""),
    "no tensors": ({"a": "text", "b": 3}, ""),
    "slots": (Slotted(), ""),
    "ragged": ([[randn(3, 2), randn(5, 2)], randint(0, 2, (2,))], None),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_roles(name):
    batch, expected = CASES[name]
    fields = batch_roles(batch)
    if expected is not None:
        assert " ".join(f"{item.role}:{item.kind}" for item in fields) == expected
    again = with_tensors(fields, batch)
    assert again is None or [item.role for item in again] == [item.role for item in fields]


def test_the_user_names_them():
    batch = {"foo": randn(8, 2), "bar": randn(8, 3), "aux": randint(0, 3, (8,))}
    fields = {item.path: item for item in batch_roles(batch, inputs="bar", labels="batch['foo']")}
    assert fields["batch['bar']"].role == "input"
    assert fields["batch['foo']"].role == "label"
    assert fields["batch['bar']"].named
    assert fields["batch['aux']"].role == "tokens"


def test_a_batch_of_another_make_is_not_taken_for_the_same():
    known = batch_roles((randn(8, 3), randint(0, 3, (8,))))
    assert with_tensors(known, (randn(8, 3),)) is None
    assert with_tensors(known, (randn(8, 3).double(), randint(0, 3, (8,)))) is None
    assert with_tensors(known, (randn(8, 3), randint(0, 3, (5,)))) is None
    assert [item.size for item in with_tensors(known, (randn(5, 3), randint(0, 3, (5,))))] == [5, 5]


def test_nodes_of_graphs_are_no_samples():
    nodes = {"x": randn(9, 2), "edge_index": randint(0, 9, (2, 20)), "batch": torch.tensor([0] * 4 + [1] * 2 + [2] * 3)}
    known = batch_roles({**nodes, "y": randint(0, 2, (3,))})
    assert {item.path: item.size for item in known if item.size} == {"batch['y']": 3}
    later = {"x": randn(5, 2), "edge_index": randint(0, 5, (2, 8)), "batch": torch.tensor([0, 0, 1, 1, 1])}
    again = with_tensors(known, {**later, "y": randint(0, 2, (2,))})
    assert [item.size for item in again if item.size] == [2]
    sorted_labels = {"x": randn(8, 3), "y": torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])}
    assert {item.size for item in batch_roles(sorted_labels)} == {8}


def test_image_and_text_without_a_label():
    """Both roles are sure, and nothing is left that could be a label."""
    batch = {"image": randn(4, 1, 8, 8), "text": ["a", "b", "c", "d"], "ids": randint(0, 9, (4, 8))}
    assert [item.role for item in batch_roles(batch)] == ["input", "other", "tokens"]
