"""Healthy ways to optimise, none of which may raise an alarm."""

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import BackboneFinetuning, StochasticWeightAveraging

from tests.optimizer_programs import ByHand, Classifier, found
from tests.optimizer_programs_healthy import PROGRAMS, Finetuned


@pytest.mark.parametrize("program", PROGRAMS)
def test_is_quiet(program):
    assert not found(PROGRAMS[program](), max_epochs=2)


def test_is_quiet_while_a_backbone_is_unfrozen():
    assert not found(Finetuned(), max_epochs=4, callbacks=[BackboneFinetuning(unfreeze_backbone_at_epoch=2)])


def test_is_quiet_with_averaging():
    assert not found(Classifier(), max_epochs=4, callbacks=[StochasticWeightAveraging(swa_lrs=1e-2)])


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(pl.callbacks, "EMAWeightAveraging"), reason="this Lightning has no such callback")
def test_is_quiet_with_an_average_that_lightning_keeps():
    assert not found(Classifier(), max_epochs=3, callbacks=[pl.callbacks.EMAWeightAveraging()])


@pytest.mark.parametrize("every", [3, {0: 4, 1: 2}])
def test_is_quiet_with_accumulation(every):
    options = {"accumulate_grad_batches": every} if isinstance(every, int) else {}
    callbacks = [] if options else [pl.callbacks.GradientAccumulationScheduler(every)]
    assert not found(Classifier(), max_epochs=2, callbacks=callbacks, **options)


@pytest.mark.parametrize("model", [Classifier, ByHand])
def test_is_quiet_with_a_scaler(model):
    from pytorch_lightning.plugins.precision import MixedPrecision

    plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))
    options = {"gradient_clip_val": 1.0} if model is Classifier else {}
    assert not found(model(), max_epochs=2, plugins=[plugin], **options)
