"""Dropout called as a function: does it run in eval mode?"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd
from torch.overrides import TorchFunctionMode

from lightning_debug.probes.dropout_source import ATTENTION, FUNCTIONS, WITH_DEFAULT_FALSE
from lightning_debug.probes.source import display_path, is_library

_DECLARED = re.compile(r"(?i:monte.?carlo|bayes|prenet)|(?<![A-Z])MC(?=[A-Z_]|$)|(?:^|_)mc(?=_|$)")


def declared_name(name: str) -> bool:
    """Whether a name says that dropout is meant to stay on.

    >>> [declared_name(name) for name in ("MCDropout", "mc_forward", "Prenet", "MonteCarloHead", "SMCNet", "McNet")]
    [True, True, True, True, False, False]
    """
    return bool(_DECLARED.search(name))


@dataclass
class Drop:
    """A call that dropped values while every module around it was in eval mode.

    Args:
        function: Name of the torch function.
        module: Path of the innermost module whose method made the call.
        module_class: Its class.
        line: The user's line.
        probability: Drop probability.
        declared: A name around the call that says it is meant, or ``""``.
        layer: Class of the dropout layer that made it and that the model does not hold; ``""`` if none did.
        calls: How often.
    """

    function: str
    module: str
    module_class: str
    line: str
    probability: float
    declared: str = ""
    layer: str = ""
    calls: int = 1


class DropoutWatch(TorchFunctionMode):
    """Records dropouts that run although the modules around them are in eval mode. Enter it only in isolation.

    Args:
        model: The model, for module paths.

    >>> with DropoutWatch(nn.Identity()) as watch:
    ...     _ = torch.nn.functional.dropout(torch.ones(4), 0.5)
    >>> [(drop.function, drop.probability) for drop in watch.drops]
    [('dropout', 0.5)]
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._paths = {id(module): path for path, module in model.named_modules()}
        self._found: dict[tuple[str, str, str], Drop] = {}
        self._inside = False

    @property
    def drops(self) -> tuple[Drop, ...]:
        """What was found, one for each place in the code."""
        return tuple(self._found.values())

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Runs the call unchanged, and notes it if it drops values."""
        keywords = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in FUNCTIONS and not torch.compiler.is_compiling():
            probability = _probability(name.rstrip("_"), args, keywords)
            if probability > 0:
                self._note(name.rstrip("_"), probability, sys._getframe(1))  # noqa: SLF001 - the documented way
        return func(*args, **keywords)

    def _note(self, name: str, probability: float, frame: FrameType | None) -> None:
        owner: nn.Module | None = None
        line = declared = layer = ""
        while frame is not None:
            code = frame.f_code
            if not is_library(code.co_filename):
                line = line or f"{display_path(code.co_filename)}:{frame.f_lineno}"
                declared = declared or (code.co_name if declared_name(code.co_name) else "")
            if code.co_argcount and code.co_varnames[:1] == ("self",):
                module = frame.f_locals.get("self")
                if isinstance(module, _DropoutNd) and id(module) not in self._paths:
                    layer = type(module).__name__
                if isinstance(module, nn.Module) and id(module) in self._paths:
                    if module.training:
                        return  # a module that stays in train mode although eval() was called says it is meant
                    owner = owner or module
                    kind, path = type(module).__name__, self._paths[id(module)].rpartition(".")[2]
                    if isinstance(module, _DropoutNd) and not is_library(code.co_filename):
                        declared = declared or kind  # a dropout layer of the user's own that ignores the mode
                    declared = declared or next((text for text in (kind, path) if declared_name(text)), "")
            frame = frame.f_back
        path = self._paths.get(id(owner), "")
        key = (name, path, line)
        if key in self._found:
            self._found[key].calls += 1
        else:
            kind = type(owner).__name__ if owner is not None else ""
            self._found[key] = Drop(name, path, kind, line, probability, declared, layer)


def _probability(name: str, args: tuple[Any, ...], keywords: dict[str, Any]) -> float:
    """With which probability the call drops values; 0 when it does not."""

    def given(position: int, *names: str, default: Any = None) -> Any:
        for word in names:
            if word in keywords:
                return keywords[word]
        return args[position] if len(args) > position else default

    if name == ATTENTION:
        value, active = given(4, "dropout_p", default=0.0), True
    elif name == "multi_head_attention_forward":
        value, active = given(10, "dropout_p", default=0.0), given(13, "training", default=True)
    else:
        value = given(1, "p", default=0.5)
        active = given(2, "training", "train", default=name not in WITH_DEFAULT_FALSE)
    return float(value) if active and isinstance(value, (int, float)) else 0.0
