"""LIGHTNING_DEBUG=1 through the entry points: attached when on, nothing at all when off, and never in the way."""

import copy
import importlib.metadata
import pickle
import subprocess
import sys

import lightning.pytorch as L
import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug import Debugger, _attach
from tests.helpers import QUIET

PACKAGES = [pl, L]
pytestmark = pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no")


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.setattr(_attach, "_told", set())


@pytest.fixture
def on(monkeypatch):
    monkeypatch.setenv("LIGHTNING_DEBUG", "1")


def model_of(package):
    class Model(package.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Linear(4, 2)

        def training_step(self, batch, batch_idx):
            return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", self.training_step(batch, batch_idx))

        test_step = validation_step

        def predict_step(self, batch, batch_idx):
            return self.net(batch[0])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    return Model()


def loader():
    inputs = torch.randn(32, 4)
    return DataLoader(TensorDataset(inputs, (inputs[:, 0] > 0).long()), batch_size=8)


def trainer_of(package, **options):
    return package.Trainer(**{**QUIET, "accelerator": "cpu", "max_epochs": 1, **options})


def debuggers(trainer):
    return [item for item in trainer.callbacks if isinstance(item, Debugger)]


# ------------------------------------------------------------------------------------------------ the switch


@pytest.mark.parametrize("group", ["pytorch_lightning.callbacks_factory", "lightning.pytorch.callbacks_factory"])
def test_both_groups_are_registered(group):
    mine = [item for item in importlib.metadata.entry_points(group=group) if item.name == "lightning_debug"]
    assert [item.load() for item in mine] == [_attach.callbacks]


@pytest.mark.parametrize("word", [None, "", " ", "0", "false", "OFF", " no "])
def test_off_is_off(word, monkeypatch):
    if word is not None:
        monkeypatch.setenv("LIGHTNING_DEBUG", word)
    assert _attach.callbacks() == []
    for package in PACKAGES:
        assert not debuggers(trainer_of(package))


@pytest.mark.parametrize("word", ["1", "true", "ON", " yes "])
@pytest.mark.parametrize("package", PACKAGES, ids=["pytorch_lightning", "lightning"])
def test_on_attaches_one_debugger_to_each_trainer(word, package, monkeypatch):
    monkeypatch.setenv("LIGHTNING_DEBUG", word)
    first, second = trainer_of(package), trainer_of(package)
    assert len(debuggers(first)) == len(debuggers(second)) == 1
    assert debuggers(first) != debuggers(second)


def test_off_imports_nothing():
    code = (
        "import sys; before = set(sys.modules)\n"
        "from lightning_debug._attach import callbacks; assert callbacks() == []\n"
        "new = {name for name in set(sys.modules) - before if name.partition('.')[0] not in sys.stdlib_module_names}\n"
        "assert new == {'lightning_debug', 'lightning_debug._attach'}, new\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------------------------------------ never in the way


def one_line(capsys):
    told = capsys.readouterr().err.splitlines()
    mine = [line for line in told if line.startswith("lightning_debug:")]
    assert len(mine) == 1, told
    return mine[0]


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("LIGHTNING_DEBUG_SELECT", "softmx-before", "fits no rule"),
        ("LIGHTNING_DEBUG_FAIL_ON", "always", "LIGHTNING_DEBUG_FAIL_ON='always'"),
        ("LIGHTNING_DEBUG_THRESHOLDS", "{", "must be JSON"),
        ("LIGHTNING_DEBUG", "perhaps", "neither on"),
    ],
)
def test_a_wrong_setting_is_one_line_and_a_trainer_as_without_us(on, variable, value, told, monkeypatch, capsys):
    monkeypatch.setenv(variable, value)
    for package in PACKAGES:
        trainer = trainer_of(package)
        assert not debuggers(trainer)
        trainer.fit(model_of(package), loader())
    assert told in one_line(capsys)


def test_a_wrong_project_file_is_one_line(on, tmp_path, capsys):
    (tmp_path / "pyproject.toml").write_text("[tool.lightning_debug]\nselct = []\n")
    assert _attach.callbacks() == []
    assert "'selct'" in one_line(capsys)


def test_a_misspelt_variable_is_told_and_does_not_switch_off(on, monkeypatch, capsys):
    monkeypatch.setenv("LIGHTNING_DEBUG_FAILON", "error")
    assert len(_attach.callbacks()) == len(_attach.callbacks()) == 1
    assert "did you mean LIGHTNING_DEBUG_FAIL_ON?" in one_line(capsys)


@pytest.mark.parametrize("error", [ImportError("broken install"), RuntimeError("two\nlines"), MemoryError()])
def test_whatever_we_raise_is_one_line(on, error, monkeypatch, capsys):
    def broken(self):
        raise error

    monkeypatch.setattr(Debugger, "__init__", broken)
    assert _attach.callbacks() == []
    assert type(error).__name__ in one_line(capsys)


@pytest.mark.parametrize("stream", [None, "closed"])
def test_no_stderr_is_no_reason_to_fail(on, stream, monkeypatch, tmp_path):
    closed = (tmp_path / "err").open("w")
    closed.close()
    monkeypatch.setenv("LIGHTNING_DEBUG_FAIL_ON", "always")
    monkeypatch.setattr(sys, "stderr", closed if stream else None)
    assert _attach.callbacks() == []


# ------------------------------------------------------------------------------------------------ all that Trainers do


@pytest.mark.parametrize("package", PACKAGES, ids=["pytorch_lightning", "lightning"])
def test_every_entry_of_a_trainer(on, package):
    trainer, model = trainer_of(package), model_of(package)
    trainer.validate(model, loader(), verbose=False)
    trainer.fit(model, loader(), loader())
    trainer.fit(model_of(package), loader())
    trainer.test(model, loader(), verbose=False)
    assert len(trainer.predict(model, loader())) == 4
    assert debuggers(trainer)[0].report.status == "finished"


@pytest.mark.parametrize("option", ["barebones", "fast_dev_run"])
@pytest.mark.filterwarnings("ignore:.*barebones=True")
def test_short_forms_of_a_trainer(on, option, tmp_path):
    own = {"barebones": {"barebones": True}, "fast_dev_run": {**QUIET, "fast_dev_run": True}}[option]
    trainer = pl.Trainer(accelerator="cpu", **own, **({"max_epochs": 1} if option == "barebones" else {}))
    trainer.fit(model_of(pl), loader(), loader())
    assert len(debuggers(trainer)) == 1
    assert not list(tmp_path.rglob("report.*"))


def test_a_list_that_is_used_twice_runs_one_debugger(on):
    callbacks = [pl.Callback()]  # an empty list would not be aliased
    for _ in range(3):
        trainer = trainer_of(pl, callbacks=callbacks)
        trainer.fit(model_of(pl), loader(), loader())
        running = [item for item in debuggers(trainer) if item._session is not None]
        assert len(running) == 1
        assert running[0].report.status == "finished"
        assert running[0].report.context is not None
    assert len(debuggers(trainer)) == 3


def test_the_scripts_own_debugger_leads(on):
    own = Debugger(select=["LD0"], console=False)
    trainer = trainer_of(pl, callbacks=[own])
    trainer.fit(model_of(pl), loader())
    assert [item for item in debuggers(trainer) if item._session is not None] == [own]


def test_the_scripts_own_debugger_may_be_off(on):
    own = Debugger(enabled=False)
    trainer = trainer_of(pl, callbacks=[own])
    trainer.fit(model_of(pl), loader())
    assert own.report.context is None
    assert [item.report.status for item in debuggers(trainer) if item is not own] == ["finished"]


@pytest.mark.parametrize("action", [copy.deepcopy, lambda item: pickle.loads(pickle.dumps(item))])
def test_a_trainer_can_still_be_copied(on, action):
    trainer = trainer_of(pl)
    assert len(debuggers(action(trainer))) == 1


def test_a_checkpoint_made_with_us_is_resumed_without(on, tmp_path, monkeypatch):
    trainer = trainer_of(pl)
    trainer.fit(model_of(pl), loader())
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    monkeypatch.setenv("LIGHTNING_DEBUG", "0")
    other = trainer_of(pl, max_epochs=2)
    other.fit(model_of(pl), loader(), ckpt_path=tmp_path / "last.ckpt", weights_only=False)
    assert other.current_epoch == 2


def test_settings_reach_the_attached_debugger(on, monkeypatch, tmp_path):
    monkeypatch.setenv("LIGHTNING_DEBUG_SELECT", "LD0")
    monkeypatch.setenv("LIGHTNING_DEBUG_FAIL_ON", "warning")
    monkeypatch.setenv("LIGHTNING_DEBUG_REPORT_DIR", str(tmp_path / "out"))
    settings = debuggers(trainer_of(L))[0].settings
    assert (settings.select, settings.fail_on, settings.report_dir) == (("LD0",), "warning", str(tmp_path / "out"))


def test_a_prediction_spares_the_report_of_the_fit(on, tmp_path):
    model = model_of(pl)
    trainer_of(pl, default_root_dir=tmp_path).fit(model, loader())
    written = {path: path.read_bytes() for path in tmp_path.rglob("report.*")}
    assert sorted(path.name for path in written) == ["report.html", "report.json"]
    trainer_of(pl, default_root_dir=tmp_path).predict(model, loader())
    assert {path: path.read_bytes() for path in tmp_path.rglob("report.*")} == written
