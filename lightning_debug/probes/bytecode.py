"""What the code of a function mentions, read from its bytecode: nothing is run, and no source file is needed."""

from __future__ import annotations

import contextlib
import dis
import inspect
from collections.abc import Collection, Iterator
from types import CodeType, FunctionType
from typing import Any

from lightning_debug.probes.source import display_path, is_library

DEPTH = 3
"""How many calls deep a function is followed into other functions of the user's."""


def plain_function(value: Any) -> FunctionType | None:
    """The Python function behind a method, a decorated function or a static or class method, if there is one.

    >>> plain_function(Collection.register) is not None, plain_function(len)
    (True, None)
    """
    if isinstance(value, (staticmethod, classmethod)):
        value = value.__func__
    try:
        value = inspect.unwrap(getattr(value, "__func__", value))
    except ValueError:  # a circle of wrappers
        return None
    return value if isinstance(value, FunctionType) else None


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def mentioned(function: FunctionType) -> frozenset[str]:
    """Every global, attribute and captured name in the function."""
    codes = list(_codes(function.__code__))
    return frozenset(name for code in codes for name in (*code.co_names, *code.co_freevars))


def asks_for_none(function: FunctionType) -> bool:
    """Whether the function asks whether something is ``None``, or filters by truth.

    >>> asks_for_none(lambda rows: [row for row in rows if row is not None]), asks_for_none(lambda rows: rows[1:])
    (True, False)
    """
    for code in _codes(function.__code__):
        names = {item.opname for item in dis.get_instructions(code)}
        if "IS_OP" in names or any(name.startswith("POP_JUMP") and name.endswith("NONE") for name in names):
            return True
        if "filter" in code.co_names and None in code.co_consts:
            return True
    return False


def returns_nothing(function: FunctionType) -> bool:
    """Whether every way out of the function returns ``None``.

    >>> def log(self, loss):
    ...     if loss > 0:
    ...         return
    ...     self.log("loss", loss)
    >>> def give(self, loss):
    ...     return loss if self.training else None
    >>> returns_nothing(log), returns_nothing(give)
    (True, False)
    """
    before: Any = 0
    for step in dis.get_instructions(function.__code__):
        if step.opname == "RETURN_CONST" and step.argval is not None:
            return False
        if step.opname in ("RETURN_VALUE", "RETURN_GENERATOR") and (before is not None or step.is_jump_target):
            return False  # a way that leads to it may bring something else
        before = step.argval if step.opname == "LOAD_CONST" else 0
    return True


def captured(function: FunctionType) -> dict[str, Any]:
    """What the function holds of the functions around it, by name."""
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        with contextlib.suppress(ValueError):  # not bound yet
            found[name] = cell.cell_contents
    return found


def reads_own(function: FunctionType, attribute: str) -> bool:
    """Whether the function reads ``attribute`` from its first parameter.

    >>> class Net:
    ...     def forward(self, x):
    ...         return x if self.training else -x
    ...     def other(self, x):
    ...         return x.training
    >>> reads_own(Net.forward, "training"), reads_own(Net.other, "training")
    (True, False)
    """
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    if not names:
        return False
    for code in _codes(function.__code__):
        loaded: Any = None
        for step in dis.get_instructions(code):
            if step.opname.startswith("LOAD_ATTR") and step.argval == attribute and loaded == names[0]:
                return True
            if step.opname.startswith(("LOAD_FAST", "LOAD_DEREF")):
                loaded = step.argval[-1] if isinstance(step.argval, tuple) else step.argval
            elif step.opname not in ("CACHE", "EXTENDED_ARG", "NOP", "COPY", "DUP_TOP"):  # the latter: ``self.x += 1``
                loaded = None
    return False


def reached(function: FunctionType, owner: type | None = None, depth: int = DEPTH) -> Iterator[FunctionType]:
    """The function, and the functions of the user's that it may call: methods of ``owner``, and by global name."""
    seen: set[FunctionType] = set()
    queue = [(function, depth)]
    while queue:
        here, left = queue.pop(0)
        if here in seen:
            continue
        seen.add(here)
        yield here
        if not left:
            continue
        known = captured(here)
        for name in sorted(mentioned(here)):
            inner = plain_function(inspect.getattr_static(owner, name, None)) if owner is not None else None
            inner = inner or plain_function(known.get(name, here.__globals__.get(name)))
            if inner is not None and not is_library(inner.__code__.co_filename):
                queue.append((inner, left - 1))


def mentions(function: FunctionType, names: Collection[str], owner: type | None = None) -> str:
    """``file.py:31`` of the first attribute or global in ``names`` that the function mentions, or ``""``.

    Args:
        function: Where to begin; functions that it reaches are read too.
        names: Attributes or globals to look for.
        owner: The class whose methods it may call on ``self``.

    >>> def sample(net):
    ...     net.eval()
    >>> mentions(sample, {"eval"}).startswith("<doctest"), mentions(sample, {"train"})
    (True, '')
    """
    for here in reached(function, owner):
        for code in _codes(here.__code__):
            if not set(names).intersection(code.co_names):
                continue
            line = code.co_firstlineno
            for step in dis.get_instructions(code):
                line = line_of(step) or line
                if step.argval in names and step.opname.startswith(("LOAD_ATTR", "LOAD_METHOD", "LOAD_GLOBAL")):
                    return f"{display_path(code.co_filename)}:{line}"
    return ""


def scales_gradients(function: FunctionType, owner: type | None = None) -> bool:
    """Whether the function, or one that it reaches, puts other values into gradients: scaled ones, most likely.

    >>> def divide(parameters, count):
    ...     for parameter in parameters:
    ...         parameter.grad /= count
    >>> def forget(parameter):
    ...     parameter.grad = None
    ...     return parameter.grad
    >>> scales_gradients(divide), scales_gradients(forget)
    (True, False)
    """
    for here in reached(function, owner):
        for code in _codes(here.__code__):
            if "grad" not in code.co_names:
                continue
            if not _SCALING.isdisjoint(code.co_names):
                return True
            before: Any = 0
            for step in dis.get_instructions(code):
                if step.opname == "STORE_ATTR" and step.argval == "grad" and before is not None:
                    return True
                if step.opname == "LOAD_CONST":
                    before = step.argval
                elif not step.opname.startswith(("LOAD_FAST", "LOAD_NAME", "LOAD_GLOBAL", "LOAD_DEREF", "CACHE")):
                    before = 0
    return False


_SCALING = frozenset("div_ mul_ _foreach_div_ _foreach_mul_ true_divide_ multiply_ divide_".split())


def line_of(step: dis.Instruction) -> int | None:
    """The line that begins at an instruction, if one does."""
    starts = step.starts_line  # a line number, and from Python 3.13 on a flag beside line_number
    if isinstance(starts, bool):
        return getattr(step, "line_number", None)
    return starts
