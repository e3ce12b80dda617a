"""The command line: ``lightning-debug run | audit | demo | rules | …``. Only what trains or reads imports torch."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from lightning_debug import _curves_command, audit, registry
from lightning_debug._lightning_cli import DebugCLI, add_debug_arguments
from lightning_debug.registry import UnknownRule
from lightning_debug.settings import PREFIX, TALLY, Settings, SettingsError, unknown_variables

__all__ = ["DebugCLI", "add_debug_arguments", "main"]

FAULT_EXIT = 3
"""Exit code of ``run`` when the script succeeded and a finding reached ``--fail-on``."""
USAGE_EXIT = 2
"""Exit code for a command line, setting, rule or bug that is not accepted (as argparse has it)."""

_RUN = f"""Runs a Lightning script, unedited, with a Debugger attached to every Trainer in it.

LIGHTNING_DEBUG=1 is set for the script and for the processes it starts; everything else is as under
`python script.py args ...`: the training does not change by a bit. What follows the script (or the
module) belongs to it.

exit code:
  The script's own, if it is not 0 (1 for an exception, which is shown as python shows it).
  {FAULT_EXIT}  if the script succeeds and a finding is at least as grave as --fail-on.
  {USAGE_EXIT}  if this command line, a setting or the script's path is not accepted.
  0  otherwise.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: The words after the program's name; by default those it was started with.

    Returns:
        The exit code.

    Raises:
        SystemExit: For ``--help``, a wrong command line, or whatever a script under ``run`` exits with.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    own, script = _split(words)
    choice = _parser().parse_args(own)
    options = choice[choice.command]
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that knows fewer characters still shows the rest
    try:
        if choice.command == "run":
            return _run(options, script)
        if choice.command == "audit":
            return audit.run(options, script)
        if choice.command in ("demo", "curves"):
            return _demo(options) if choice.command == "demo" else _curves_command.run(options, _show, FAULT_EXIT)
        if choice.command == "explain-error":
            return _explain_error(options.file)
        return _explain(options.rule) if choice.command == "explain" else _show(_rules(options))
    except (UnknownRule, SettingsError, audit.CannotAudit, _Refused) as error:
        print(f"lightning-debug {choice.command}: {error}", file=sys.stderr)
        return USAGE_EXIT


class _Refused(Exception):
    """What was asked for cannot be done; the message says why."""


class _Help(argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Keeps the line breaks of the descriptions."""


def _parser() -> Any:
    from lightning_debug import __version__

    options: dict[str, Any] = {"formatter_class": _Help}
    parser = ArgumentParser(
        prog="lightning-debug",
        description="A debugger for training runs with PyTorch Lightning.",
        version=__version__,
        **options,
    )
    commands = parser.add_subcommands(dest="command", required=True)

    run = ArgumentParser(description=_RUN, usage="lightning-debug run [options] (script.py | -m module) [args ...]")
    run.formatter_class = _Help
    codes: dict[str, Any] = {"action": "append", "metavar": "RULES", "default": argparse.SUPPRESS}
    flag: dict[str, Any] = {"action": "store_true", "default": argparse.SUPPRESS}
    levels = ["error", "warning", "never"]
    run.add_argument(
        "-m", dest="module", metavar="MODULE", default=argparse.SUPPRESS, help="Run a module, as python -m."
    )
    run.add_argument(
        "--select", **codes, help="Judge only these: codes, beginnings of codes (LD2) or names, by commas."
    )
    run.add_argument("--ignore", **codes, help="Leave these out; wins over --select.")
    run.add_argument(
        "--fail-on",
        choices=levels,
        default=argparse.SUPPRESS,
        help=f"Exit with {FAULT_EXIT} after a finding at least this grave; training goes on to its end. "
        "Left out: what the settings say, else never.",
    )
    run.add_argument("--stop", **flag, help="Stop the training at such a finding, by default at an error.")
    run.add_argument(
        "--report-dir", metavar="DIR", default=argparse.SUPPRESS, help="Folder for report.html and report.json."
    )
    run.add_argument("--no-console", **flag, help="Print no findings.")
    run.add_argument("--no-tensorboard", **flag, help="Write nothing to the script's TensorBoard loggers.")
    run.add_argument("--strict", **flag, help="Let exceptions of this tool through.")
    commands.add_subcommand("run", run, help="Run a script with a Debugger in every Trainer.")

    commands.add_subcommand("audit", audit.parser(_Help), help="Read data once, without a model, and report on them.")

    demo = ArgumentParser(
        description="Trains on scikit-learn's handwritten digits with a planted bug, and shows what is found.",
        **options,
    )
    demo.add_argument(
        "--bug", metavar="NAME", default=argparse.SUPPRESS, help="Code or name of the bug to plant, or healthy."
    )
    demo.add_argument("--list", **flag, help="Show the bugs.")
    demo.add_argument(
        "--folder", metavar="DIR", default="lightning_debug_demo", help="Where to write program, report and logs."
    )
    commands.add_subcommand("demo", demo, help="See it find a bug, in seconds.")

    rules = ArgumentParser(description="Lists the rules: code, name, severity, title.", **options)
    rules.add_argument("--select", **codes, help="Only these: codes, beginnings of codes (LD2) or names, by commas.")
    rules.add_argument("--ignore", **codes, help="Without these.")
    rules.add_argument("--markdown", **flag, help="As a Markdown table.")
    commands.add_subcommand("rules", rules, help="List the rules.")

    _curves_command.add(commands, FAULT_EXIT, **options)
    explain = ArgumentParser(description="Prints a rule's page.", **options)
    explain.add_argument("rule", metavar="RULE", help="Code or name.")
    commands.add_subcommand("explain", explain, help="Print a rule's page.")

    error = ArgumentParser(description="Explains a pasted traceback, as far as its text allows.", **options)
    error.add_argument(
        "file", metavar="FILE", nargs="?", default="-", help="The file it stands in; standard input if left out."
    )
    commands.add_subcommand("explain-error", error, help="Explain a pasted traceback.")
    return parser


_WITH_VALUE = ("--select", "--ignore", "--fail-on", "--report-dir")


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """Parts the words of this tool from those of the script under ``run``, which may look like options.

    >>> _split(["run", "--select", "LD2", "train.py", "--select", "x"])
    (['run', '--select', 'LD2'], ['train.py', '--select', 'x'])
    >>> _split(["run", "--stop", "-m", "package.train", "--lr", "1"])
    (['run', '--stop', '-m', 'package.train'], ['--lr', '1'])
    """
    if words[:1] == ["audit"]:
        return audit.split(words)
    if words[:1] != ["run"]:
        return words, []
    index = 1
    while index < len(words) and words[index].startswith("-") and words[index] not in ("-", "--"):
        if words[index] == "-m":
            return words[: index + 2], words[index + 2 :]
        index += 2 if words[index] in _WITH_VALUE else 1
    rest = words[index:]
    return words[:index], rest[1:] if rest[:1] == ["--"] else rest


# ---------------------------------------------------------------------------------------------- run


_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
"""Where torchrun and cluster managers tell a process which one it is; findings are told by the first alone."""


def _run(options: Any, script: list[str]) -> int:
    from lightning_debug import _script
    from lightning_debug._tally import Tally
    from lightning_debug.finding import FaultFound

    module = options.get("module")
    if module is None and (why := _script.unrunnable(script)):
        raise _Refused(why)
    if not entry_points(group="pytorch_lightning.callbacks_factory", name="lightning_debug"):
        raise _Refused("this package is importable but not installed, so no Trainer finds it: pip install it")
    first_rank = all(os.environ.get(name, "0") == "0" for name in _RANKS)
    fail_on, stop = _prepare(options)
    with tempfile.TemporaryDirectory(prefix="lightning_debug_") as folder:
        tally = os.environ[TALLY] = os.path.join(folder, "tally.jsonl")
        Path(tally).touch()
        try:
            if module is None:
                _script.run_script(script[0], script[1:])
            else:
                _script.run_module(module, script)
        except SystemExit as ended:
            if ended.code not in (None, 0):
                raise
        except _script.NoSuchModule as error:
            raise _Refused(error) from None
        except BaseException as error:
            if not (stop and isinstance(error, FaultFound)):
                _script.forget_our_frames()
                raise
            print(f"lightning-debug: stopped by {error}", file=sys.stderr)
        total = Tally(Path(tally).read_text(encoding="utf-8").splitlines())
    code = FAULT_EXIT if total.reaches(fail_on) else 0
    if code or (first_rank and not options.get("no_console")):
        because = f"; exit code {code}, as fail_on={fail_on} asks" if code else ""
        print(f"lightning-debug: {total}{because}", file=sys.stderr)
    return code


def _prepare(options: Any) -> tuple[str, bool]:
    """Puts the options into the environment; returns the severity that fails the run, and whether it stops it."""
    for told in unknown_variables(os.environ):
        print(f"lightning-debug run: {told}", file=sys.stderr)
    given = {name: ",".join(options[name]) for name in ("select", "ignore") if name in options}
    given.update({name: "0" for name in ("console", "tensorboard") if options.get(f"no_{name}")})
    if "report_dir" in options:
        given["report_dir"] = os.path.abspath(os.path.expanduser(options.report_dir))  # scripts change directory
    if options.get("strict"):
        given["strict"] = "1"
    if options.get("stop"):
        given["fail_on"] = options.get("fail_on", "error")
    elif "fail_on" in options:
        given["fail_on"] = "never"  # the exit code says it; training goes on
    os.environ.update({PREFIX + name.upper(): value for name, value in given.items()}, LIGHTNING_DEBUG="1")
    in_fit = Settings.resolve().fail_on
    return str(options.get("fail_on", in_fit)), in_fit != "never"


def _demo(options: Any) -> int:
    from lightning_debug import demo

    if options.get("list"):
        return _show(demo.listing())
    try:
        demo.run(options.get("bug"), options.folder, _show)
    except demo.CannotShow as error:
        raise _Refused(error) from error
    return 0


# ---------------------------------------------------------------------------------------------- rules, explain


def _rules(options: Any) -> str:
    from lightning_debug.reports.catalogue import markdown_table

    words = {name: tuple(filter(None, ",".join(options.get(name, [])).split(","))) for name in ("select", "ignore")}
    chosen = registry.Selection(**words).rules()
    if options.get("markdown"):
        return markdown_table(chosen)
    width = max((len(one.name) for one in chosen), default=0)
    return "\n".join(f"{one.code}  {one.name:<{width}}  {one.severity:<7}  {one.page.title}" for one in chosen)


def _explain(word: str) -> int:
    from lightning_debug.reports.page import plain_page, rich_page

    one = registry.get(word)
    if not sys.stdout.isatty():
        return _show(plain_page(one))
    from rich.console import Console

    Console(highlight=False).print(rich_page(one))
    return 0


def _explain_error(path: str) -> int:
    from lightning_debug.explained import explain_error

    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8", errors="replace")
        return _show(explain_error(text))
    except (OSError, ValueError) as error:
        raise _Refused(f"can't read '{path}': {error.strerror}" if isinstance(error, OSError) else error) from error


def _show(text: str) -> int:
    try:
        print(text, flush=True)
    except BrokenPipeError:  # `lightning-debug rules | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
