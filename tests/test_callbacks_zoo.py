"""Programs as other people write them, with every part on and strict: same weights, no exception, no alarm."""

import pytest
import torch

from lightning_debug import Debugger
from tests.healthy import assert_same, make_trainer, seed
from tests.helpers import alarms
from tests.programs.zoo_data import PROGRAMS


def trained(make, *callbacks):
    seed()
    model, loaders, options = make()
    options = {"max_epochs": 3, **options}
    datamodule = options.pop("datamodule", None)
    seed()
    trainer = make_trainer(*callbacks, **options)
    trainer.fit(model, *loaders, **({"datamodule": datamodule} if datamodule else {}))
    return {
        "weights": model.state_dict(),
        "optimizers": [item.state_dict() for item in trainer.optimizers],
        "random": torch.get_rng_state(),
        "metrics": dict(trainer.callback_metrics),
        "steps": trainer.global_step,
    }


SOME = [pytest.param(make, marks=pytest.mark.slow) if place % 3 else make for place, make in enumerate(PROGRAMS)]
"""Every third program by default."""


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # Lightning and torch on odd programs
@pytest.mark.parametrize("make", SOME, ids=lambda make: make.__name__)
def test_a_healthy_program_is_left_alone(make):
    debugger = Debugger(strict=True, console=False)
    assert_same(trained(make), trained(make, debugger))
    assert debugger.report.status == "finished"
    assert not alarms(debugger.report)
