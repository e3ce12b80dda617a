"""What a step touches beside objects: random generators, torch's flags, the terminal, warnings."""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import random
import signal
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import torch

from lightning_debug.experiments._kinds import plain_state


def random_state() -> dict[str, Any]:
    """The state of every global random generator."""
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": numpy.random.get_state(legacy=False),
        "torch": torch.get_rng_state(),
    }
    cuda: Any = torch.cuda
    if cuda.is_available() and cuda.is_initialized():
        state["cuda"] = cuda.get_rng_state_all()
    if torch.backends.mps.is_available():
        state["mps"] = torch.mps.get_rng_state()
    xpu: Any = getattr(torch, "xpu", None)
    if xpu is not None and xpu.is_available() and xpu.is_initialized():
        state["xpu"] = xpu.get_rng_state_all()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Sets every global random generator."""
    random.setstate(state["python"])
    if plain_state(numpy.random.get_state(legacy=False)) != plain_state(state["numpy"]):
        numpy.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if "cuda" in state:
        torch.cuda.set_rng_state_all(state["cuda"])
    if "mps" in state:
        torch.mps.set_rng_state(state["mps"])
    if "xpu" in state:
        torch.xpu.set_rng_state_all(state["xpu"])


def wait() -> None:
    """Waits for the device, so that nothing queued on any of its streams comes after what follows."""
    for owner in (torch.cuda, getattr(torch, "xpu", None)):
        backend: Any = owner
        if backend is not None and backend.is_available() and backend.is_initialized():
            backend.synchronize()


def _switches() -> list[tuple[Callable[[], Any], Callable[[Any], Any]]]:
    backends: list[tuple[Any, str]] = [
        *((torch.backends.cudnn, name) for name in ("enabled", "benchmark", "deterministic", "allow_tf32")),
        (torch.backends.cuda.matmul, "allow_tf32"),
    ]
    found: list[tuple[Callable[[], Any], Callable[[Any], Any]]] = [
        (torch.get_default_dtype, torch.set_default_dtype),
        (torch.is_grad_enabled, torch.set_grad_enabled),
        (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
        (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
        (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
        (torch.get_num_threads, torch.set_num_threads),
        (torch.get_default_device, torch.set_default_device),
    ]
    for owner, name in backends:
        found.append((_getter(owner, name), _setter(owner, name)))
    return found


def _getter(owner: Any, name: str) -> Callable[[], Any]:
    return lambda: getattr(owner, name)


def _setter(owner: Any, name: str) -> Callable[[Any], Any]:
    return lambda value: setattr(owner, name, value)


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Has cyclic garbage not be looked for: the thousands of records of a few steps would set that off again and again.

    What it looks through is the whole program, and the records are gone when they are not needed any more. For a few
    steps only: what a step of the user's leaves in cycles is freed afterwards.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextlib.contextmanager
def flags_kept() -> Iterator[None]:
    """Puts torch's global flags back where they changed."""
    saved = []
    for read, write in _switches():
        with contextlib.suppress(Exception):  # flags that a backend lacks
            saved.append((read, write, read()))
    try:
        yield
    finally:
        for read, write, value in saved:
            with contextlib.suppress(
                RuntimeError
            ):  # as before: a flag that a step made unreadable is no state of a run
                if read() != value:
                    write(value)


@contextlib.contextmanager
def uncompiled() -> Iterator[None]:
    """Has ``torch.compile`` neither compile nor run compiled code.

    A graph compiled for us could be the one that the run uses afterwards, and a second batch size makes
    the compiler take sizes for dynamic from then on.
    """
    if "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance"):
        with torch.compiler.set_stance("force_eager"):
            yield
        return
    try:
        yield
    finally:
        if "torch._dynamo" in sys.modules:  # first used inside: all that it knows comes from us
            torch._dynamo.reset()


def global_hooks() -> dict[str, Any]:
    """The dictionaries of hooks that torch keeps for all modules."""
    owner = torch.nn.modules.module
    return {name: held for name, held in vars(owner).items() if name.startswith("_global_") and isinstance(held, dict)}


class _Nowhere(io.TextIOBase):
    def write(self, text: str) -> int:
        return len(text)

    def writable(self) -> bool:
        return True


_SILENCE = threading.RLock()
_silences: list[contextlib.ExitStack] = []
_inside = 0


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Has prints, warnings and log messages appear neither now nor less often later.

    What it replaces belongs to the process: of blocks that overlap, in one thread or in several, the first replaces it
    and the last puts it back.
    """
    global _inside  # noqa: PLW0603 -- one process has one terminal
    with _SILENCE:
        if not _silences:
            with contextlib.ExitStack() as stack:
                stack.enter_context(_unwarned())
                stack.enter_context(_no_records())
                stack.enter_context(contextlib.redirect_stdout(_Nowhere()))
                stack.enter_context(contextlib.redirect_stderr(_Nowhere()))
                _silences.append(stack.pop_all())
        _inside += 1
    try:
        yield
    finally:
        with _SILENCE:
            _inside -= 1
            if not _inside:
                _silences.pop().close()


@contextlib.contextmanager
def _unwarned() -> Iterator[None]:
    """Drops warnings.

    ``warnings.catch_warnings`` would have every warning of the program be shown again, for it makes the registries
    of what was shown already out of date. A filter that is put into the list directly does not, and what it ignores
    enters no registry. It comes after those of the user's that make errors of warnings. Where one before these shows
    some warnings once, the registries of all modules are copied and put back, which takes a few milliseconds.
    """
    filters: Any = warnings.filters
    before, show = list(filters), warnings.showwarning
    first = 1 + max((index for index, held in enumerate(before) if held[0] == "error"), default=-1)
    plain = isinstance(filters, list) and all(held[0] in ("error", "ignore", "always") for held in before[:first])
    shown = None if plain else ({name: dict(held) for name, held in _registries().items()}, dict(_once()))
    if plain:
        filters.insert(first, ("ignore", None, Warning, None, 0))
    warnings.showwarning = lambda *_, **__: None
    try:
        yield
    finally:
        warnings.showwarning = show
        if shown is None:
            filters[:] = before
        else:
            for name, held in _registries().items():
                _refill(held, shown[0].get(name, {}))
            _refill(_once(), shown[1])


@contextlib.contextmanager
def _no_records() -> Iterator[None]:
    """Drops what is logged. ``logging.disable`` empties a cache of every logger there is, a millisecond each time."""
    disabled = logging.root.manager.disable
    kinds: list[Any] = [logging.Logger, *_kinds_below(logging.Logger)]
    handles = [(kind, vars(kind)["handle"]) for kind in kinds if "handle" in vars(kind)]
    for kind, _ in handles:
        kind.handle = _drop
    try:
        yield
    finally:
        for kind, handle in handles:
            kind.handle = handle
        if logging.root.manager.disable != disabled:
            logging.disable(disabled)


def _drop(logger: Any, record: Any) -> None:
    """In place of ``Logger.handle``."""


def _kinds_below(kind: Any) -> Iterator[Any]:
    for below in kind.__subclasses__():
        yield below
        yield from _kinds_below(below)


def _registries() -> dict[str, dict[Any, Any]]:
    key, kind = "__warningregistry__", types.ModuleType
    held = [
        (name, module.__dict__[key])
        for name, module in list(sys.modules.items())
        if isinstance(module, kind) and key in module.__dict__
    ]
    return {name: registry for name, registry in held if isinstance(registry, dict)}


def _once() -> dict[Any, Any]:
    held = getattr(warnings, "onceregistry", None)
    return held if isinstance(held, dict) else {}


def _refill(held: dict[Any, Any], content: dict[Any, Any]) -> None:
    if held != content:
        held.clear()
        held.update(content)


class StepExits(RuntimeError):
    """A step that is only tried would end the program, as some do when the loss is no number."""


@contextlib.contextmanager
def staying() -> Iterator[None]:
    """Has ``sys.exit`` end the block alone.

    Raises:
        StepExits: In place of ``SystemExit``.
    """
    try:
        yield
    except SystemExit as error:
        raise StepExits(f"it exits with {error.code!r}") from error


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Holds Ctrl-C back until the block is done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pending: list[tuple[int, Any]] = []
    before = signal.getsignal(signal.SIGINT)
    if before is None:
        yield
        return
    signal.signal(signal.SIGINT, lambda number, frame: pending.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if pending and callable(before):
            before(*pending[0])
