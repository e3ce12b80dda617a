"""Which kinds of objects hold state, which do not, and which of them can be put back."""

from __future__ import annotations

import array
import copy
import enum
import functools
import io
import random
import sys
import sysconfig
import threading
import types
from collections import OrderedDict, defaultdict, deque
from typing import Any, NamedTuple

import numpy
import torch

from lightning_debug.experiments._keepers import Accessor, Array, Keeper

ATOMS: frozenset[type] = frozenset(
    {
        *(type(None), bool, int, float, complex, str, bytes, range, slice, type(...), type(NotImplemented)),
        *(torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size, torch.finfo, torch.iinfo),
        *(types.ModuleType, types.CodeType, type(threading.Lock()), type(threading.RLock()), type(numpy.add)),
    }
)
"""Types whose instances never change, or not in a way that matters."""

LEAVES = (
    *("lightning_debug", "torch.distributed", "torch._C._distributed", "torch._dynamo", "torch._inductor"),
    *("torch._functorch", "torch._guards", "torch.fx", "torch.cuda", "torch.jit", "torch._ops", "torch._C"),
    *("tokenizers", "sentencepiece", "torchtext", "regex", "typing", "re", "_sre", "datetime", "decimal", "uuid"),
    *("zoneinfo", "pathlib", "logging", "pyarrow", "polars", "PIL", "operator", "inspect", "_thread", "importlib"),
    *("abc", "_abc", "contextvars", "warnings", "jaxtyping", "fractions", "ipaddress", "packaging"),
)
"""Beginnings of the modules of types taken for constant: compilers, tokenizers, dates, paths, loggers of ``logging``."""

_SILENT = ("lightning_debug", "torch._dynamo", "torch._inductor", "torch._functorch")
"""Modules whose functions are not looked into."""

_REFUSED = ("torch._C.ScriptObject", "torch._C.Generator")
_NEVER_LEAVES = (torch.nn.Module, torch.optim.Optimizer, torch.Tensor, torch.Generator, torch.UntypedStorage)
_CONTAINERS = (dict, OrderedDict, defaultdict, list, tuple, set, frozenset, deque)
_BASES: dict[type, int] = {
    kind: kind.__basicsize__
    for kind in (object, *_CONTAINERS, int, float, str, bytes, types.SimpleNamespace, BaseException, Exception)
}
_HEAP_TYPE = 1 << 9


class Layout(NamedTuple):
    """Where a class's instances keep their state beside ``__dict__`` and what a container holds."""

    members: list[types.MemberDescriptorType]


@functools.lru_cache(maxsize=4096)
def layout(kind: type) -> Layout | None:
    """How to look into a class's instances; None if they hold state out of Python's sight.

    A class written in Python adds slots and pointers to its base, and nothing else: larger instances
    belong to a class of some extension.
    """
    base = kind
    while base.__flags__ & _HEAP_TYPE and base.__base__ is not None and base not in _BASES:
        base = base.__base__
    if base not in _BASES:
        return None
    members = [
        item
        for one in kind.__mro__
        if one not in _BASES
        for item in vars(one).values()
        if isinstance(item, types.MemberDescriptorType)
    ]
    size = _BASES[base] + 8 * len(members)
    size += 8 * (kind.__dictoffset__ > 0 and not base.__dictoffset__)
    size += 8 * (kind.__weakrefoffset__ > 0 and not base.__weakrefoffset__)
    return Layout(members) if kind.__basicsize__ <= size else None


@functools.lru_cache(maxsize=4096)
def is_user_code(module: str) -> bool:
    """Whether a module is the user's own: neither installed, nor of the standard library, nor ours."""
    if module in ("builtins", "__builtin__"):
        return False
    if module.split(".")[0] in ("torch", "lightning_debug", "pytorch_lightning", "lightning", "lightning_fabric"):
        return False
    if module == "__main__":
        return True
    found = getattr(sys.modules.get(module), "__file__", None)
    if found is None:
        return module not in sys.builtin_module_names and module.split(".")[0] not in sys.stdlib_module_names
    paths = sysconfig.get_paths()
    if "site-packages" in found or "dist-packages" in found:
        return False
    return not found.startswith((paths["stdlib"], paths["platstdlib"]))


def is_leaf(value: Any) -> bool:
    """Whether an object is taken for constant by its type."""
    if isinstance(value, _NEVER_LEAVES):
        return False
    kind = type(value)
    if isinstance(value, (numpy.generic, numpy.dtype, types.GenericAlias, types.UnionType, classmethod, staticmethod)):
        return True
    if isinstance(value, (types.MethodType, types.FunctionType)):
        name = getattr(value, "__module__", None) or ""
        return any(name == leaf or name.startswith(f"{leaf}.") for leaf in _SILENT)
    if isinstance(value, types.BuiltinFunctionType):
        return False
    if value is sys.stdout or value is sys.stderr or value is sys.__stdout__ or value is sys.__stderr__:
        return True
    return isinstance(value, enum.Enum) or _leaf_kind(kind)


@functools.lru_cache(maxsize=4096)
def _leaf_kind(kind: type) -> bool:
    name = f"{kind.__module__}.{kind.__qualname__}"
    if name in _REFUSED:
        return False
    return any(name == leaf or name.startswith(f"{leaf}.") for leaf in LEAVES)


def blank(value: Any) -> bool:
    """Whether it is an empty immutable container."""
    return type(value) in (tuple, frozenset) and not value


def accessor(value: Any, *, copies: bool) -> tuple[Any, bool] | None:
    """The keeper of an object whose state is read and written as a whole; and whether it draws numbers."""
    keeper: Keeper
    if isinstance(value, torch.Generator):
        return Accessor(value.get_state, value.set_state, torch.equal), True
    if isinstance(value, numpy.random.Generator):
        bits = value.bit_generator
        return _numpy(lambda: bits.state, lambda state: setattr(bits, "state", state)), True
    if isinstance(value, numpy.random.BitGenerator):
        return _numpy(lambda: value.state, lambda state: setattr(value, "state", state)), True
    if isinstance(value, numpy.random.RandomState):
        return _numpy(lambda: value.get_state(legacy=False), value.set_state), True
    if isinstance(value, random.Random):
        return Accessor(value.getstate, value.setstate, _equal), True
    if isinstance(value, numpy.ndarray):
        if not value.flags.writeable or not copies:
            return _NOTHING, False
        keeper = Array(value)
        return keeper, False
    if isinstance(value, (bytearray, array.array)):
        return Accessor(lambda: value[:], lambda saved: value.__setitem__(slice(None), saved), _equal), False
    if isinstance(value, (io.StringIO, io.BytesIO)):
        return Accessor(lambda: (value.getvalue(), value.tell()), functools.partial(_rewrite, value), _equal), False
    return None


class _Nothing(Keeper):
    __slots__ = ()

    def restore(self) -> None:
        return


_NOTHING = _Nothing()


def _equal(first: Any, second: Any) -> bool:
    return bool(first == second)


def _numpy(read: Any, write: Any) -> Accessor:
    return Accessor(lambda: copy.deepcopy(read()), write, lambda first, second: repr_state(first) == repr_state(second))


def repr_state(state: Any) -> Any:
    """A comparable form of a numpy generator's state."""
    if isinstance(state, dict):
        return {key: repr_state(value) for key, value in state.items()}
    return state.tobytes() if isinstance(state, numpy.ndarray) else state


def _rewrite(stream: Any, saved: tuple[Any, int]) -> None:
    stream.seek(0)
    stream.truncate()
    stream.write(saved[0])
    stream.seek(saved[1])
