"""LightningCLI with a Debugger of its own (``--debug``), in programs as users write them, one process a package."""

import subprocess
import sys

import pytest
import pytorch_lightning as pl
import yaml

from lightning_debug import Debugger
from lightning_debug.cli import DebugCLI, add_debug_arguments
from tests.healthy import make_model
from tests.test_lightning_cli import CALLBACKS, QUIET, cli, ours

PROGRAM = """
import sys
from lightning_debug.cli import DebugCLI  # before the package: it is known by the model's class
import torch
import {package} as pl
from torch.utils.data import DataLoader, TensorDataset


class Model(pl.LightningModule):
    def __init__(self, rate: float = 0.1):
        super().__init__()
        self.net, self.rate = torch.nn.Linear(4, 2), rate

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def train_dataloader(self):
        inputs = torch.randn(64, 4)
        return DataLoader(TensorDataset(inputs, (inputs[:, 0] > 0).long()), 8, shuffle=True)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.rate)


if __name__ == "__main__":
    command = DebugCLI(Model)
    assert isinstance(command, DebugCLI) and isinstance(command, pl.cli.LightningCLI)
    for item in command.trainer.callbacks:
        if type(item).__module__.startswith("lightning_debug"):
            print(type(item).__name__, getattr(getattr(item, "settings", None), "fail_on", ""), item.report.status)
    print("other package:", "{other}.callbacks" in sys.modules)
"""


def run(folder, *words):
    done = subprocess.run(
        [sys.executable, "train.py", *words], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()[-3:]


@pytest.mark.slow
@pytest.mark.parametrize("package", ["pytorch_lightning", "lightning.pytorch"])
def test_a_program_is_saved_and_replayed(package, tmp_path):
    other = {"pytorch_lightning": "lightning.pytorch", "lightning.pytorch": "pytorch_lightning"}[package]
    (tmp_path / "train.py").write_text(PROGRAM.format(package=package, other=other), encoding="utf-8")
    quiet = [word for word in QUIET if "logger" not in word]
    words = ["--debug.fail_on=error", "--debug.console=false", "--trainer.logger=lightning.pytorch.loggers.CSVLogger",
             "--trainer.logger.save_dir=logs", "--trainer.callbacks+=lightning_debug.NonFiniteGuard",
             "--trainer.callbacks.max_norm=2.0"]  # fmt: skip
    words[2] = words[2].replace("lightning.pytorch", package)
    told = run(tmp_path, "fit", *quiet, *words)
    assert told[0].startswith("NonFiniteGuard")
    assert told[1] == "Debugger error finished"
    assert told[2] == "other package: False", "only what the program imports is imported"
    (saved,) = tmp_path.rglob("config.yaml")
    kept = yaml.safe_load(saved.read_text(encoding="utf-8"))
    assert kept["debug"]["fail_on"] == "error"
    assert kept["trainer"]["callbacks"][0]["init_args"]["max_norm"] == 2.0
    assert run(tmp_path, "fit", f"--config={saved}", "--trainer.logger.save_dir=again") == told


def debugged(*words, **options):
    options = {"run": False, "save_config_callback": None, "seed_everything_default": False, **options}
    return DebugCLI(type(make_model()), args=[*QUIET, *words], **options)


def test_the_namespace(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train.py"])
    command = debugged("--debug.select=[LD201]", "--debug.thresholds={LD210: {factor: 4.0}}")
    (callback,) = ours(command)
    assert callback.settings.select == ("LD201",)
    assert callback.settings.thresholds == {"LD210": {"factor": 4.0}}
    (callback,) = ours(debugged("--debug.enabled=false"))
    assert not callback.enabled
    for word, accepted in (("--debug.fail_on=sometimes", "'never', 'warning', 'error'"),
                           ("--debug.console=perhaps", "true"), ("--debug.selct=[]", "selct")):  # fmt: skip
        with pytest.raises(SystemExit):
            debugged(word)
        assert accepted in capsys.readouterr().err


def test_an_own_command_line(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py"])

    class Own(DebugCLI):
        def add_arguments_to_parser(self, parser):
            super().add_arguments_to_parser(parser)
            parser.set_defaults({"debug.console": False})

    class Other(pl.cli.LightningCLI):
        def add_arguments_to_parser(self, parser):
            add_debug_arguments(parser, "watch")

    options = {"run": False, "save_config_callback": None, "seed_everything_default": False}
    command = Own(type(make_model()), args=QUIET, **options)
    assert isinstance(command, Own)
    assert isinstance(command, pl.cli.LightningCLI)
    assert not ours(command)[0].settings.console
    (callback,) = ours(Other(type(make_model()), args=[*QUIET, "--watch.fail_on=warning"], **options))
    assert isinstance(callback, Debugger)
    assert callback.settings.fail_on == "warning"


@pytest.mark.parametrize("name", CALLBACKS)
def test_help_and_a_wrong_value(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train.py"])
    with pytest.raises(SystemExit):
        cli(f"--trainer.callbacks.help=lightning_debug.{name}")
    told = " ".join(capsys.readouterr().out.split())
    assert f"lightning_debug.{name}" in told
    with pytest.raises(SystemExit):
        cli(f"--trainer.callbacks+=lightning_debug.{name}", "--trainer.callbacks.no_such_option=1")
    assert "no_such_option" in capsys.readouterr().err
    if "action" in told:
        with pytest.raises(SystemExit):
            cli(f"--trainer.callbacks+=lightning_debug.{name}", "--trainer.callbacks.action=bogus")
        said = capsys.readouterr().err
        assert "'warn'" in said
        assert "bogus" in said
