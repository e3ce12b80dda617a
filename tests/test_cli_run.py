"""``lightning-debug run``: the script as python runs it, watched, and an exit code that says what came of it."""

import json
import os
import subprocess
import sys

import lightning.pytorch  # noqa: F401  # both before any capture: they keep the stderr they find
import pytest
import pytorch_lightning  # noqa: F401

from lightning_debug import _script, cli
from lightning_debug.finding import FaultFound
from tests import scripts

PACKAGES = ["pytorch_lightning", pytest.param("lightning.pytorch", marks=pytest.mark.slow)]
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(autouse=True)
def _put_back(monkeypatch):
    """What running a script changes in a process is for the process's life; here it ends with the test."""
    kept = dict(os.environ), list(sys.argv), list(sys.path), sys.modules["__main__"], sys.excepthook
    yield
    environment, sys.argv, sys.path[:], sys.modules["__main__"], sys.excepthook = kept
    os.environ.clear()
    os.environ.update(environment)
    sys.modules.pop("net_of_this_project", None)


def plain(path, *words):
    """The script without us, in this process."""
    _script.run_script(str(path), words)


def watched(*words):
    return cli.main(["run", *map(str, words)])


def digests(capsys):
    return [line for line in capsys.readouterr().out.splitlines() if len(line) == 64]


# ------------------------------------------------------------------------------------------------ the same program


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("body", ["ARGPARSE", "TWO_TRAINERS", "LIGHTNING_CLI", "OWN_DEBUGGER"])
def test_the_weights_are_the_same_with_and_without(body, package, tmp_path, capsys):
    path = scripts.write(tmp_path, getattr(scripts, body), package=package)
    words = ["fit"] if body == "LIGHTNING_CLI" else []
    plain(path, *words)
    sys.modules.pop("net_of_this_project")
    expected = digests(capsys)
    assert expected
    assert watched("--strict", path, *words) == 0
    assert digests(capsys) == expected


def run_both(folder, *words, own=()):
    command = [[sys.executable], [sys.executable, "-m", "lightning_debug", "run", *own]]
    options = {"cwd": folder, "env": {**os.environ, "OMP_NUM_THREADS": "1"}}
    return [
        subprocess.run([*start, *words], capture_output=True, text=True, check=False, **options) for start in command
    ]


def without_notices(text, folder):
    """Standard error less Lightning's notice on the entry point and our own line."""
    ours = ("Adding 1 callbacks from entry point", "lightning-debug: ")
    return [line.replace(str(folder), "") for line in text.splitlines() if not line.startswith(ours)]


@pytest.mark.parametrize("how", ["script", pytest.param("module", marks=pytest.mark.slow)])
def test_a_program_sees_what_python_would_show_it(how, tmp_path):
    scripts.write(tmp_path / "inner", scripts.ARGPARSE)
    (tmp_path / "net_of_this_project.py").write_text("")
    words = ["inner/train.py"] if how == "script" else ["-m", "inner.train"]
    bare, ours = run_both(tmp_path, *words, "--epochs", "1", "--select", "x", "word", "--", "--odd")
    assert (bare.returncode, ours.returncode) == (0, 0), ours.stderr
    assert ours.stdout == bare.stdout
    assert without_notices(ours.stderr, tmp_path) == without_notices(bare.stderr, tmp_path)
    assert "1 run watched; no fault found" in ours.stderr


@pytest.mark.slow
def test_an_exception_is_shown_as_python_shows_it(tmp_path):
    scripts.write(tmp_path, scripts.RAISES)
    bare, ours = run_both(tmp_path, "train.py")
    assert (bare.returncode, ours.returncode) == (1, 1)
    told = without_notices(ours.stderr, tmp_path)
    assert told == without_notices(bare.stderr, tmp_path)
    assert told[-1] == "KeyError: 'a bug of the script'"
    assert not any("lightning_debug" in line for line in told)


@pytest.mark.parametrize(
    "source", ["def broken(:\n", "raise SystemExit('a message')\n", "1 / 0\n", "import nowhere_x\n"]
)
def test_other_ends_are_shown_as_python_shows_them(source, tmp_path):
    (tmp_path / "train.py").write_text(source)
    bare, ours = run_both(tmp_path, "train.py")
    assert (ours.returncode, ours.stdout, ours.stderr) == (bare.returncode, bare.stdout, bare.stderr)


def test_the_scripts_own_exception_hook_is_called(tmp_path):
    (tmp_path / "train.py").write_text(
        "import sys, traceback\n"
        "sys.excepthook = lambda kind, error, trace: print('mine', kind.__name__, len(traceback.extract_tb(trace)))\n"
        "1 / 0\n"
    )
    bare, ours = run_both(tmp_path, "train.py")
    assert (ours.returncode, ours.stdout, ours.stderr) == (bare.returncode, bare.stdout, bare.stderr)
    assert ours.stdout == "mine ZeroDivisionError 1\n"


# ------------------------------------------------------------------------------------------------ exit codes


@pytest.mark.parametrize(("code", "kept"), [("5", 5), ("'told'", "told"), ("0", None), ("", None)])
def test_the_scripts_exit_code_comes_through(code, kept, tmp_path, capsys):
    path = scripts.write(tmp_path, scripts.EXITS.format(code=code))
    if kept is None:
        assert watched(path) == 0
        return
    with pytest.raises(SystemExit) as stop:
        watched("--fail-on", "warning", path)
    assert stop.value.code == kept


def test_the_scripts_exception_comes_through(tmp_path):
    path = scripts.write(tmp_path, scripts.RAISES, end=scripts.SOFTMAX)
    with pytest.raises(KeyError, match="a bug of the script"):
        watched("--fail-on", "warning", path)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        pytest.param([], 0, marks=pytest.mark.slow),
        (["--fail-on", "error"], 3),
        pytest.param(["--fail-on", "warning"], 3, marks=pytest.mark.slow),
        pytest.param(["--fail-on", "never"], 0, marks=pytest.mark.slow),
        (["--fail-on", "error", "--ignore", "LD201,LD605"], 0),
        pytest.param(["--fail-on=error", "--select=LD4"], 0, marks=pytest.mark.slow),
    ],
)
def test_fail_on_is_the_exit_code_after_the_whole_training(words, code, tmp_path, capsys):
    path = scripts.write(tmp_path, scripts.ARGPARSE, end=scripts.SOFTMAX)
    assert watched(*words, path) == code  # the script asserts that all its epochs ran
    told = capsys.readouterr()
    assert len([line for line in told.out.splitlines() if len(line) == 64]) == 1
    if "LD201" not in " ".join(words) and "LD4" not in " ".join(words):
        assert "LD201 softmax-before-cross-entropy" in told.err
    assert f"exit code {code}" in told.err or not code


def test_a_repaired_script_is_told_nothing(tmp_path, capsys):
    path = scripts.write(tmp_path, scripts.ARGPARSE)
    assert watched("--fail-on", "warning", path, "--epochs", "6") == 0
    assert "lightning-debug: 1 run watched; no fault found" in capsys.readouterr().err


def test_stop_ends_the_fit(tmp_path, capsys):
    path = scripts.write(tmp_path, scripts.ARGPARSE, end=scripts.SOFTMAX)
    assert watched("--stop", path) == 3
    told = capsys.readouterr()
    assert "stopped by LD201 softmax-before-cross-entropy" in told.err
    assert not told.out
    assert watched("--stop", "--fail-on", "warning", path) == 3
    assert watched("--stop", "--ignore", "LD201,LD605", path) == 0


def test_the_projects_settings_hold_where_no_option_is_given(tmp_path, capsys):
    path = scripts.write(tmp_path, scripts.ARGPARSE, end=scripts.SOFTMAX)
    (tmp_path / "pyproject.toml").write_text('[tool.lightning_debug]\nfail_on = "error"\n')
    assert watched(path) == 3
    assert "stopped by LD201" in capsys.readouterr().err
    assert watched("--fail-on", "error", path) == 3
    assert "stopped" not in capsys.readouterr().err
    assert watched("--fail-on", "never", path) == 0


def test_a_fault_that_the_script_itself_asked_to_raise_comes_through(tmp_path):
    body = scripts.OWN_DEBUGGER.replace("console=False", 'console=False, fail_on="error"')
    path = scripts.write(tmp_path, body, end=scripts.SOFTMAX)
    with pytest.raises(FaultFound):
        watched(path)


@pytest.mark.parametrize("words", [["--select", "nonsense"], ["--ignore", "LD9999"]])
def test_a_wrong_option_is_refused_before_the_script_runs(words, tmp_path, capsys):
    path = scripts.write(tmp_path, scripts.NO_TRAINER)
    assert watched(*words, path) == 2
    told = capsys.readouterr()
    assert words[1] in told.err
    assert not told.out


# ------------------------------------------------------------------------------------------------ what is watched


def test_all_trainers_are_summed_up(tmp_path, capsys):
    path = scripts.write(tmp_path, scripts.TWO_TRAINERS, end=scripts.SOFTMAX)
    assert watched("--fail-on", "error", path) == 3
    assert "lightning-debug: 2 runs watched; 2 findings: LD201" in capsys.readouterr().err


def test_the_scripts_own_debugger_counts(tmp_path, capsys):
    path = scripts.write(tmp_path, scripts.OWN_DEBUGGER, end=scripts.SOFTMAX)
    assert watched("--fail-on", "error", path) == 3
    assert "1 run watched" in capsys.readouterr().err


@pytest.mark.slow
def test_processes_that_the_script_starts_count(tmp_path, capsys):
    inner = scripts.write(tmp_path, scripts.ARGPARSE, end=scripts.SOFTMAX, name="inner.py")
    outer = tmp_path / "outer.py"
    outer.write_text(f"import subprocess, sys\nsubprocess.run([sys.executable, {str(inner)!r}], check=True)\n")
    assert watched("--fail-on", "error", "--no-console", outer) == 3
    assert "1 run watched" in capsys.readouterr().err


def test_no_trainer_is_said(tmp_path, capsys):
    path = tmp_path / "train.py"
    path.write_text(scripts.NO_TRAINER)
    assert watched("--fail-on", "error", path) == 0
    told = capsys.readouterr()
    assert told.out == "no training here\n"
    assert told.err == "lightning-debug: no Trainer ran, so nothing was judged\n"


@pytest.mark.parametrize(("rank", "lines"), [("0", 1), ("1", 0)])
def test_only_the_first_of_several_processes_sums_up(rank, lines, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("RANK", rank)
    (tmp_path / "train.py").write_text(scripts.NO_TRAINER)
    assert watched(tmp_path / "train.py") == 0
    assert len(capsys.readouterr().err.splitlines()) == lines


def test_a_package_that_is_not_installed_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "entry_points", lambda **named: ())
    (tmp_path / "train.py").write_text(scripts.NO_TRAINER)
    assert watched(tmp_path / "train.py") == 2
    told = capsys.readouterr()
    assert "not installed" in told.err
    assert not told.out


# ------------------------------------------------------------------------------------------------ what is shown


def test_the_report_is_where_it_was_asked_for_though_the_script_moves(tmp_path, monkeypatch):
    path = scripts.write(tmp_path / "project", "os.chdir(os.sep)\n" + scripts.ARGPARSE, end=scripts.SOFTMAX)
    assert watched("--report-dir", "out", "--no-console", path) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert "LD201" in json.dumps(report)
    assert (tmp_path / "out" / "report.html").exists()


def test_no_console_is_silent_unless_it_fails(tmp_path, capsys):
    path = scripts.write(tmp_path, scripts.ARGPARSE, end=scripts.SOFTMAX)
    assert watched("--no-console", "--no-tensorboard", path) == 0
    assert "LD201" not in capsys.readouterr().err
    assert watched("--no-console", "--fail-on", "error", path) == 3
    told = [line for line in capsys.readouterr().err.splitlines() if "LD201" in line]
    assert len(told) == 1
    assert told[0].endswith("exit code 3, as fail_on=error asks")
