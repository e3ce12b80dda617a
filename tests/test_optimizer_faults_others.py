"""Faults in what is optimised, in programs of other styles, found within two epochs."""

import pytest

from lightning_debug import Debugger
from lightning_debug.callbacks.optimizer_inspector import OptimizerInspector
from tests.helpers import trainer
from tests.optimizer_programs import inspected
from tests.optimizer_programs_others import (
    FAULTS,
    Images,
    ImagesCycle,
    ImagesFrozen,
    MemoryBank,
    Words,
    WordsCycle,
    WordsFrozen,
)

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Lightning's own words about such programs


def fitted(program, **options):
    model = program()
    return inspected(model, model.train_dataloader(), **{"max_epochs": 2, **options}).report


@pytest.mark.parametrize("program", FAULTS, ids=lambda program: program.__name__)
def test_is_found(program):
    options = {"accumulate_grad_batches": 4} if program is WordsCycle else {}
    report = fitted(program, **options)
    assert {item.code for item in report.headlines} == {FAULTS[program]}, report.headlines
    assert report.headlines[0].at.epoch <= 1


@pytest.mark.parametrize("program", [ImagesFrozen, WordsFrozen])
def test_a_model_that_is_frozen_throughout_is_explained(program):
    watch, model = Debugger(strict=True, console=False), program()
    with pytest.raises(RuntimeError, match="does not require grad"):
        trainer(watch, max_epochs=2).fit(model, model.train_dataloader())
    [found] = watch.report.headlines
    assert found.code == "LD109"
    assert "no parameter requires a gradient" in found.message


def test_a_memory_bank_is_quiet():
    assert not fitted(MemoryBank).headlines


@pytest.mark.parametrize("program", [Images, Words])
@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 4}, {"gradient_clip_val": 0.5}])
def test_without_the_fault_is_quiet(program, options):
    assert not fitted(program, **options).headlines


@pytest.mark.parametrize("program", [Images, Words])
def test_a_window_that_each_epoch_cuts(program):
    assert [item.code for item in fitted(program, accumulate_grad_batches=48).headlines] == ["LD607"]


def test_a_cycle_that_ends_too_soon_is_foretold():
    inspector, model = OptimizerInspector(), ImagesCycle()
    with pytest.raises(ValueError, match="Tried to step"):
        trainer(inspector, max_epochs=2).fit(model, model.train_dataloader())
    assert [item.code for item in inspector.report.headlines] == ["LD604"]
