"""Which kinds of objects hold state, which do not, and which of them can be put back."""

from __future__ import annotations

import array
import asyncio
import concurrent.futures
import copy
import enum
import functools
import io
import multiprocessing.process
import random
import sys
import sysconfig
import threading
import types
import weakref
from collections import OrderedDict, defaultdict, deque
from typing import Any

import numpy
import torch

from lightning_debug.experiments._keepers import Accessor, Array, Keeper
from lightning_debug.probes.source import is_installed

ATOMS: frozenset[type] = frozenset(
    {
        *(type(None), bool, int, float, complex, str, bytes, range, slice, type(...), type(NotImplemented)),
        *(torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size, torch.finfo, torch.iinfo),
        *(types.ModuleType, types.CodeType, type(threading.Lock()), type(threading.RLock()), numpy.ufunc),
    }
)
"""Types whose instances never change, or not in a way that matters."""

LEAVES = (
    *("torch._dynamo", "torch._inductor", "torch._functorch", "torch._guards", "torch._ops", "torch._C", "torch.fx"),
    *("torch.jit", "torch.cuda.streams", "torch.cuda.graphs", "torch.distributed.device_mesh"),
    *("torch.distributed.distributed_c10d", "torch.distributed.tensor", "torch.distributed._tensor"),
    *("torch.distributed.fsdp", "torch.distributed._composable", "tokenizers", "sentencepiece", "torchtext"),
    *("pyarrow", "polars", "PIL", "typing", "re", "_sre", "regex", "datetime", "decimal", "uuid", "zoneinfo"),
    *(
        "pathlib",
        "logging",
        "numba",
        "operator",
        "inspect",
        "_thread",
        "importlib",
        "abc",
        "_abc",
        "contextvars",
        "warnings",
    ),
    *(
        "pandas._libs",
        "pandas.api",
        "pandas.core.indexes",
        "pandas.core.dtypes",
        "fractions",
        "ipaddress",
        "packaging",
        "jaxtyping",
        "lightning_debug",
    ),
)
"""Where types come from that are taken for constant: compilers, tokenizers, dates, paths, ``logging``, tables.

Modules, optimizers, tensors and generators are looked into wherever they come from.
"""

_SILENT = ("torch._dynamo", "torch._inductor", "torch._functorch", "lightning_debug")
_WALKED = (torch.nn.Module, torch.optim.Optimizer, torch.Tensor, torch.Generator, torch.UntypedStorage)
REMEMBERING: Any = type(functools.lru_cache(len))
"""The type of functions that keep their results."""

_CONSTANT = (
    *(numpy.generic, numpy.dtype, enum.Enum, BaseException, types.GenericAlias, types.UnionType, classmethod),
    *(staticmethod, property, types.MemberDescriptorType, types.GetSetDescriptorType, types.MethodDescriptorType),
    *(types.WrapperDescriptorType, types.ClassMethodDescriptorType, types.TracebackType, functools.cached_property),
    *(random.SystemRandom, REMEMBERING, torch.autograd.graph.Node, torch.Stream, torch.Event),
)
_ALIVE = (
    *(threading.Thread, multiprocessing.process.BaseProcess, concurrent.futures.Executor, asyncio.AbstractEventLoop),
    *(asyncio.Future, torch.ScriptObject),
)
_NUMBERS = (torch.Generator, numpy.random.Generator, numpy.random.BitGenerator, numpy.random.RandomState, random.Random)
_CONTAINERS = (dict, OrderedDict, defaultdict, list, tuple, set, frozenset, deque)
_BASES = (object, *_CONTAINERS, int, float, str, bytes, types.SimpleNamespace)
_HEAP_TYPE = 1 << 9
_OURS = ("torch", "lightning_debug", "pytorch_lightning", "lightning", "lightning_fabric", "builtins")


@functools.lru_cache(maxsize=8192)
def slots_of(kind: Any) -> tuple[types.MemberDescriptorType, ...] | None:
    """The slots of a class's instances; None if they hold state out of Python's sight.

    A class written in Python adds slots and two pointers to its base, and nothing else: larger instances
    belong to a class of some extension.
    """
    base = kind
    while base not in _BASES and base.__flags__ & _HEAP_TYPE:
        base = base.__base__
    if base not in _BASES:
        return () if issubclass(kind, tuple) and hasattr(kind, "n_sequence_fields") else None
    members = [item for one in kind.__mro__ for item in vars(one).values() if one not in _BASES]
    slots = tuple(item for item in members if isinstance(item, types.MemberDescriptorType))
    size = base.__basicsize__ + 8 * len(slots)
    pointer = kind.__dictoffset__ > 0 or (kind.__dictoffset__ < 0 and kind.__itemsize__ > 0)
    size += 8 * (pointer and not base.__dictoffset__)
    size += 8 * (kind.__weakrefoffset__ > 0 and not base.__weakrefoffset__)
    return slots if kind.__basicsize__ <= size else None


@functools.lru_cache(maxsize=8192)
def is_user_code(module: str | None) -> bool:
    """Whether a module is the user's own: neither installed, nor of the standard library, nor ours."""
    top = (module or "builtins").partition(".")[0]
    if top in _OURS or top in sys.builtin_module_names:
        return False
    file = getattr(sys.modules.get(module or ""), "__file__", None)
    if file is None:
        return top not in sys.stdlib_module_names
    if is_installed(file):
        return False
    return not file.startswith((sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")))


def is_leaf(value: Any) -> bool:
    """Whether an object is taken for constant."""
    if isinstance(value, _WALKED):
        return False
    if isinstance(value, (*_CONSTANT, type)):
        return True
    if isinstance(value, types.FunctionType):
        return _within(value.__globals__.get("__name__") or "", _SILENT)
    if isinstance(value, (types.MethodType, types.BuiltinFunctionType)):
        return False
    if isinstance(value, io.IOBase):
        return any(value is stream for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__))
    kind: Any = type(value)
    return _is_leaf_kind(kind)


@functools.lru_cache(maxsize=8192)
def _is_leaf_kind(kind: Any) -> bool:
    return "cython_function" in kind.__name__ or _within(f"{kind.__module__}.{kind.__qualname__}", LEAVES)


def _within(name: str, places: tuple[str, ...]) -> bool:
    return any(name == place or name.startswith(f"{place}.") for place in places)


def is_record(value: Any) -> bool:
    """Whether it is what a function of an extension is bound to, which is no object to speak of."""
    kind = type(value)
    return kind.__name__ == "PyCapsule" or kind.__module__.startswith("pybind11")


def is_alive(value: Any) -> bool:
    """Whether it runs by itself or lives elsewhere: threads, processes, pools, profilers."""
    kind = type(value).__module__
    return isinstance(value, _ALIVE) or kind.startswith(("torch.profiler", "torch.autograd.profiler"))


def draws(value: Any) -> bool:
    """Whether it is a random generator."""
    return isinstance(value, _NUMBERS)


def accessor(value: Any) -> Keeper | None:
    """The keeper of an object whose state is read and written as a whole."""
    if isinstance(value, torch.Generator):
        return Accessor(value.get_state, value.set_state, torch.equal)
    if isinstance(value, numpy.random.Generator):
        return accessor(value.bit_generator)
    if isinstance(value, numpy.random.BitGenerator):
        return _numpy(lambda: value.state, functools.partial(setattr, value, "state"))
    if isinstance(value, numpy.random.RandomState):
        return _numpy(lambda: value.get_state(legacy=False), value.set_state)
    if isinstance(value, random.Random):
        return Accessor(value.getstate, value.setstate, _equal)
    if isinstance(value, numpy.ndarray):
        return Array(value) if value.flags.writeable else Keeper()
    if isinstance(value, (bytearray, array.array)):
        return Accessor(lambda: value[:], functools.partial(value.__setitem__, slice(None)), _equal)
    if type(value) in (io.StringIO, io.BytesIO):
        return Accessor(lambda: (value.getvalue(), value.tell()), functools.partial(_rewrite, value), _equal)
    if any(f"{kind.__module__}.{kind.__name__}" == "pandas.core.generic.NDFrame" for kind in type(value).__mro__):
        return Accessor(
            lambda: value.copy(deep=True),
            lambda saved: value._update_inplace(saved.copy(deep=True)),
            lambda now, then: now.equals(then),
        )
    return None


def _equal(first: Any, second: Any) -> bool:
    return bool(first == second)


def _numpy(read: Any, write: Any) -> Accessor:
    return Accessor(lambda: copy.deepcopy(read()), write, lambda now, then: plain_state(now) == plain_state(then))


def plain_state(state: Any) -> Any:
    """A comparable form of a numpy generator's state."""
    if isinstance(state, dict):
        return {key: plain_state(value) for key, value in state.items()}
    return state.tobytes() if isinstance(state, numpy.ndarray) else state


def _rewrite(stream: Any, saved: tuple[Any, int]) -> None:
    stream.seek(0)
    stream.truncate()
    stream.write(saved[0])
    stream.seek(saved[1])


def is_atom(value: Any) -> bool:
    """Whether a value is of such a type, or a tuple of these."""
    kind = type(value)
    return kind in ATOMS or (kind in (tuple, frozenset) and ATOMS.issuperset(map(type, value)))


def referent(proxy: Any) -> Any:
    """What a weak proxy stands for; None if that is gone."""
    try:
        return proxy.__repr__.__self__
    except ReferenceError:
        return None


def parts_of(value: Any) -> tuple[Any, ...] | None:
    """What something refers to that is called in another's stead, or only leads there; ``None`` of other things."""
    if isinstance(value, functools.partial):
        return value.func, value.args, value.keywords
    if isinstance(value, types.MethodType):
        return value.__self__, value.__func__
    if isinstance(value, (types.BuiltinMethodType, types.MethodWrapperType)):
        return () if is_record(value.__self__) else (value.__self__,)
    if isinstance(value, weakref.ref):
        return (value(),)
    if isinstance(value, types.MappingProxyType):
        return (dict(value),)
    return (value.obj,) if isinstance(value, memoryview) else None
