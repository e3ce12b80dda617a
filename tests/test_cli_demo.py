"""``lightning-debug demo``: every bug it offers trains, and is the first thing that is found; a healthy run is not."""

import ast
import importlib.util
import json
import os
import sys

import lightning.pytorch  # noqa: F401  # before any capture: it keeps the stderr it finds
import pytest
import pytorch_lightning  # noqa: F401
import torch

from lightning_debug import cli, demo, registry
from lightning_debug.demo.bugs import BUGS, DEFAULT, HEALTHY, PROGRAMS, Bug, CannotPlant, difference, plant, source


@pytest.fixture(autouse=True)
def _put_back():
    kept = list(sys.argv), list(sys.path), sys.modules["__main__"], sys.excepthook, torch.get_num_threads()
    yield
    sys.argv, sys.path[:], sys.modules["__main__"], sys.excepthook, threads = kept
    torch.set_num_threads(threads)


def shown(capsys, *words):
    code = cli.main(["demo", *words])
    return code, capsys.readouterr()


def report_of(folder):
    return json.loads((folder / "report.json").read_text())["report"]


# ------------------------------------------------------------------------------------------------ the table


def test_every_bug_is_that_of_a_rule_and_none_was_lost():
    rules = {one.code: one.name for one in registry.all_rules()}
    assert {bug.code: bug.name for bug in BUGS}.items() <= rules.items()
    assert len(BUGS) >= 22
    assert [bug.code for bug in BUGS] == sorted({bug.code for bug in BUGS})


def test_list_shows_code_name_and_line(capsys):
    code, told = shown(capsys, "--list")
    assert code == 0
    lines = told.out.splitlines()
    assert [line.split()[:2] for line in lines] == [[bug.code or "-", bug.name] for bug in (*BUGS, HEALTHY)]
    assert all(line.endswith(bug.line) for line, bug in zip(lines, (*BUGS, HEALTHY), strict=True))
    assert all(len(line) <= 150 for line in lines)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_bug_is_a_small_edit_of_a_program_that_is_python(bug):
    text = plant([bug])
    ast.parse(text)
    changed = [line for line in difference(bug.program, text).splitlines() if line.startswith(("+", "-"))]
    assert 1 <= len(changed) <= 12


def test_what_does_not_fit_is_refused():
    with pytest.raises(CannotPlant, match="has no 'no such text'"):
        plant([Bug("x", "LD999", "", "classify", (("no such text", ""),))])
    with pytest.raises(CannotPlant, match="different programs: classify, lower_half"):
        plant([demo.find("LD201"), demo.find("LD206")])


def test_the_healthy_programs_have_no_edit_left_in_them():
    assert plant([HEALTHY]) == source("classify")
    assert difference("classify", source("classify")) == ""
    assert {path.stem for path in PROGRAMS.glob("[a-z]*.py")} == {bug.program for bug in BUGS}


# ------------------------------------------------------------------------------------------------ refusals


def test_without_scikit_learn_it_says_what_to_install(capsys, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "sklearn" else found(name, *rest)
    )
    code, told = shown(capsys)
    assert code == 2
    assert "pip install scikit-learn" in told.err
    assert "Traceback" not in told.err


def test_a_folder_that_cannot_be_made(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    code, told = shown(capsys, "--folder", str(tmp_path / "file"))
    assert code == 2
    assert "cannot write" in told.err


# ------------------------------------------------------------------------------------------------ what it shows


def test_the_default_finds_both_and_says_where_everything_is(capsys, tmp_path):
    code, told = shown(capsys)
    home = tmp_path / "lightning_debug_demo" / "default"
    assert code == 0
    for text in ("+        scores: Tensor = self.head(features).softmax(dim=1)", "+    return encoder.eval()"):
        assert text in told.out
    headlines = [item["name"] for item in report_of(home)["findings"] if item["explained_by"] is None]
    assert headlines[:2] == list(DEFAULT)
    for name in DEFAULT:
        assert name in told.err, "the findings are on the console"
    assert "tensorboard --logdir lightning_debug_demo/default/lightning_logs/version_0" in told.out
    assert "python lightning_debug_demo/default/train.py" in told.out
    assert "lightning-debug explain LD201" in told.out
    assert (home / "report.html").exists()
    assert list((home / "lightning_logs" / "version_0").glob("events.out.tfevents.*"))
    assert "GPU available" not in told.err


def test_a_second_demo_names_its_own_logs(capsys, tmp_path, monkeypatch):
    from lightning_debug import _script

    def train(path, arguments):
        count = len(list((tmp_path / "d" / "healthy" / "lightning_logs").glob("*")))
        os.makedirs(tmp_path / "d" / "healthy" / "lightning_logs" / f"version_{count}")

    monkeypatch.setattr(_script, "run_script", train)
    for count in range(2):
        _, told = shown(capsys, "--bug", "healthy", "--folder", "d")
        assert f"lightning_logs/version_{count}" in told.out
        assert "nothing is planted" in told.out
        assert "explain" not in told.out


# ------------------------------------------------------------------------------------------------ what it finds


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_the_planted_bug_is_the_first_headline(bug, capsys, tmp_path):
    code, told = shown(capsys, "--bug", bug.name, "--folder", str(tmp_path / "d"))
    findings = report_of(tmp_path / "d" / bug.name)["findings"]
    assert code == 0
    assert [item["code"] for item in findings][:1] == [bug.code], told.err
    assert not [item for item in findings if item["code"] < "LD1"], "one of our own parts failed"


@pytest.mark.slow  # the default's tests train the healthy program that the demo shows
@pytest.mark.parametrize("program", sorted({bug.program for bug in BUGS}))
def test_the_healthy_programs_raise_no_alarm(program, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "HEALTHY", Bug("healthy", "", "", program, ()))
    shown(capsys, "--bug", "healthy", "--folder", str(tmp_path / "d"))
    findings = report_of(tmp_path / "d" / "healthy")["findings"]
    assert not [(item["code"], item["message"]) for item in findings if item["severity"] != "info"]
