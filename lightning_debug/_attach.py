"""The entry points' factory. Lightning calls it for every Trainer on the machine: off means off."""

from __future__ import annotations

import os
from typing import Any


def callbacks() -> list[Any]:
    """A Debugger when ``LIGHTNING_DEBUG`` is set to a true word; else nothing, and nothing is imported."""
    if os.environ.get("LIGHTNING_DEBUG", "").strip().lower() in ("", "0", "false", "no", "off"):
        return []
    return []
