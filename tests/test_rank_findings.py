"""Findings of all ranks, brought together on rank 0: what counts, how ranks are named, and real runs of two processes."""

import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from lightning_debug.callbacks import _rank_findings, _ranks
from lightning_debug.callbacks._rank_findings import MOST_CHARACTERS, RankFindings, decode, encode
from lightning_debug.evidence import Moment
from lightning_debug.finding import Finding, Report, Severity, Skip
from lightning_debug.judge import Verdict, merge
from lightning_debug.registry import all_rules
from lightning_debug.reports import console, html_report, json_report, markdown
from lightning_debug.session import Session
from lightning_debug.settings import Settings
from tests.house import ROOT

RULES = tuple(all_rules())


def finding(code="LD301", severity="error", subject="batch[0]", rank=0, **options):
    at = Moment(step=3, rank=rank)
    return Finding(code, f"name-{code}", Severity(severity), "It is so.", subject, options, "Change it.", at)


def verdict(*findings, skipped=()):
    return Verdict(findings, tuple(Skip("", code) for code in skipped))


def merged(own, others, ranks=2):
    return [(item.code, item.ranks, item.explained_by) for item in merge(own, others, ranks, RULES).findings]


def test_a_finding_of_one_rank_is_told_once_with_that_rank():
    assert merged(verdict(), {1: verdict(finding(rank=1))}) == [("LD301", (1,), None)]
    assert merged(verdict(finding()), {1: verdict(finding(rank=1))}) == [("LD301", (0, 1), None)]
    assert merged(verdict(finding()), {1: verdict()}) == [("LD301", (0,), None)]


def test_a_cause_on_one_rank_explains_what_follows_on_another():
    own, other = verdict(finding("LD304", subject="net.0.weight")), verdict(finding(rank=1))
    assert merged(own, {1: other}) == [("LD301", (1,), None), ("LD304", (0,), "LD301")]


def test_what_rank_0_was_told_during_the_run_is_of_the_rank_that_saw_it():
    assert merged(verdict(finding(rank=1)), {1: verdict(finding(rank=1))}) == [("LD301", (1,), None)]


def test_a_finding_that_only_rank_0_can_make_names_no_rank():
    assert merged(verdict(finding("LD901")), {1: verdict(skipped=["LD901"])}) == [("LD901", (), None)]
    assert merged(verdict(finding("LD901")), {}) == [("LD901", (), None)]


@pytest.mark.parametrize(
    ("severity", "of", "ranks", "told"),
    [("error", 1, 1024, True), ("warning", 1, 8, True), ("warning", 1, 9, False), ("warning", 2, 9, True),
     ("info", 1, 2, True)],
)  # fmt: skip
def test_what_few_ranks_find_counts_if_it_is_an_error(severity, of, ranks, told):
    others = {rank: verdict(finding(severity=severity, rank=rank)) for rank in range(1, of + 1)}
    assert bool(merged(verdict(), others, ranks)) == told


def test_a_note_of_another_rank_does_not_stand_beside_that_of_rank_0():
    own, other = finding("LD714", "info", "epoch 5"), finding("LD714", "info", "epoch 6", rank=1)
    assert merged(verdict(own), {1: verdict(other)}) == [("LD714", (0,), None)]


def test_what_another_rank_has_found_was_judged():
    own = verdict(skipped=["LD106", "LD107"])
    assert [skip.code for skip in merge(own, {1: verdict(finding("LD106", rank=1))}, 2, RULES).skips] == ["LD107"]


def test_what_a_rank_tells_is_bounded_and_read_back():
    report = Report((finding(rows=[1, 2], rank=1),), (Skip("no such part", "LD209"),), status="finished")
    again = decode(encode(report))
    assert again.findings == report.findings
    assert [skip.code for skip in again.skips] == ["LD209"]
    wide = Report(tuple(finding(subject=f"net.{index}", rows="x" * 1000) for index in range(500)), status="finished")
    assert len(encode(wide)) < MOST_CHARACTERS + 2000
    assert len(decode(encode(wide)).findings) == 64  # without the numbers, rather than some of them
    vast = Report(
        tuple(finding(subject="x" * 2000 + str(index)) for index in range(64)), status="failed: " + "x" * 10**5
    )
    assert 0 < len(decode(encode(vast)).findings) < 64
    assert len(encode(vast)) < MOST_CHARACTERS + 2000


def test_every_report_names_the_ranks():
    found = merge(verdict(), {1: verdict(finding(rank=1))}, 2, RULES).findings
    report = Report(found, status="finished")
    assert "seen on    rank 1\n" in console.summary(report)
    assert "when       epoch 0, step 3\n" in console.summary(report)
    assert console.finding_line(found[0]).endswith("[batch[0], epoch 0, step 3, rank 1]")
    assert "| seen on | rank 1 |" in markdown.report(report)
    assert "<th>seen on</th><td>rank 1</td>" in html_report.render(report)
    document = json_report.to_document(report, Session(Settings()).record)
    assert document["report"]["findings"][0]["ranks"] == [1]
    assert json_report.from_document(json.loads(json.dumps(document)))[0].findings == found


class Store(dict):
    """What torch's stores do, in one process."""

    def check(self, keys):
        return all(key in self for key in keys)

    def set(self, key, text):
        self[key] = text

    def get(self, key):
        return self[key].encode()

    def delete_key(self, key):
        del self[key]


def test_a_rank_that_lacks_our_callbacks_is_not_waited_for(monkeypatch):
    store = Store()
    monkeypatch.setattr(_ranks, "_store", lambda: store)
    waits = []
    monkeypatch.setattr(_ranks.time, "sleep", waits.append)
    zero, one = (SimpleNamespace(world_size=3, global_rank=rank) for rank in (0, 1))
    monkeypatch.setattr(_rank_findings, "_MEETINGS", iter([7, 7]))
    meetings = RankFindings(zero), RankFindings(one)
    sessions = Session(Settings()), Session(Settings())
    meetings[1].close(sessions[1], "failed: IndexError: target 4", one)
    meetings[0].close(sessions[0], "failed: RuntimeError: a peer is gone", zero)
    assert sessions[0].report.status == "failed: RuntimeError: a peer is gone; rank 1: IndexError: target 4"
    assert not waits
    assert set(store) == {"lightning_debug/findings/7/here/0", "lightning_debug/findings/7/here/1"}


def test_a_store_that_is_gone_changes_nothing(monkeypatch):
    def gone():
        raise RuntimeError("connection refused")

    monkeypatch.setattr(_ranks, "_store", gone)
    for rank in (0, 1):
        session, trainer = Session(Settings()), SimpleNamespace(world_size=2, global_rank=rank)
        RankFindings(trainer).close(session, "finished", trainer)
        assert session.report.status == "finished"


def test_a_rank_that_tells_nonsense_changes_nothing(monkeypatch):
    store = Store({"lightning_debug/findings/7/here/1": "", "lightning_debug/findings/7/0/1": '{"findings": [3]}'})
    monkeypatch.setattr(_ranks, "_store", lambda: store)
    monkeypatch.setattr(_rank_findings, "_MEETINGS", iter([7]))
    session, trainer = Session(Settings()), SimpleNamespace(world_size=2, global_rank=0)
    RankFindings(trainer).close(session, "finished", trainer)
    assert session.report == Report(status="finished")


def on_two_ranks(folder, *faults):
    program = ROOT / "tests" / "programs" / "rank_findings.py"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(program)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    outcome = subprocess.run(
        [*command, str(folder), *faults],
        capture_output=True, text=True, check=False, env=environment, timeout=280, cwd=folder,
    )  # fmt: skip
    reports = {
        fault: json.loads((folder / fault / "report.json").read_text(encoding="utf-8"))["report"] for fault in faults
    }
    return outcome, reports


def headlines(report):
    found = [item for item in report["findings"] if item["explained_by"] is None and item["severity"] != "info"]
    return [(item["code"], item["ranks"]) for item in found]


needs_ranks = pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without ranks")


@needs_ranks
@pytest.mark.slow
def test_faults_of_one_rank_and_of_all(tmp_path):
    outcome, reports = on_two_ranks(tmp_path, "input", "mode", "everywhere", "none")
    assert outcome.returncode == 0, outcome.stderr[-4000:]
    assert headlines(reports["input"]) == [("LD301", [1])]
    assert headlines(reports["mode"]) == [("LD401", [1])]
    assert headlines(reports["everywhere"]) == [("LD301", [0, 1])]
    assert headlines(reports["none"]) == []
    assert {report["status"] for report in reports.values()} == {"finished"}
    assert outcome.stderr.count("error LD401 eval-mode-in-training") == 2  # a line, and the summary of rank 0 alone
    assert "seen on    rank 1" in outcome.stderr


@needs_ranks
@pytest.mark.slow
def test_an_error_that_only_rank_1_meets_is_explained_by_rank_0(tmp_path):
    outcome, reports = on_two_ranks(tmp_path, "label")
    assert outcome.returncode != 0
    assert headlines(reports["label"]) == [("LD106", [1])]
    assert "rank 1: IndexError: Target 4 is out of bounds" in reports["label"]["status"]


@needs_ranks
@pytest.mark.slow
@pytest.mark.parametrize("fault", ["raises", "dies"])
def test_a_rank_that_breaks_off_keeps_nobody_waiting(fault, tmp_path):
    before = time.monotonic()
    outcome, reports = on_two_ranks(tmp_path, fault)
    assert outcome.returncode != 0
    assert time.monotonic() - before < 240
    assert reports[fault]["status"].startswith("failed: ")
    assert ("rank 1: ValueError: no such file" in reports[fault]["status"]) == (fault == "raises")
