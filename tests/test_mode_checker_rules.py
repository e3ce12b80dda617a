"""The rules about modes on plain evidence, and what is said where modes cannot be judged."""

import pytest
import torch

from lightning_debug.evidence import decode, encode
from lightning_debug.evidence.modes import EvalModule, ModeChange, TrainingModes, TrainModule, ValidationModes
from lightning_debug.finding import Skip
from lightning_debug.probes import training_audit
from lightning_debug.record import Record
from lightning_debug.rules._modes import at_line
from lightning_debug.rules.ld401_eval_mode_in_training import eval_mode_in_training
from lightning_debug.rules.ld402_train_mode_in_validation import train_mode_in_validation
from tests.mode_programs import IGNORED_WARNINGS, Net, checked

pytestmark = [pytest.mark.filterwarnings(text) for text in IGNORED_WARNINGS]


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setenv("LIGHTNING_DEBUG_STRICT", "1")
    monkeypatch.setenv("LIGHTNING_DEBUG_CONSOLE", "0")


def test_line_and_library():
    assert at_line(ModeChange()) == ""
    assert at_line(ModeChange(line="a.py:1", via="encode")) == " at a.py:1 (through encode)"


def test_evidence_survives_json():
    item = EvalModule(path="net.1", class_name="Dropout", role="dropout", change=ModeChange(through=("a", "b")))
    modes = TrainingModes(model="Net", watched=1, in_eval=(item,), in_train={"dropout": 2})
    assert decode(encode(modes)) == modes


def entry(**fields):
    common = {"path": "net.1", "class_name": "Dropout", "role": "dropout", "root": "net", "train_calls": 1}
    return TrainModule(**{**common, "left": True, **fields})


def claims(*entries):
    return list(train_mode_in_validation(Record([ValidationModes(model="Net", watched=2, in_train=entries)])))


def test_train_mode_without_batch_norm_and_without_a_culprit():
    (claim,) = claims(entry(change=ModeChange(phase="validation")))
    assert claim.message.endswith("(`net.1` (Dropout)): they enter it in validation.")


def test_same_module_is_claimed_once():
    modes = ValidationModes(model="Net", watched=1, in_train=(entry(),))
    assert len(list(train_mode_in_validation(Record([modes, modes])))) == 1


def test_what_did_not_run_is_no_fault():
    assert not claims(entry(train_calls=0))
    assert not claims(entry(alone=True))
    assert not claims(entry(left=False))


@pytest.mark.parametrize("eval_calls", [None, 1, 0])
def test_unseen_is_skipped(eval_calls):
    item = EvalModule(path="net.1", class_name="Dropout", role="dropout", eval_calls=eval_calls, gradient=True)
    modes = TrainingModes(model="Net", watched=1, in_eval=(item,), unseen="it is sharded")
    assert list(eval_mode_in_training(Record([modes]))) == [Skip("it is sharded")]


def test_optimizer_of_other_tensors_is_said():
    class Elsewhere(Net):
        def configure_optimizers(self):
            return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)

    model = Elsewhere()
    model.eval()
    report = checked(model)
    assert not report.findings
    assert [skip.code for skip in report.skips] == ["LD401"]
    assert "sharded" in report.skips[0].reason


def test_steps_that_are_never_seen_are_said(monkeypatch):
    monkeypatch.setattr(training_audit, "PATIENCE", 3)

    class Raw(Net):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch, batch_idx):
            optimizer = self.optimizers(use_pl_optimizer=False)
            optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, batch_idx))
            optimizer.step()

    model = Raw()
    model.eval()
    report = checked(model)
    assert not report.findings
    assert [skip.code for skip in report.skips] == ["LD401"]
    assert "no optimizer's step was seen" in report.skips[0].reason
