"""The corpus of programs that raise: code, module, cause and edit of each; and the edit cures it."""

import re

import pytest

from tests.errors.runs import CASES, run

LAYERS = ("LD101", "LD105", "LD106", "LD107", "LD116")
"""Codes whose findings name a module."""


def fast(index):
    return () if index % 3 == 0 else (pytest.mark.slow,)


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setenv("LIGHTNING_DEBUG_STRICT", "1")
    monkeypatch.setenv("LIGHTNING_DEBUG_CONSOLE", "0")


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.name, marks=fast(index)) for index, case in enumerate(CASES)]
)
def test_it_is_explained(case):
    report, raised = run(case.program, case.name)
    assert raised is not None
    [found] = report.findings
    assert (found.code, found.measured["cause"]) == (case.code, case.cause)
    if case.code in LAYERS:
        assert found.measured.get("module", "") == case.module
    assert re.search(case.fix, found.fix), found.fix
    assert report.status.startswith("failed")


CURED = [case for case in CASES if case.old]


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.name, marks=fast(index + 1)) for index, case in enumerate(CURED)]
)
def test_the_edit_cures_it(case):
    assert case.program.count(case.old)
    report, raised = run(case.program.replace(case.old, case.new), f"{case.name}_cured")
    assert raised is None
    assert not report.findings


def test_the_corpus_is_large_enough():
    names = [case.name for case in CASES]
    assert len(names) == len(set(names)) >= 60
    assert len(CURED) >= 30
