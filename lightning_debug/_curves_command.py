"""The words of ``lightning-debug curves``; what does the work is imported when it is asked for."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from jsonargparse import ArgumentParser

from lightning_debug.settings import SettingsError


def add(commands: Any, fault_exit: int, **options: Any) -> None:
    """Adds the command to a parser's commands."""
    parser = ArgumentParser(
        description="Judges finished runs by their logs: TensorBoard event files, CSVLogger's metrics.csv, and other "
        "tables of losses by step or epoch, such as exports of Weights & Biases.",
        **options,
    )
    parser.add_argument(
        "folders", nargs="+", metavar="RUN_DIR", help="Folders, in which runs are found at any depth, or CSV files."
    )
    for name, what in (("train", "training loss"), ("val", "validation loss"), ("metric", "validation metric")):
        parser.add_argument(f"--{name}", default="", metavar="NAME", help=f"Name of the {what}, if not the usual one.")
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="As JSON.")
    parser.add_argument(
        "--html", metavar="FILE", default="", help="Also write one page with a table over the runs and their curves."
    )
    levels = ["error", "warning", "never"]
    parser.add_argument("--fail-on", choices=levels, default="never", help=f"Exit with {fault_exit} at such a finding.")
    commands.add_subcommand("curves", parser, help="Judge finished runs by their logs.")


def run(options: Any, show: Callable[[str], int], fault_exit: int) -> int:
    """Shows what is said of the runs; returns ``fault_exit`` if a finding is as grave as ``--fail-on``.

    Raises:
        SettingsError: If a folder is not there, or holds no logs; if the page cannot be written.
    """
    from lightning_debug import curves_cli
    from lightning_debug.finding import Report
    from lightning_debug.reports._files import write_text

    names = {name: options.get(name, "") for name in ("train", "val", "metric")}
    try:
        folders = curves_cli.runs(options.folders)
    except curves_cli.NoLogs as error:
        raise SettingsError(str(error)) from error
    found = [curves_cli.diagnose(folder, **names) for folder in folders]
    if options.get("html"):
        try:
            write_text(options.html, curves_cli.as_page(found))
        except OSError as error:
            raise SettingsError(f"--html {options.html} cannot be written: {error.strerror}") from error
    show(curves_cli.as_json(found) if options.get("json") else curves_cli.table(found))
    return fault_exit if any(Report(run.findings).reaches(options.fail_on) for run in found) else 0
