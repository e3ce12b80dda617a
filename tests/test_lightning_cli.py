"""LightningCLI sets every callback from flags and from a file, in both of Lightning's packages."""

import inspect
import sys

import lightning.pytorch.cli
import pytest
import pytorch_lightning.cli

import lightning_debug
from lightning_debug import DebugCallback, Debugger
from tests.healthy import make_loaders, make_model

CALLBACKS = [
    name
    for name in lightning_debug.__all__
    if isinstance(kind := getattr(lightning_debug, name), type)
    and issubclass(kind, DebugCallback)
    and name != "DebugCallback"
]
PACKAGES = {"pytorch_lightning": pytorch_lightning, "lightning.pytorch": lightning.pytorch}
QUIET = ["--trainer.accelerator=cpu", "--trainer.max_epochs=1", "--trainer.logger=false",
         "--trainer.enable_checkpointing=false", "--trainer.enable_progress_bar=false",
         "--trainer.enable_model_summary=false"]  # fmt: skip


@pytest.fixture(autouse=True)
def _program(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py"])


def cli(*flags, package="pytorch_lightning", forced=False, **options):
    module = PACKAGES[package]

    class Command(module.cli.LightningCLI):
        def add_arguments_to_parser(self, parser):
            if forced:
                parser.add_lightning_class_args(Debugger, "debug")
                parser.set_defaults({"debug.console": False})

    options = {"run": False, "save_config_callback": None, "seed_everything_default": False, **options}
    return Command(make_model(module).__class__, args=[*QUIET, *flags], **options)


def ours(command):
    return [item for item in command.trainer.callbacks if isinstance(item, DebugCallback)]


@pytest.mark.parametrize("name", CALLBACKS)
def test_a_callback_from_flags(name):
    path = f"lightning_debug.{name}"
    (callback,) = ours(cli(f"--trainer.callbacks+={path}"))
    assert type(callback) is getattr(lightning_debug, name)
    parameters = inspect.signature(type(callback)).parameters
    if "action" in parameters:
        (callback,) = ours(cli(f"--trainer.callbacks+={path}", "--trainer.callbacks.action=raise"))
        assert callback.action == "raise"


@pytest.mark.parametrize("package", PACKAGES)
def test_flags_as_the_readme_has_them(package):
    flags = ["--trainer.callbacks+=lightning_debug.Debugger", "--trainer.callbacks.fail_on=error",
             "--trainer.callbacks.console=false", "--trainer.callbacks.ignore=[LD002]"]  # fmt: skip
    command = cli(*flags, package=package)
    (callback,) = ours(command)
    assert (callback.settings.fail_on, callback.settings.ignore) == ("error", ("LD002",))
    command.trainer.fit(command.model, *make_loaders())
    assert callback.report.status == "finished"


@pytest.mark.parametrize("package", PACKAGES)
def test_a_namespace_of_its_own(package):
    (callback,) = ours(cli("--debug.select=[LD001]", "--debug.enabled=false", package=package, forced=True))
    assert not callback.enabled
    assert callback.settings.select == ("LD001",)
    assert not callback.settings.console


@pytest.mark.parametrize("words", ["LD2,LD001", "[LD2,LD001]", '["LD2", "LD001"]'])
def test_codes_are_given_by_commas_or_as_a_list(words):
    (callback,) = ours(cli("--trainer.callbacks+=lightning_debug.Debugger", f"--trainer.callbacks.select={words}"))
    assert callback.settings.select == ("LD2", "LD001")


def test_the_help_shows_each_argument(capsys):
    with pytest.raises(SystemExit):
        cli("--trainer.callbacks.help=lightning_debug.Debugger")
    told = " ".join(capsys.readouterr().out.split())
    for name, parameter in inspect.signature(Debugger).parameters.items():
        assert f".{name}" in told, (name, parameter)
    assert "Stop the fit with" in told


def test_a_file_keeps_the_arguments(tmp_path, capsys):
    with pytest.raises(SystemExit):
        cli("--trainer.callbacks+=lightning_debug.Debugger", "--trainer.callbacks.fail_on=warning", "--print_config")
    path = tmp_path / "config.yaml"
    path.write_text(capsys.readouterr().out, encoding="utf-8")
    assert "class_path: lightning_debug" in path.read_text(encoding="utf-8")
    (callback,) = ours(cli(f"--config={path}"))
    assert callback.settings.fail_on == "warning"


def test_a_wrong_value_is_refused(capsys):
    with pytest.raises(SystemExit):
        cli("--trainer.callbacks+=lightning_debug.Debugger", "--trainer.callbacks.fail_on=sometimes")
    assert "sometimes" in capsys.readouterr().err
