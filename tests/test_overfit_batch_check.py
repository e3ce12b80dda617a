"""Two examples: fitted by every healthy program, and where they cannot be the finding says why."""

from __future__ import annotations

import warnings

import pytest
import torch

from lightning_debug.callbacks.overfit_batch_check import OverfitBatchCheck
from lightning_debug.evidence.overfit import OverfitCheck
from tests import overfit_faulty, overfit_healthy_losses, overfit_healthy_nets  # noqa: F401 - they fill the tables
from tests.helpers import trainer
from tests.overfit_programs import FAULTY, HEALTHY


def check(program, **options):
    """The callback after a fit of one step."""
    torch.manual_seed(0)
    model, loader = program()
    ours = OverfitBatchCheck(**options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer(ours, max_epochs=1, limit_train_batches=1).fit(model, loader)
    return ours


@pytest.mark.parametrize("name", HEALTHY)
def test_quiet(name):
    ours = check(HEALTHY[name])
    assert [str(item.message) for item in ours.report.findings] == []


@pytest.mark.parametrize("name", FAULTY)
def test_found(name):
    word, program = FAULTY[name]
    ours = check(program)
    found = [item for item in ours.report.findings if item.code == "LD605"]
    assert len(found) == 1, (ours.report, ours.session.record.first(OverfitCheck))
    assert word in found[0].message


def test_the_whole_batch_is_not_asked_where_two_examples_get_the_same_output():
    seen = check(FAULTY["only_padding_is_read"][1]).session.record.first(OverfitCheck)
    assert not any(trial.whole for trial in seen.trials)
