"""Where code reads a parameter as ``.data`` or ``.detach()``, which no gradient passes."""

from __future__ import annotations

import inspect
import re
from typing import Any

from torch import nn

from lightning_debug.probes.source import display_path, is_installed

_NEVER = re.compile(r"init|reset|load|on_save|on_load|ema|average|state_dict|__")
"""Methods that read values on purpose."""


def cut_where_read(owner: nn.Module, name: str) -> str:
    """``self.position.data at file.py:31``: the one way in which a module's own code reads a parameter.

    Empty where it is also read as it is, or not at all. A write in place, as initialisation is, is no reading.

    Args:
        owner: The module that holds it.
        name: The parameter's name there.

    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.place = nn.Parameter(torch.zeros(2))
    >>> import torch
    >>> cut_where_read(Net(), "place")
    ''
    """
    own = re.compile(
        rf"\bself\.{re.escape(name)}\b(?P<cut>\.data\b|\.detach\(\))?(?P<write>(\[[^\]]*\])?(\.\w+_\(|\s*=[^=]))?"
    )
    found = []
    for kind in type(owner).__mro__:
        for member, function in vars(kind).items():
            if not inspect.isfunction(function) or _NEVER.search(member):
                continue
            found += [(match, line) for match, line in _matches(own, function)]
    reads = [(match, line) for match, line in found if not match["write"]]
    if not reads or any(not match["cut"] for match, _ in reads):
        return ""
    match, line = reads[0]
    return f"self.{name}{match['cut']} at {line}"


def _matches(pattern: re.Pattern[str], function: Any) -> list[tuple[re.Match[str], str]]:
    file = function.__code__.co_filename
    if is_installed(file):
        return []
    try:
        lines, start = inspect.getsourcelines(function)
    except (OSError, TypeError):
        return []
    plain = [line.partition("#")[0] for line in lines]
    return [
        (match, f"{display_path(file)}:{start + i}") for i, line in enumerate(plain) for match in pattern.finditer(line)
    ]
