"""The entry points' factory. Lightning calls it for every Trainer on the machine: off means off."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

SWITCH = "LIGHTNING_DEBUG"
OFF = ("", "0", "false", "no", "off")
ON = ("1", "true", "yes", "on")
_told: set[str] = set()


def callbacks() -> list[Any]:
    """A Debugger when ``LIGHTNING_DEBUG`` is set to a true word; else nothing, and nothing is imported.

    It runs inside ``Trainer(...)`` of programs that know nothing of it: whatever goes wrong is one line
    on stderr, once, and a Trainer as it would have been.
    """
    word = os.environ.get(SWITCH, "").strip().lower()
    if word in OFF:
        return []
    try:
        if word not in ON:
            _tell(
                f"{SWITCH}={word!r} is neither on ({', '.join(ON)}) nor off ({', '.join(OFF[1:])}); nothing is attached"
            )
            return []
        from lightning_debug.debugger import Debugger
        from lightning_debug.settings import unknown_variables

        for told in unknown_variables(os.environ):
            _tell(told)
        return [Debugger()]
    except Exception as error:
        _tell(f"nothing is attached, because of {type(error).__name__}: {error}")
        return []


def _tell(message: str) -> None:
    if message not in _told:
        _told.add(message)
        with contextlib.suppress(Exception):  # no stderr, or a closed one
            sys.stderr.write(f"lightning_debug: {' '.join(message.split())}\n")
