"""Runs a script or module in this process as ``python`` itself would."""

from __future__ import annotations

import builtins
import functools
import importlib.machinery
import io
import os
import runpy
import sys
import types
from collections.abc import Callable, Sequence
from types import TracebackType

Hook = Callable[[type[BaseException], BaseException, TracebackType | None], object]


def run_script(path: str, arguments: Sequence[str]) -> None:
    """Runs a file as ``python path arguments…`` does: ``__main__``, ``sys.argv`` and ``sys.path`` included.

    ``runpy.run_path`` puts the former ``__main__`` back when the file ends, which pickling and exit handlers
    of the program would notice; it is used for folders and archives only.

    Raises:
        OSError: If the file cannot be read.
    """
    _start([path, *arguments], os.path.dirname(os.path.realpath(path)))
    if os.path.isdir(path) or path.endswith((".zip", ".pyz")):
        sys.path[0] = path
        runpy.run_path(path, run_name="__main__")
        return
    absolute = os.path.abspath(path)
    with io.open_code(absolute) as file:
        source = file.read()
    module = types.ModuleType("__main__")
    module.__file__ = absolute
    module.__loader__ = importlib.machinery.SourceFileLoader("__main__", absolute)
    vars(module).update(__builtins__=builtins, __cached__=None, __package__=None)
    sys.modules["__main__"] = module
    exec(compile(source, absolute, "exec", dont_inherit=True), vars(module))


def run_module(name: str, arguments: Sequence[str]) -> None:
    """Runs a module as ``python -m name arguments…`` does."""
    _start([name, *arguments], os.getcwd())
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def _start(words: list[str], folder: str) -> None:
    sys.argv = words
    if not getattr(sys.flags, "safe_path", sys.flags.isolated):  # else python puts no folder in front either
        sys.path[0] = folder


def forget_our_frames() -> None:
    """Has an uncaught exception shown without the frames that started the script, as python would show it.

    The hook in place (a program may have set its own) is called with the shorter traceback.
    """
    sys.excepthook = functools.partial(_shorter, sys.excepthook)


def _shorter(hook: Hook, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    ours = (__file__, os.path.join(os.path.dirname(__file__), "cli.py"), runpy.run_path.__code__.co_filename)
    frames = []
    rest = trace
    while rest is not None:
        frames.append(rest)
        rest = rest.tb_next
    is_ours = [frame.tb_frame.f_code.co_filename in ours for frame in frames]
    if any(is_ours):  # the launcher that called us, then us, then the program
        start = is_ours.index(True)
        start += next((index for index, own in enumerate(is_ours[start:]) if not own), len(frames))
        trace = next(iter(frames[start:]), None)
    hook(kind, error.with_traceback(trace), trace)
