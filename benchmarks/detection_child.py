"""A process for each program of the benchmarks of detection, which starts with all imports made."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path


def in_child(work: Callable[[], None], folder: str) -> int:
    """Does something in a process of its own and gives its exit code; what it prints is in ``log``."""
    child = os.fork()  # imports are done once; no thread has been started yet
    if not child:
        code = 0
        try:
            log = os.open(str(Path(folder) / "log"), os.O_WRONLY | os.O_CREAT)
            os.dup2(log, 1)
            os.dup2(log, 2)
            work()
        except BaseException:
            traceback.print_exc()
            code = 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
