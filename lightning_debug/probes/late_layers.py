"""Layers that a model makes outside of its ``__init__``, where no optimizer finds them: read from bytecode."""

from __future__ import annotations

import dis
from types import FunctionType, ModuleType
from typing import Any

from torch import nn

from lightning_debug.probes.bytecode import line_of, plain_function, reached
from lightning_debug.probes.source import display_path, is_library

LAYERS = ("linear", "conv", "rnn", "sparse", "batchnorm", "normalization", "transformer", "activation.Multihead")
"""Modules of ``torch.nn.modules`` whose classes have parameters."""


def late_layers(root: nn.Module) -> list[tuple[str, str]]:
    """Name and ``file.py:31`` of the layers made in methods that ``__init__`` does not call.

    >>> class Net(nn.Module):
    ...     def forward(self, x):
    ...         return nn.Linear(4, 2)(nn.functional.relu(x))
    >>> [name for name, _ in late_layers(Net())]
    ['nn.Linear']
    """
    found: dict[tuple[str, str], None] = {}
    for kind in dict.fromkeys(type(module) for module in root.modules()):
        init = plain_function(kind.__init__)
        early = set(reached(init, kind)) if init is not None else set()
        for base in (item for item in kind.__mro__ if item not in nn.Module.__mro__):  # which others may have patched
            for member in vars(base).values():
                method = plain_function(member)
                if method is not None and method not in early and not is_library(method.__code__.co_filename):
                    found |= dict.fromkeys(_made_in(method))
    return list(found)


def _made_in(function: FunctionType) -> list[tuple[str, str]]:
    """The classes of layers that a function calls by a global name, or through a module: ``nn.Linear``."""
    value: Any = None
    name, line = "", function.__code__.co_firstlineno
    found = []
    for step in dis.get_instructions(function.__code__):
        line = line_of(step) or line
        if step.opname.startswith("LOAD_GLOBAL"):
            name, value = str(step.argval), function.__globals__.get(step.argval)
        elif step.opname.startswith(("LOAD_ATTR", "LOAD_METHOD")) and isinstance(value, ModuleType):
            name, value = f"{name}.{step.argval}", getattr(value, step.argval, None)
        elif step.opname not in ("CACHE", "EXTENDED_ARG", "PUSH_NULL"):
            value = None
        if isinstance(value, type) and _has_parameters(value):
            found.append((name, f"{display_path(function.__code__.co_filename)}:{line}"))
            value = None
    return found


def _has_parameters(kind: type) -> bool:
    where = f"{kind.__module__}.{kind.__qualname__}".removeprefix("torch.nn.modules.")
    return issubclass(kind, nn.Module) and where.startswith(LAYERS)
