"""The record keeps the first and the last of each kind, in order, and survives JSON."""

import json

import pytest

from lightning_debug.evidence import Moment, ProbeFailure, RuleFailure, RunContext
from lightning_debug.record import Record


def failure(number):
    return RuleFailure(code=f"LD{number:03d}", error="", traceback="", at=Moment(step=number))


def test_empty():
    record = Record()
    assert record.of(RuleFailure) == ()
    assert record.first(RuleFailure) is None
    assert record.last(RuleFailure) is None
    assert record.seen(RuleFailure) == 0
    assert record.kinds == ()
    assert len(record) == 0


def test_the_middle_of_a_long_history_is_forgotten():
    record = Record((failure(number) for number in range(100)), head=2, tail=3)
    assert [item.at.step for item in record.of(RuleFailure)] == [0, 1, 97, 98, 99]
    assert record.first(RuleFailure).at.step == 0
    assert record.last(RuleFailure).at.step == 99
    assert record.seen(RuleFailure) == 100
    assert len(record) == 5


@pytest.mark.parametrize("limits", [{"head": 0}, {"tail": 0}])
def test_limits_are_checked(limits):
    with pytest.raises(ValueError, match="must each be at least 1"):
        Record(**limits)


def test_kinds_in_order_of_first_sight():
    record = Record([failure(1), RunContext(), failure(2)])
    assert record.kinds == (RuleFailure, RunContext)
    assert len(record) == 3


def test_json_and_back():
    record = Record([RunContext(model="m"), *(failure(number) for number in range(300))])
    again = Record.from_plain(json.loads(json.dumps(record.to_plain(), allow_nan=False)))
    assert again.of(RuleFailure) == record.of(RuleFailure)
    assert again.of(RunContext) == record.of(RunContext)
    assert again.seen(RuleFailure) == 300


def test_kinds_of_a_newer_version_are_left_out():
    plain = {"evidence": [{"kind": "FromTheFuture", "x": 1}, {"kind": "ProbeFailure", "where": "w", "error": "e",
             "traceback": ""}], "seen": {"FromTheFuture": 1}}  # fmt: skip
    record = Record.from_plain(plain)
    assert record.kinds == (ProbeFailure,)
    assert record.seen(ProbeFailure) == 1
