"""The measure of fixes: programs with and without their fault, edits, and what counts as recovery; and fixes it mended."""

import json
import math
import sys
from pathlib import Path

import pytest

from lightning_debug.evidence.data import LabelCounts
from lightning_debug.evidence.data_values import ClassFit
from lightning_debug.evidence.optimization import TrainingEffect
from lightning_debug.finding import Claim
from lightning_debug.record import Record
from lightning_debug.rules.ld408_nothing_trains import nothing_trains
from lightning_debug.rules.ld516_label_set_mismatch import label_set_mismatch

FOLDER = Path(__file__).parent.parent / "benchmarks"
PROGRAMS = {path.stem: path for path in (FOLDER / "detection").glob("*.py") if not path.stem.startswith("healthy_")}
needs_benchmarks = pytest.mark.skipif(not PROGRAMS, reason="an installation without the benchmarks")


@pytest.fixture
def edits_module(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    yield __import__("detection_edits")
    sys.modules.pop("detection_edits", None)


@needs_benchmarks
def test_every_program_is_two(edits_module):
    for name, path in PROGRAMS.items():
        broken, twin = (edits_module.folded(path.read_text(encoding="utf-8"), fault=fault) for fault in (True, False))
        assert broken != twin, name
        assert "FAULT" not in broken + twin, name
        assert edits_module.changed_lines(broken, twin), name


@needs_benchmarks
def test_every_edit_applies(edits_module):
    known = json.loads((FOLDER / "detection_fixes.json").read_text(encoding="utf-8"))
    assert set(known) <= set(PROGRAMS)
    for name, item in known.items():
        broken = edits_module.folded(PROGRAMS[name].read_text(encoding="utf-8"), fault=True)
        compile(edits_module.applied(broken, item["edits"]), name, "exec")
        assert item["fix"], name


@needs_benchmarks
def test_what_a_fix_points_at(edits_module):
    broken, twin = "x = f(y)\nz = x.softmax(0)\n", "x = f(y)\nz = x.softmax(1)\n"
    by_line = {"subject": "a.py:2", "fix": "Use another dimension."}
    by_name = {"subject": "", "fix": "Let softmax work along another dimension."}
    neither = {"subject": "a.py:1", "fix": "Lower the learning rate."}
    found = [edits_module.names_the_edit(broken, twin, one) for one in (by_line, by_name, neither)]
    assert found == ["line", "name", ""]


def effect(**known):
    return TrainingEffect(batches=64, optimizer_steps=64, compared=1, in_optimizer=1, optimized=1, ended=True, **known)


@pytest.mark.parametrize(("frozen", "subject"), [(4, "requires_grad"), (0, "loss")])
def test_gradients_of_zero_where_most_is_frozen(frozen, subject):
    seen = effect(with_gradient=1, nonzero_gradient=0, rate=1e-3, backward_passes=64, frozen=frozen)
    (claim,) = nothing_trains(Record([seen]))
    assert claim.subject == subject


@pytest.mark.parametrize(("norm", "subject"), [(1e-9, "learning rate"), (None, "optimizer")])
def test_steps_that_a_line_search_does_not_take_are_no_rounding(norm, subject):
    seen = effect(with_gradient=1, nonzero_gradient=1, rate=0.5, backward_passes=64, update_norm=norm)
    (claim,) = nothing_trains(Record([seen]))
    assert claim.subject == subject


def test_a_class_that_only_validation_has_asks_for_another_split():
    train = LabelCounts(stage="train", field="batch[1]", classes=tuple(range(9)), counts=(150,) * 9, complete=True)
    val = LabelCounts(stage="validate", field="batch[1]", classes=(8, 9), counts=(100, 180), complete=True)
    fits = [ClassFit(stage=stage, units=10, plain=True) for stage in ("train", "validate")]
    claims = [item for item in label_set_mismatch(Record([train, val, *fits])) if isinstance(item, Claim)]
    assert [claim.fix.split()[0] for claim in claims] == ["Shuffle"]


@needs_benchmarks
@pytest.mark.parametrize(
    ("broken", "fixed", "recovers"), [(2.0, 0.55, True), (2.0, 0.8, False), (math.nan, 0.6, True), (0.5, 0.9, False)]
)
def test_recovery(edits_module, broken, fixed, recovers):
    values = {"broken": broken, "fixed": fixed, "twin": 0.5, "untrained": 2.3}
    assert edits_module.back("val_loss", values, raised=False) is recovers


@needs_benchmarks
def test_scores_that_rise(edits_module):
    values = {"broken": 0.2, "fixed": 0.89, "twin": 0.9, "untrained": 0.1}
    assert edits_module.worse("val_accuracy", "broken", values)
    assert edits_module.back("val_accuracy", values, raised=False)
    assert edits_module.deciding({"val_accuracy": 0.9, "val_loss": 0.1}) == "val_loss"
