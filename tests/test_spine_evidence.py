"""Evidence is plain: it goes to JSON and back unchanged, and refuses what is not plain."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
import torch

from lightning_debug.evidence import Evidence, Moment, ProbeFailure, RunContext, decode, encode, from_plain, to_plain
from lightning_debug.finding import Finding, Severity


@dataclass(frozen=True, kw_only=True)
class SpinePart:
    name: str
    share: float


@dataclass(frozen=True, kw_only=True)
class SpineEverything(Evidence):
    """One of each that evidence may hold."""

    number: float
    count: int = 0
    flag: bool = False
    maybe: float | None = None
    either: int | str = 0
    many: tuple[float, ...] = ()
    pair: tuple[str, int] = ("", 0)
    nested: tuple[tuple[int, ...], ...] = ()
    by_name: Mapping[str, float] = field(default_factory=dict)
    lists: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    part: SpinePart | None = None
    parts: tuple[SpinePart, ...] = ()


FULL = SpineEverything(
    at=Moment(stage="validate", epoch=2, step=7, batch=1, rank=1),
    number=float("-inf"),
    count=3,
    flag=True,
    maybe=0.5,
    either="x",
    many=(1.0, float("inf")),
    pair=("a", 2),
    nested=((1, 2), ()),
    by_name={"loss": 2.0},
    lists={"rows": (1, 2)},
    part=SpinePart(name="p", share=0.25),
    parts=(SpinePart(name="q", share=1.0),),
)


@pytest.mark.parametrize("evidence", [FULL, SpineEverything(number=1.0), RunContext(versions={"torch": "2"})])
def test_evidence_survives_json(evidence):
    text = json.dumps(encode(evidence), allow_nan=False)
    assert decode(json.loads(text)) == evidence


def test_nan_survives_json():
    again = decode(json.loads(json.dumps(encode(SpineEverything(number=float("nan"))), allow_nan=False)))
    assert again.number != again.number


def test_an_integer_is_read_back_as_the_float_it_was():
    again = decode(json.loads(json.dumps(encode(SpineEverything(number=2.0, many=(3.0,))))))
    assert isinstance(again.number, float)
    assert isinstance(again.many[0], float)


@pytest.mark.parametrize("value", [torch.zeros(1), torch.nn.Linear(1, 1), {1, 2}, object(), b"x"])
def test_what_is_not_plain_is_refused(value):
    with pytest.raises(TypeError, match="plain values only"):
        to_plain({"x": value})


def test_severity_is_plain():
    assert to_plain(Severity.ERROR) == "error"
    assert type(to_plain(Severity.ERROR)) is str


def test_a_finding_is_plain():
    finding = Finding("LD201", "x", Severity.ERROR, "m", "s", {"a": float("nan")}, "f", Moment())
    assert json.loads(json.dumps(to_plain(finding), allow_nan=False))["measured"] == {"a": "nan"}


def test_evidence_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        FULL.count = 4


def test_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match=r"'Nonsense' is no kind of evidence; known: .*RunContext"):
        decode({"kind": "Nonsense"})


def test_fields_of_a_newer_version_are_left_out():
    assert decode({"kind": "SpineEverything", "number": 1, "invented": 3}) == SpineEverything(number=1.0)


def test_two_kinds_of_one_name_are_refused():
    with pytest.raises(TypeError, match="two kinds of evidence are named 'RunContext'"):
        type("RunContext", (Evidence,), {"__module__": "elsewhere"})


def test_no_scalars_by_default():
    assert FULL.scalars() == {}


def test_from_plain_of_none_and_of_anything():
    assert from_plain(float | None, None) is None
    assert from_plain(object, [1]) == [1]


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (Moment(stage="setup", rank=2), "before training, rank 2"),
        (Moment(stage="train", epoch=3, step=9), "epoch 3, step 9"),
        (Moment(stage="sanity", batch=0), "sanity check, batch 0"),
        (Moment(stage="validate", epoch=1), "validation of epoch 1"),
        (Moment(stage="test", batch=4, rank=1), "test, batch 4, rank 1"),
    ],
)
def test_a_moment_reads_as_words(moment, text):
    assert str(moment) == text


def test_every_kind_is_frozen_keyword_only_and_documented():
    ours = [kind for kind in Evidence.kinds.values() if kind.__module__.startswith("lightning_debug.evidence")]
    assert {RunContext, ProbeFailure} <= set(ours)
    for kind in ours:
        assert kind.__dataclass_params__.frozen, kind
        assert all(item.kw_only for item in dataclasses.fields(kind)), kind
        undocumented = [
            item.name for item in dataclasses.fields(kind) if item.name != "at" and f"{item.name}:" not in kind.__doc__
        ]
        assert not undocumented, f"{kind.__name__} says nothing of {undocumented}"
