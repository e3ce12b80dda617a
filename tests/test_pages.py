"""Every page's programs, trained: Broken gives its code, Repaired gives no warning and no error."""

import pytest

from lightning_debug.callbacks import _experiment_budget
from lightning_debug.registry import all_rules
from lightning_debug.rule import SECTIONS
from tests.helpers import alarms, codes, run_program


@pytest.fixture(autouse=True)
def _without_html(monkeypatch):
    """Pictures of pages take longer than their programs; ``tests/test_reports_html.py`` looks at pages."""
    monkeypatch.setenv("LIGHTNING_DEBUG_HTML", "0")


EXPERIMENTS = ("LD601", "LD602", "LD605")
"""Rules whose evidence is an experiment, which takes a second."""

ON_RANKS = ("LD901", "LD902", "LD903", "LD904")
"""Rules whose programs train on two ranks: tests/test_rank_monitor.py runs them, in two processes."""

ELSEWHERE = ("LD002", *ON_RANKS)  # only a bug of a rule makes LD002: tests/test_judge.py
HEALTHY_CURVES = "LD7"
"""Rules whose repaired programs train well for many epochs, all much alike: they are slow."""

RULES = [one for one in all_rules() if one.code not in ELSEWHERE]


@pytest.mark.parametrize("one", RULES, ids=lambda one: one.code)
def test_broken_is_found(one, tmp_path, monkeypatch):
    if one.code in EXPERIMENTS:
        monkeypatch.setattr(_experiment_budget, "FLOOR", 60.0)
    report, raised = run_program(one.page["Broken"], tmp_path, strict=not one.code.startswith("LD0"))
    assert one.code in codes(report), (raised, report)
    if raised is not None and not isinstance(raised, RuntimeError | ValueError | IndexError | TypeError):
        raise raised


@pytest.mark.parametrize(
    "one",
    [
        pytest.param(one, marks=pytest.mark.slow if one.code.startswith(HEALTHY_CURVES) else (), id=one.code)
        for one in RULES
    ],
)
def test_repaired_is_silent(one, tmp_path, monkeypatch):
    if one.code in EXPERIMENTS:
        monkeypatch.setattr(_experiment_budget, "FLOOR", 60.0)
    report, raised = run_program(one.page["Repaired"], tmp_path)
    if raised is not None:
        raise raised
    assert report.status == "finished"
    assert not alarms(report)


@pytest.mark.parametrize("one", all_rules(), ids=lambda one: one.code)
def test_page_is_complete(one):
    page = one.page
    missing = [name for name in SECTIONS[:-1] if not page.sections.get(name)]
    assert not missing
    assert page.title.endswith(".")
    module = one.function.__module__.rpartition(".")[2]
    assert module == f"{one.code.lower()}_{one.name.replace('-', '_')}"
    for name in one.thresholds:
        assert name in page["What it sees"] + page["When to ignore"], f"the page does not name the threshold {name}"
