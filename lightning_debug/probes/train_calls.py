"""Who calls ``.train()`` and ``.eval()``: watched for a few steps, with the line of the user's code."""

from __future__ import annotations

import functools
import os
import sys
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from torch import nn

from lightning_debug.probes.source import display_path, is_installed, is_library

_WRAPPERS = ("wrapper", "wrapped", "inner", "decorate_context")
_MARK = "_lightning_debug_watch"
KEPT = 64
"""How many calls are remembered."""


@dataclass(eq=False)
class TrainCall:
    """One outermost call of ``train(mode)`` (``eval()`` is ``train(False)``).

    Args:
        covers: Identities of the modules that it reached.
        mode: The mode that was asked for.
        hook: Class and function in which the trainer entered the user's code: ``"LitModel.training_step"``; ``""``
            where the call came from outside any hook.
        name: The function of ``hook`` alone.
        line: ``file.py:31`` of the user's line that led to the call, or ``""``.
        through: Functions of the user's between the hook and the call, the outermost first.
        via: Name of the library function that the user's line called, when it was not ``train`` or ``eval`` itself.
    """

    covers: frozenset[int]
    mode: bool
    hook: str
    name: str
    line: str
    via: str
    through: tuple[str, ...]


class TrainCalls:
    """Notes every outermost ``nn.Module.train`` call of the user's between :meth:`start` and :meth:`stop`.

    The method is replaced on ``nn.Module`` itself, and does what it did: only one line is noted. Starting and
    stopping may be repeated. A watch that is lost without being stopped only passes through.

    Args:
        boundary: Ends of file names that separate the user's hooks from the code that calls them.
        ignore: Says that the call is not the run's own (an experiment), and is to be left out.
        enabled: Whether to note anything at all: code that is compiled must not be traced through a replacement.
    """

    def __init__(
        self, boundary: Iterable[str] = (), ignore: Callable[[], bool] = lambda: False, *, enabled: bool = True
    ) -> None:
        self.calls: deque[TrainCall] = deque(maxlen=KEPT)
        self._ignore = ignore
        self._enabled = enabled
        self._boundary = tuple(name.replace("/", os.sep) for name in boundary)
        self._replacement: Any = None
        self._inside = False

    @property
    def enabled(self) -> bool:
        """Whether calls can be noted."""
        return self._enabled

    @property
    def running(self) -> bool:
        """Whether calls are noted."""
        return self._replacement is not None

    def start(self) -> None:
        """Begins to note calls; harmless when repeated."""
        if self._replacement is not None or not self._enabled:
            return
        previous = nn.Module.train
        here = weakref.ref(self)

        @functools.wraps(previous)
        def train(module: nn.Module, mode: bool = True) -> nn.Module:
            if torch.compiler.is_compiling() or (watch := here()) is None:
                return previous(module, mode)
            return watch.called(previous, module, mode, sys._getframe(1))  # noqa: SLF001 - the documented way

        train.__dict__[_MARK] = (here, previous)
        self._replacement = train
        nn.Module.train = train  # type: ignore[method-assign, assignment]

    def called(
        self, previous: Callable[[nn.Module, bool], nn.Module], module: nn.Module, mode: bool, frame: FrameType
    ) -> nn.Module:
        """Does what ``previous`` does, and notes it unless it is part of a call that is noted."""
        if self._inside or not self.running or self._ignore():
            return previous(module, mode)
        self._inside = True
        try:
            return previous(module, mode)
        finally:
            self._inside = False
            self._note(module, mode, frame)

    def stop(self) -> None:
        """Puts the method back; harmless when repeated. What was noted stays."""
        self._replacement = None
        while (mark := vars(nn.Module.train).get(_MARK)) is not None:  # watches may end in another order
            watch, previous = mark[0](), mark[1]
            if watch is not None and watch._replacement is nn.Module.train:  # noqa: SLF001 - another of our own
                break
            nn.Module.train = previous  # type: ignore[method-assign]

    def clear(self) -> None:
        """Forgets what was noted."""
        self.calls.clear()

    def last(self, module: nn.Module, mode: bool) -> TrainCall | None:
        """The latest noted call that asked for ``mode`` on ``module``."""
        for call in reversed(self.calls):
            if call.mode is mode and id(module) in call.covers:
                return call
        return None

    def _note(self, module: nn.Module, mode: bool, frame: FrameType | None) -> None:
        try:
            user = self._user(frame)
            if any(user):
                covers = frozenset(id(item) for item in module.modules())
                self.calls.append(TrainCall(covers, bool(mode), *user))
        except Exception:  # a note is not worth a run
            return

    def _user(self, frame: FrameType | None) -> tuple[str, str, str, str, tuple[str, ...]]:
        """Hook, its name, the user's line, the library function, and functions on the way, from the stack."""
        line = via = inside = ""
        through: list[str] = []
        outermost: FrameType | None = None
        while frame is not None:
            name = frame.f_code.co_filename
            if name.endswith(self._boundary) and self._boundary:
                break
            if not is_library(name):
                outermost = frame
                through.insert(0, frame.f_code.co_name)
                installed = is_installed(name)
                here = f"{display_path(name)}:{frame.f_lineno}"
                if not line and installed:
                    via = via if frame.f_code.co_name in _WRAPPERS and via else frame.f_code.co_name
                    inside = inside or here
                elif not line:
                    line = here
            frame = frame.f_back
        if frame is None and self._boundary:
            return "", "", line, via, ()  # not below a hook: the user's script itself
        if outermost is None:
            return "", "", "", "", ()
        if not line:  # a callback of an installed package
            line, via = inside, ""
        code = outermost.f_code
        owner = outermost.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
        kind = f"{type(owner).__name__}." if owner is not None and hasattr(type(owner), code.co_name) else ""
        return f"{kind}{code.co_name}", code.co_name, line, via, tuple(through[1:])
