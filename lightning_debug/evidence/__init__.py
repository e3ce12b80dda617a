"""Evidence: what was seen, as frozen plain values. One module a family; every kind is importable from here."""

from __future__ import annotations

import importlib
import pkgutil

from lightning_debug.evidence._base import Evidence, Moment, decode, encode, from_plain, to_plain
from lightning_debug.evidence.run import Hindrance, ProbeFailure, RuleFailure, RunContext, Unavailable

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_module.name)  # so that decode() knows every kind

__all__ = [
    "Evidence",
    "Hindrance",
    "Moment",
    "ProbeFailure",
    "RuleFailure",
    "RunContext",
    "Unavailable",
    "decode",
    "encode",
    "from_plain",
    "to_plain",
]
