"""How the reports write files."""

from __future__ import annotations

import contextlib
import os
import threading

from lightning_debug.finding import Report


def is_worth_a_file(report: Report) -> bool:
    """Whether a run has something to keep; one that only predicted has not, and spares the report of the fit before.

    >>> is_worth_a_file(Report(status="finished")), is_worth_a_file(Report(status="interrupted"))
    (False, True)
    """
    return report.context is not None or bool(report.findings) or report.status != "finished"


def write_text(path: str, text: str) -> None:
    """Writes a file whole or not at all: a reader never sees half of it, and a full disk spares the old one.

    Raises:
        OSError: If the folder cannot be made or the file cannot be written.
    """
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    temporary = f"{path}.{os.getpid()}.{threading.get_ident()}.tmp"
    try:
        with open(temporary, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
