"""rules, explain, and the command line itself."""

import io
import os
import subprocess
import sys

import pytest

from lightning_debug import __version__, cli
from lightning_debug.registry import all_rules
from lightning_debug.reports.page import plain_page, rich_page
from lightning_debug.rule import SECTIONS


def output(capsys, *words):
    code = cli.main(list(words))
    told = capsys.readouterr()
    return code, told.out, told.err


def refusal(capsys, *words):
    """The exit code and message of a command line that is refused, by the parser or by the command."""
    try:
        code = cli.main(list(words))
    except SystemExit as stop:
        code = stop.code
    told = capsys.readouterr()
    assert not told.out
    return code, told.err


# ------------------------------------------------------------------------------------------------ rules


def test_rules_lists_every_rule_on_a_line(capsys):
    code, out, err = output(capsys, "rules")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert [line.split()[:3] for line in lines] == [[one.code, one.name, one.severity.value] for one in all_rules()]
    assert all(line.endswith(one.page.title) for line, one in zip(lines, all_rules(), strict=True))


def test_rules_as_markdown_is_the_readme_catalogue(capsys):
    from lightning_debug.reports.catalogue import markdown_table

    code, out, _ = output(capsys, "rules", "--markdown")
    assert (code, out) == (0, markdown_table(all_rules()) + "\n")


@pytest.mark.parametrize(
    ("words", "codes"),
    [
        (["--select", "LD001"], ["LD001"]),
        (["--select", "ld00"], ["LD001", "LD002"]),
        (["--select", "LD001,rule-failed"], ["LD001", "LD002"]),
        (["--select", "LD001", "--select", "LD002"], ["LD001", "LD002"]),
        (["--select=LD00", "--ignore=probe-failed"], ["LD002"]),
        (["--select", "LD001", "--ignore", "LD0"], []),
    ],
)
def test_rules_selects(words, codes, capsys):
    code, out, _ = output(capsys, "rules", *words)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines() if line] == codes


# ------------------------------------------------------------------------------------------------ explain


@pytest.mark.parametrize("word", ["LD001", "ld001", "probe-failed", "probe_failed", "Probe-Failed"])
def test_explain_by_code_and_name(word, capsys):
    code, out, err = output(capsys, "explain", word)
    assert (code, err) == (0, "")
    assert out.startswith("LD001 probe-failed (info)\n\nA probe of this tool raised an exception")


@pytest.mark.parametrize("one", all_rules(), ids=lambda one: one.code)
def test_a_page_shows_all_there_is(one):
    text = plain_page(one)
    for heading in SECTIONS:
        if one.page.sections.get(heading):
            assert f"\n{heading}\n" in text
            for line in one.page[heading].splitlines()[1:]:
                assert line.strip() in text
    for name, default in one.thresholds.items():
        assert f"``{name}`` (default {default!r})" in text
    assert all(line == line.rstrip() for line in text.splitlines())


@pytest.mark.parametrize("one", all_rules(), ids=lambda one: one.code)
def test_a_terminal_sees_the_same_words(one):
    from rich.console import Console

    stream = io.StringIO()
    Console(file=stream, force_terminal=False, width=200, legacy_windows=False).print(rich_page(one))
    assert stream.getvalue().split() == plain_page(one).replace("``", "").split()


def test_a_terminal_gets_colours(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert cli.main(["explain", "LD001"]) == 0
    assert "\x1b[" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], ["run", "demo", "rules", "explain"]),
        (["explian"], ["explian", "run", "demo", "rules", "explain"]),
        (["explain"], ["rule"]),
        (["explain", "probe-faild"], ["'probe-faild'", "did you mean probe-failed"]),
        (["explain", "LD9999"], ["'LD9999'", "lightning-debug rules"]),
        (["explain", "zz"], ["'zz'", "lightning-debug rules"]),
        (["rules", "--select", "LD998"], ["'LD998'"]),
        (["rules", "--selct", "LD001"], ["--selct"]),
        (["demo", "--bug", "softmax-befor-cross-entropy"], ["did you mean softmax-before-cross-entropy"]),
        (["demo", "--bug", "no such thing"], ["lightning-debug demo --list"]),
        (["run"], ["which script"]),
        (["run", "--fail-on", "info", "x.py"], ["'info'", "error", "warning", "never"]),
        (["run", "nowhere.py"], ["'nowhere.py'", "no such file"]),
        (["run", "."], ["'.'", "without a __main__.py"]),
        (["run", "-m", "no_such_module_anywhere"], ["No module named no_such_module_anywhere"]),
        (["run", "-m"], ["-m"]),
        (["run", "--nonsense", "x.py"], ["--nonsense"]),
    ],
)
def test_what_is_not_accepted_is_told_with_what_is(words, told, capsys):
    code, err = refusal(capsys, *words)
    assert code == 2
    assert all(text in err for text in told), err
    assert "Traceback" not in err


def test_help_and_version(capsys):
    for words in (["--help"], ["run", "--help"], ["demo", "--help"], ["rules", "--help"], ["explain", "--help"]):
        with pytest.raises(SystemExit) as stop:
            cli.main(words)
        assert stop.value.code == 0
    assert "--fail-on" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out.split() == ["lightning-debug", __version__]


@pytest.mark.parametrize(
    ("words", "own", "script"),
    [
        ("run train.py", "run", "train.py"),
        ("run --stop --select LD2 train.py --select LD3 -m x", "run --stop --select LD2", "train.py --select LD3 -m x"),
        ("run --select=LD2 train.py --help", "run --select=LD2", "train.py --help"),
        ("run --no-console -- --odd.py a", "run --no-console", "--odd.py a"),
        ("run train.py -- a", "run", "train.py -- a"),
        ("run -m package.train --lr 1", "run -m package.train", "--lr 1"),
        ("run --help", "run --help", ""),
        ("rules --select LD2", "rules --select LD2", ""),
    ],
)
def test_the_scripts_words_are_its_own(words, own, script):
    assert cli._split(words.split()) == (own.split(), script.split())


def test_every_option_of_run_that_takes_a_value_is_known_to_the_split():
    run = next(iter(action for action in cli._parser()._actions if action.dest == "command")).choices["run"]
    with_value = {word for action in run._actions if action.nargs is None for word in action.option_strings}
    assert with_value == {*cli._WITH_VALUE, "-m"}


# ------------------------------------------------------------------------------------------------ as a program


def program(*words, **options):
    command = [sys.executable, "-m", "lightning_debug", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_python_m_is_the_program():
    done = program("explain", "LD001")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("LD001 probe-failed (info)")
    assert program("explain", "LD999").returncode == 2


@pytest.mark.parametrize("words", [["rules"], ["explain", "LD001"], ["demo", "--list"], ["rules", "--markdown"]])
def test_what_only_reads_imports_no_torch_and_is_quick(words):
    code = (
        f"import sys; from lightning_debug.cli import main; main({words!r})\n"
        "heavy = {'torch', 'pytorch_lightning', 'lightning', 'numpy', 'rich', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    taken = []
    for _ in range(3):
        start = os.times()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        end = os.times()
        taken.append(end.children_user + end.children_system - start.children_user - start.children_system)
        assert done.returncode == 0, done.stderr
    assert min(taken) < 1.5  # processor time: a quarter of a second, more where other programs spoil its caches


def test_a_reader_that_closes_the_pipe_sees_no_traceback():
    command = [sys.executable, "-m", "lightning_debug", "rules", "--markdown"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        told = process.stderr.read()
        process.wait()
    assert (process.returncode, told) == (0, b"")


def test_a_terminal_that_knows_few_characters_is_enough():
    done = program("explain", "LD001", env={"PYTHONIOENCODING": "ascii", "PATH": ""})
    assert done.returncode == 0, done.stderr
