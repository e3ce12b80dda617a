"""Audit of data without a model: ``lightning-debug audit MODULE:DATAMODULE`` reads each loader once."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from typing import Any

from jsonargparse import ArgumentParser

DESCRIPTION = """Reads the training and validation data once, without a model, and reports what is wrong with them.

What follows the colon is a LightningDataModule (a class, whose arguments are --data.NAME=VALUE; an instance; or a
function that makes one), or one or two datasets or loaders by comma: train.py:train_set,val_set.
A script that trains as it is imported is run up to that line; nothing is trained.
"""


FAULT_EXIT, FAILED_EXIT, INTERRUPTED_EXIT = 3, 1, 130
"""Exit codes: a finding reached ``--fail-on``; a dataset raised; Ctrl-C."""


def parser(formatter: Any) -> ArgumentParser:
    """The options of the command."""
    found = ArgumentParser(
        description=DESCRIPTION, usage="lightning-debug audit [options] MODULE:NAME[,NAME] [--data.NAME=VALUE ...]"
    )
    found.formatter_class = formatter
    left_out: dict[str, Any] = {"default": argparse.SUPPRESS}
    found.add_argument("target", metavar="MODULE:NAME", help="Where the data are: data.py:MyDataModule.")
    found.add_argument("--select", metavar="RULES", help="Judge only these: codes or names, by commas.", **left_out)
    found.add_argument("--ignore", metavar="RULES", help="Leave these out.", **left_out)
    found.add_argument(
        "--fail-on",
        choices=["error", "warning", "never"],
        default="never",
        help=f"Exit with {FAULT_EXIT} after a finding at least this grave.",
    )
    found.add_argument("--report-dir", metavar="DIR", default="lightning_debug", help="Folder for the reports.")
    found.add_argument("--batch-size", type=int, default=64, help="Of the loaders made for plain datasets.")
    found.add_argument("--workers", type=int, default=0, help="Worker processes of those loaders.")
    return found


def split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Parts the arguments of the datamodule from the command's own.

    >>> split(["audit", "data.py:Data", "--data.folder", "x", "--fail-on", "error", "--data.size=3"])
    (['audit', 'data.py:Data', '--fail-on', 'error'], ['--data.folder', 'x', '--data.size=3'])
    """
    own: list[str] = []
    data: list[str] = []
    for index, word in enumerate(words):
        before = words[index - 1] if index else ""
        value = before.startswith("--data.") and "=" not in before and not word.startswith("--")
        (data if word.startswith("--data.") or value else own).append(word)
    return own, data


def run(options: Any, arguments: Sequence[str]) -> int:
    """The command: reads, and returns the exit code."""
    settings = {name: options[name].split(",") for name in ("select", "ignore") if name in options}
    from lightning_debug.reading import ReadingFailed

    try:
        report, looked = _read(
            options.target,
            arguments,
            batch_size=options.batch_size,
            workers=options.workers,
            report_dir=options.report_dir,
            **settings,
        )
    except ReadingFailed as error:
        _tell(f"{error}; what was read before that is in the report")
        return FAILED_EXIT
    if report.status == "interrupted":
        _tell("interrupted; the report tells of what was read by then")
        return INTERRUPTED_EXIT
    _tell(_summed_up(report, looked=looked))
    return FAULT_EXIT if report.reaches(options.fail_on) else 0


def _tell(text: str) -> None:
    sys.stderr.write(f"lightning-debug audit: {text}\n")


def _summed_up(report: Any, *, looked: bool) -> str:
    codes = ", ".join(dict.fromkeys(item.code for item in report.findings if item.severity >= "warning"))
    if not codes and not looked:
        return "read once; nothing was looked at: no batch holds tensors or arrays with a row for each sample"
    count = sum(item.severity >= "warning" for item in report.findings)
    return f"read once; {count} finding{'s' * (count > 1)}: {codes}" if codes else "read once; no fault found"


class CannotAudit(Exception):
    """What is to be read cannot be found or made; the message says why."""


def audit(
    target: str, arguments: Sequence[str] = (), *, batch_size: int = 64, workers: int = 0, **settings: Any
) -> Any:
    """Reads what ``target`` names, and reports.

    Args:
        target: ``MODULE:NAME`` or ``file.py:NAME``; two names by comma are training and validation data.
        arguments: Words such as ``--data.folder=x`` for the class of a datamodule.
        batch_size: Of the loaders that are made for datasets.
        workers: Their worker processes.
        **settings: As of :class:`~lightning_debug.Debugger`.

    Returns:
        The report. Its status is ``"interrupted"`` after Ctrl-C.

    Raises:
        CannotAudit: If there is no such module, name or argument, or an argument is not accepted.
    """
    return _read(target, arguments, batch_size=batch_size, workers=workers, **settings)[0]


def _read(target: str, arguments: Sequence[str], *, batch_size: int, workers: int, **settings: Any) -> tuple[Any, bool]:
    """The report, and whether any batch held what can be looked at."""
    if batch_size < 1 or workers < 0:
        wrong = f"--batch-size={batch_size}" if batch_size < 1 else f"--workers={workers}"
        raise CannotAudit(f"{wrong} is not accepted; give a whole number from {int(batch_size < 1)} on")
    found = _data(target, arguments)
    from lightning_debug.debugger import Debugger
    from lightning_debug.evidence.data import FieldValues
    from lightning_debug.reading import audits, read

    debugger = Debugger(**{"select": ["LD5"], **settings})
    if not audits(debugger):
        raise CannotAudit("no rule is left that reads data: those are LD5")
    report = read(found, debugger, batch_size=batch_size, workers=workers)
    return report, bool(debugger.session.record.seen(FieldValues))


def _data(target: str, arguments: Sequence[str]) -> list[Any]:
    """What is to be read: a datamodule, or one or two data sets or loaders."""
    found = [_made(item, arguments) for item in _named(target)]
    for name, item in zip(target.rpartition(":")[2].split(","), found, strict=True):
        module = hasattr(item, "train_dataloader")
        if not (module or hasattr(item, "__getitem__") or hasattr(item, "__iter__")):
            raise CannotAudit(f"{name} is of type {type(item).__name__}: no datamodule, no dataset and no loader")
        if len(found) > (1 if module else 2):
            raise CannotAudit(f"{target!r} names {len(found)}: give one datamodule, or one or two datasets or loaders")
    return found


def _named(target: str) -> list[Any]:
    path, colon, names = target.rpartition(":")
    if not colon or not names:
        raise CannotAudit(f"{target!r} is not MODULE:NAME, such as data.py:MyDataModule")
    from lightning_debug._audited_script import CannotImport, imported

    try:
        module, line = imported(path)
    except CannotImport as error:
        raise CannotAudit(str(error)) from error
    missing = [name for name in names.split(",") if not hasattr(module, name)]
    if missing and line is not None:
        where = f" (line {line})" if line else ""
        raise CannotAudit(
            f"{path} has no {missing[0]!r} where it begins to train{where}, and an audit does not train: "
            'put that behind `if __name__ == "__main__":`, or make the data before'
        )
    if missing:
        likely = difflib.get_close_matches(missing[0], [name for name in vars(module) if not name.startswith("_")], 1)
        raise CannotAudit(f"{path} has no {missing[0]!r}{f'; did you mean {likely[0]!r}?' if likely else ''}")
    return [getattr(module, name) for name in names.split(",")]


def _made(item: Any, arguments: Sequence[str]) -> Any:
    """An instance of a class, with ``--data.NAME`` as its arguments; the result of a function; or the object."""
    if not isinstance(item, type):
        if arguments:
            raise CannotAudit(f"{arguments[0]}: only a class takes arguments")
        made = not hasattr(item, "__getitem__") and not hasattr(item, "train_dataloader") and callable(item)
        return item() if made and not hasattr(item, "__iter__") else item
    parser = ArgumentParser(prog="lightning-debug audit", exit_on_error=False)
    parser.add_class_arguments(item, "data")
    try:
        return parser.instantiate_classes(parser.parse_args(list(arguments))).data
    except Exception as error:
        raise CannotAudit(
            f"{item.__name__} cannot be made of {' '.join(arguments) or 'no arguments'}: {error}"
        ) from error
