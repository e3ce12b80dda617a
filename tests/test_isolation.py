"""Steps inside a fit leave no trace: a nasty module, compared by an independent fingerprint."""

from __future__ import annotations

import pytest
import torch

from lightning_debug.experiments.isolation import in_sandbox
from tests.nasty import Experiment, Nasty, everything, fit


@pytest.mark.parametrize("offload", [None, "cpu"])
@pytest.mark.parametrize("at", [0, 3])
@pytest.mark.parametrize("automatic", [True, False])
def test_a_nasty_module_is_put_back_bit_for_bit(automatic, at, offload):
    experiment = Experiment(everything, at, updates=True, offload=offload)
    fit(Nasty(automatic), experiment)
    assert experiment.raised is None
    assert experiment.found == []
    assert not in_sandbox()


def test_without_updates_manual_optimization_is_covered_as_well():
    experiment = Experiment(everything, 2)
    fit(Nasty(automatic=False), experiment)
    assert experiment.raised is None
    assert experiment.found == []


def test_the_fingerprint_notices_what_is_not_put_back(monkeypatch):
    """The test of the test: with any one keeper idle the comparison fails."""
    from lightning_debug.experiments import _keepers, _tensors

    kinds = [item for item in vars(_keepers).values() if isinstance(item, type) and item is not _keepers.Keeper]
    kinds += [_tensors.Storage, _tensors.Face]
    missed = []
    for kind in kinds:
        if not issubclass(kind, _keepers.Keeper) or kind is _keepers.Scripted:
            continue
        with monkeypatch.context() as patch:
            patch.setattr(kind, "restore", lambda self: None)
            experiment = Experiment(everything, 0, updates=True)
            try:
                fit(Nasty(), experiment)
            except Exception:  # what an unfaithful restore breaks later is of no interest here
                torch.use_deterministic_algorithms(False)
            if experiment.found == []:
                missed.append(kind.__name__)
    assert missed == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, torch.cuda.OutOfMemoryError])
def test_whatever_is_raised_inside_leaves_the_run_as_it_was(error):
    def run(sandbox, trainer, module, batch):
        everything(sandbox, trainer, module, batch)
        raise error("inside")

    experiment = Experiment(run, 1, updates=True)
    fit(Nasty(), experiment)
    assert type(experiment.raised) is error
    assert experiment.found == []
