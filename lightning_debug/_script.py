"""Runs a script or module in this process as ``python`` itself would."""

from __future__ import annotations

import builtins
import functools
import importlib.machinery
import io
import os
import runpy
import sys
import traceback
import types
from collections.abc import Callable, Sequence
from types import TracebackType


class NoSuchModule(ImportError):
    """There is no module of that name, or it cannot be run."""


Hook = Callable[[type[BaseException], BaseException, TracebackType | None], object]


def unrunnable(words: Sequence[str]) -> str:
    """Why the first of these words names no program; empty if it does.

    >>> unrunnable(["nowhere.py"])
    "can't open 'nowhere.py': there is no such file"
    """
    if not words:
        return "which script? (or -m module)"
    if not os.path.exists(words[0]):
        return f"can't open {words[0]!r}: there is no such file"
    if os.path.isdir(words[0]) and not os.path.exists(os.path.join(words[0], "__main__.py")):
        return f"{words[0]!r} is a folder without a __main__.py: which script in it?"
    return ""


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
    """Runs a module as ``python -m name arguments…`` does.

    Raises:
        NoSuchModule: If there is nothing of that name to run.
    """
    _start([name, *arguments], os.getcwd())
    try:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    except ImportError as error:
        files = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
        if all(file == __file__ or file.startswith("<frozen ") or file == runpy.__file__ for file in files):
            raise NoSuchModule(str(error)) from None  # raised before any line of the program
        raise


def _start(words: list[str], folder: str) -> None:
    sys.argv = words
    if not getattr(sys.flags, "safe_path", sys.flags.isolated):  # else python puts no folder in front either
        sys.path[0] = folder


def forget_our_frames() -> None:
    """Has an uncaught exception shown without our frames, as python would show it.

    The hook in place (a program may have set its own) is called with the shorter traceback.
    """
    sys.excepthook = functools.partial(_shorter, sys.excepthook)


def _shorter(hook: Hook, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    frames = []
    while trace is not None:
        frames.append(trace)
        trace = trace.tb_next
    files = [frame.tb_frame.f_code.co_filename for frame in frames]
    start = files.index(__file__) if __file__ in files else 0  # before it stand whoever called us
    while start < len(files) and files[start] in (__file__, runpy.run_path.__code__.co_filename):
        start += 1
    ours = os.path.join(os.path.dirname(__file__), "")
    if not files[-1:] or files[-1].startswith(ours):  # no frame of the program, or a fault of our own: keep that
        kept = frames[start:]
    else:  # an audited step is called through an instrument
        kept = [frame for frame, file in zip(frames[start:], files[start:], strict=True) if not file.startswith(ours)]
    for index, frame in enumerate(kept):
        frame.tb_next = kept[index + 1] if index + 1 < len(kept) else None
    first = kept[0] if kept else None
    hook(kind, error.with_traceback(first), first)
