"""RankMonitor on two processes over gloo, and its rules on plain evidence."""

import json
import math
import os
import subprocess
import sys
import time

import numpy
import pytest
import torch

from lightning_debug import RankMonitor
from lightning_debug.evidence.ranks import RankBatches, RankNorm, RankNorms, RankValue, RankValues, RankWeights
from lightning_debug.evidence.ranks import UnequalParameter as Unequal
from lightning_debug.finding import Claim, Skip
from lightning_debug.probes.rank_comparison import rank_batches, rank_value, rank_weights
from lightning_debug.probes.rank_payloads import (
    MOST_SAMPLES,
    PER_PARAMETER,
    batch_keys,
    chosen_parameters,
    weight_numbers,
)
from lightning_debug.record import Record
from lightning_debug.registry import get
from tests.healthy import fit
from tests.house import ROOT
from tests.test_pages import ON_RANKS

needs_ranks = pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without ranks")


def on_two_ranks(program, *arguments, folder, ok=True):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    outcome = subprocess.run(
        [*command, str(ROOT / "tests" / "programs" / program), str(folder), *arguments],
        capture_output=True, text=True, check=False, env=environment, timeout=240, cwd=folder,
    )  # fmt: skip
    assert (outcome.returncode == 0) == ok, outcome.stdout[-3000:] + outcome.stderr[-6000:]
    return outcome


@needs_ranks
@pytest.mark.slow
@pytest.mark.parametrize("select", ["LD9", "all"])
def test_the_pages_of_its_rules(select, tmp_path):
    on_two_ranks("rank_pages.py", select, *ON_RANKS, folder=tmp_path)
    told = json.loads((tmp_path / "told 0").read_text(encoding="utf-8"))
    for code in ON_RANKS:
        broken, repaired = told[f"{code} Broken"], told[f"{code} Repaired"]
        assert broken["headlines"][:1] == [code], broken
        assert repaired["status"] == "finished", repaired
        assert not repaired["alarms"]
    other = json.loads((tmp_path / "told 1").read_text(encoding="utf-8"))
    assert all(item["raised"] is None for item in [*told.values(), *other.values()])
    assert other["LD901 Broken"]["skips"]["LD901"] == "rank 0 compares the ranks"


@needs_ranks
def test_faults_and_look_alikes(tmp_path):
    on_two_ranks("rank_cases.py", folder=tmp_path)
    assert sorted(path.name for path in tmp_path.glob("passed *")) == ["passed 0", "passed 1"]


@needs_ranks
@pytest.mark.slow
def test_a_rank_that_dies_keeps_nobody_waiting(tmp_path):
    before = time.monotonic()
    on_two_ranks("rank_cases.py", "dies", folder=tmp_path, ok=False)
    assert time.monotonic() - before < 60
    assert [path.name for path in tmp_path.glob("ended *")] == ["ended 0"]


def test_one_process():
    monitor = RankMonitor()
    fit(monitor)
    assert {item.code: item.reason for item in monitor.report.skips} == dict.fromkeys(ON_RANKS, "one process")
    assert not monitor.report.findings
    assert {"_board", "_tap", "_reads", "_norms"}.isdisjoint(
        name for name, value in vars(monitor).items() if value is not None
    )


def told_of(code, *evidence, **thresholds):
    return list(get(code).function(Record(evidence), **thresholds))


def claims(code, *evidence, **thresholds):
    return [item for item in told_of(code, *evidence, **thresholds) if isinstance(item, Claim)]


SAME = {"ranks": 2, "batches": 8, "samples": 128, "distinct": 128, "twins": 1, "rank": 1, "share": 1.0, "values": 9}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, 1),
        ({"share": 0.95}, 1),
        ({"share": 0.5}, 0),  # padding, duplicates
        ({"distinct": 4}, 0),  # all alike: zeros, constant fields
        ({"samples": 4, "distinct": 4}, 0),
        ({"values": 2}, 0),  # an index and a label
        ({"values": 2, "floating": True}, 1),
        ({"values": 2, "distinct": 90, "floating": True}, 0),
    ],
)
def test_when_samples_are_the_same(change, found):
    assert len(claims("LD901", RankBatches(**{**SAME, **change}))) == found


def test_a_later_epoch_counts_and_what_cannot_be_told_is_said():
    fine = RankBatches(**{**SAME, "share": 0.0, "twins": 0})
    assert len(claims("LD901", fine, RankBatches(**SAME))) == 1
    assert told_of("LD901", fine) == []
    (skip,) = told_of("LD901", RankBatches(**{**SAME, "distinct": 1}))
    assert isinstance(skip, Skip)


@pytest.mark.parametrize(
    ("where", "word"),
    [
        ({"iterable": True}, "islice"),
        ({"sampler": "RandomSampler"}, "DistributedSampler"),
        ({"sampler": "Mine"}, "Mine"),
    ],
)
def test_the_fix_names_what_to_change(where, word):
    (claim,) = claims("LD901", RankBatches(**{**SAME, **where, "ranks": 4, "twins": 3}))
    assert word in claim.fix
    assert "3 of 4 ranks" in claim.message


@pytest.mark.parametrize(("difference", "found"), [(0.2, 1), (1e-3, 1), (1e-6, 0), (0.0, 0)])
def test_weights_differ_by_more_than_rounding(difference, found):
    seen = RankWeights(ranks=2, parameters=4, unequal=(Unequal(name="a", rank=1, difference=difference),), count=1)
    assert len(claims("LD902", seen)) == found


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([("val_loss", 0.5, 0.5, ("EarlyStopping",))], ()),
        ([("val_loss", 0.5, 0.50001, ("EarlyStopping",))], ()),  # another order of summation
        ([("val_loss", 0.5, 0.6, ("EarlyStopping",))], ("val_loss",)),
        ([("val_loss", 0.5, 0.6, ())], ()),  # it decides nothing
        ([("score", 0.5, 0.6, ("ModelCheckpoint",))], ("score",)),
        ([("score", 0.5, 0.5, ("ModelCheckpoint",)), ("val_loss", 0.5, 0.6, ())], ()),
        ([("val_loss", math.nan, 0.6, ("EarlyStopping",))], ("val_loss",)),
        ([("val_loss", 0.0, 0.0, ("EarlyStopping",))], ()),
    ],
)
def test_which_values_count(values, names):
    seen = tuple(RankValue(name=name, low=low, high=high, users=users) for name, low, high, users in values)
    found = claims("LD903", RankValues(ranks=2, values=seen))
    assert tuple(name for item in found for name in item.measured["names"]) == names


@pytest.mark.parametrize(
    ("samples", "values", "ranks", "found"),
    [(4, 4, 2, 1), (2, 8, 2, 1), (4, 64, 2, 0), (16, 16, 2, 0), (2, 2, 1, 0)],
)
def test_how_few_values_a_batch_norm_has(samples, values, ranks, found):
    norm = RankNorm(path="net.1", class_name="BatchNorm1d", samples=samples, values=values)
    assert len(claims("LD904", RankNorms(ranks=ranks, norms=(norm,)))) == found


def test_values_of_which_some_are_no_numbers():
    assert math.isnan(rank_value("a", [1.0, math.nan], ()).low)
    assert rank_value("a", [math.nan, math.nan], ()).low == 0.0


def test_weights_are_compared_place_by_place():
    torch.manual_seed(0)
    layer = torch.nn.Linear(5, 3)
    parameters = [item for _, item in chosen_parameters(layer, 8)]
    first = [float(item) for item in weight_numbers(parameters)]
    assert len(first) == 2 * PER_PARAMETER
    assert rank_weights([first, first], ["weight", "bias"]).count == 0
    with torch.no_grad():
        layer.weight += 0.1
    second = [float(item) for item in weight_numbers(parameters)]
    seen = rank_weights([first, second], ["weight", "bias"])
    assert [(item.name, item.rank) for item in seen.unequal] == [("weight", 1)]
    assert seen.unequal[0].difference > 0.1
    with torch.no_grad():
        layer.weight.view(-1)[7] += 1e-3  # a place that is not told: the bits tell
    third = [float(item) for item in weight_numbers(parameters)]
    assert rank_weights([second, third], ["weight", "bias"]).unequal[0].difference < 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64])
def test_any_weight_has_numbers(dtype):
    weight = torch.randn(3, 4, 2, 2).to(dtype).to(memory_format=torch.channels_last)
    numbers = [float(item) for item in weight_numbers([weight, weight.clone(memory_format=torch.contiguous_format)])]
    assert numbers[0] == numbers[PER_PARAMETER]  # the order in memory does not matter to the bits' sum
    assert all(map(math.isfinite, numbers))


def test_parameters_take_turns():
    net = torch.nn.Sequential(*(torch.nn.Linear(2, 2) for _ in range(10)))
    net[0].requires_grad_(False)
    turns = [{name for name, _ in chosen_parameters(net, 6, turn)} for turn in range(3)]
    assert all(len(names) == 6 for names in turns)
    assert (
        set.union(*turns) == {name for name, _ in net[1:].named_parameters(prefix="")} or len(set.union(*turns)) == 18
    )


@pytest.mark.parametrize(
    ("batch", "count"),
    [
        ((torch.randn(4, 3), torch.arange(4)), 4),
        ({"x": torch.randn(40, 3), "mask": None, "names": ["a"] * 40}, MOST_SAMPLES),
        ([torch.randn(3, 2), torch.randn(5, 2)], 1),  # samples are not known: the batch as a whole
        ({"x": torch.empty(0, 3)}, 0),
        ("text", 0),
        (torch.randn(4, 3, device="meta"), 0),
    ],
)
def test_any_batch_has_keys(batch, count):
    found = batch_keys(batch)
    assert (len(found.keys) if found else 0) == count
    assert batch_keys(batch) == found


def test_a_thousand_ranks():
    draw = numpy.random.default_rng(0)
    told = [[9.0, 1.0, *(number for _ in range(8) for number in (16.0, *draw.integers(0, 2**53, 16).astype(float)))]
            for _ in range(1024)]  # fmt: skip
    before = time.perf_counter()
    assert rank_batches(told, range(1024)).share == 0.0
    told[700] = told[30]
    seen = rank_batches(told, range(1024))
    assert (seen.rank, seen.other, seen.share, seen.twins) == (700, 30, 1.0, 1)
    assert time.perf_counter() - before < 10
