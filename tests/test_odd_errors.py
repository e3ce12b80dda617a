"""What a user's step may raise beside plain errors: an error without a text, and what ends the program."""

import math
import os
import sys

import pytest
from torch.utils.data import DataLoader, Dataset

from lightning_debug import Debugger
from tests.healthy import assert_same, make_loaders, make_model, make_trainer, seed
from tests.helpers import alarms


def exiting(model, when):
    step = model.training_step

    def training_step(batch, batch_idx):
        loss = step(batch, batch_idx)
        if when(model, batch, float(loss.detach())):
            print("stopping training")
            sys.exit(1)
        return loss

    model.training_step = training_step
    return model


CASES = {
    "loss": lambda model, batch, loss: not math.isfinite(loss) or loss > 3,
    "size": lambda model, batch, loss: len(batch[0]) != 16,
    "mode": lambda model, batch, loss: not model.net[1].training,
}


@pytest.mark.parametrize("when", CASES.values(), ids=CASES.keys())
def test_a_step_that_would_exit_does_not_end_the_run(when):
    def fitted(*callbacks):
        model = exiting(make_model(), when)
        seed()
        make_trainer(*callbacks, max_epochs=4).fit(model, *make_loaders())
        return model.state_dict()

    debugger = Debugger(console=False, strict=True)
    assert_same(fitted(), fitted(debugger))
    assert debugger.report.status == "finished"
    assert not alarms(debugger.report)


def test_a_run_that_exits_exits():
    debugger = Debugger(console=False, strict=True)
    with pytest.raises(SystemExit):
        make_trainer(debugger).fit(exiting(make_model(), lambda model, *_: model.global_step == 3), *make_loaders())
    assert debugger.report.status == "failed: SystemExit: 1"


class Untold(Exception):
    """An error of the user's whose own text is broken."""

    def __str__(self):
        raise RuntimeError("no text")


@pytest.mark.parametrize("error", [Untold(3), SystemExit(), ValueError()], ids=lambda item: type(item).__name__)
def test_an_exception_without_a_text_is_the_users_still(error, tmp_path):
    debugger = Debugger(console=False, report_dir=str(tmp_path), experiment_seconds=0)
    with pytest.raises(type(error)):
        make_trainer(debugger).fit(make_model(fail_at=2, error=error), *make_loaders())
    assert debugger.report.status.removeprefix("failed: ").partition(",")[0] == type(error).__name__
    assert (tmp_path / "report.json").exists()


class AtHome(Dataset):
    """Ends the process that asks it, where that is the one that trains: workers are to read it."""

    def __init__(self):
        self.data = make_loaders()[0].dataset
        self.home = os.getpid()

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        if os.getpid() == self.home:
            sys.exit("a worker should read this")
        return self.data[index]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_dataset_that_would_exit_does_not_end_the_run():
    debugger = Debugger(console=False, strict=True)
    loader = DataLoader(AtHome(), 16, shuffle=True, num_workers=1)
    make_trainer(debugger, max_epochs=2).fit(make_model(), loader, make_loaders()[1])
    assert debugger.report.status == "finished"
    assert not alarms(debugger.report)
