"""Trace: what a piece of code asked of torch, call by call, as the user wrote it.

A ``TorchFunctionMode`` sees ``F.cross_entropy(logits, y)`` as one call with the user's arguments, whichever way
it is spelled (module, functional or method), and costs nothing when it is not entered. Module paths and source
lines come from the Python stack, so no hook is installed on any module.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lightning_debug.probes.plain_shape import plain_shape
from lightning_debug.probes.source import display_path, is_library
from lightning_debug.probes.vocabulary import HAS_DIM, IGNORED, RESHAPES, canonical, name_of

__all__ = [
    "RESHAPES",
    "Call",
    "Op",
    "Trace",
    "canonical",
    "changed_by_tracing",
    "compiled_functions",
    "display_path",
    "is_library",
    "tensors",
]


_NEVER = frozenset({"torch", "pytorch_lightning", "lightning", "lightning_fabric", "lightning_debug", "torchmetrics"})


@dataclass(eq=False)
class Op:
    """One recorded call.

    Args:
        index: Position in the trace.
        name: Canonical name: ``"softmax"``, ``"cross_entropy"``, ``"add"``; in-place and method forms alike.
        inputs: Producers of its tensor arguments in order; ``None`` for a tensor that no recorded call made.
        module: Path of the innermost module whose ``forward`` ran, as in ``named_modules``; ``""`` for the root.
        module_type: Class name of that module.
        line: ``file.py:31`` of the innermost frame outside torch and Lightning.
        shapes: Shape of each tensor argument.
        shape: Shape of the (first) output.
        dim: The ``dim`` argument as the user gave it, for calls that have one.
    """

    index: int
    name: str
    inputs: tuple[Op | None, ...]
    module: str
    module_type: str
    line: str
    shapes: tuple[tuple[int, ...], ...]
    shape: tuple[int, ...]
    dim: int | None = None


@dataclass
class Call:
    """A recorded call while its tensors are alive, as a handler receives it.

    Args:
        op: The record of it.
        function: The torch function.
        arguments: Positional arguments as the user gave them.
        keywords: Keyword arguments.
        output: What it returned.
        given: The tensors among the arguments, in order.
        made: The tensors that it returned.
    """

    op: Op
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    output: Any
    given: list[Tensor]
    made: list[Tensor]

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """The argument at ``position`` or called ``name``."""
        if name in self.keywords:
            return self.keywords[name]
        return self.arguments[position] if len(self.arguments) > position else default


@dataclass
class _Tracked:
    tensor: weakref.ref[Tensor]
    op: Op


class Trace(TorchFunctionMode):
    """Records the calls made to torch while it is entered.

    Tensors are held weakly: memory is freed as without it. Code that ``torch.compile`` runs is not seen.

    Args:
        root: The model, for module paths; calls outside any module have the path ``""``.
        handlers: Called with a :class:`Call` right after each call of the given canonical name (``"*"`` for every
            call), outside the mode and under ``no_grad``, while the tensors are alive.

    >>> with Trace() as trace:
    ...     probabilities = torch.softmax(torch.zeros(2, 3), dim=-1).view(3, 2)
    >>> op = trace.producer(probabilities)
    >>> op.name, trace.origin(op).name, trace.origin(op).dim
    ('view', 'softmax', -1)
    """

    def __init__(
        self, root: nn.Module | None = None, handlers: Mapping[str, Callable[[Call], None]] | None = None
    ) -> None:
        super().__init__()
        self.ops: list[Op] = []
        self._handlers = dict(handlers or {})
        self._paths = {} if root is None else {id(module): name for name, module in root.named_modules()}
        self._tracked: dict[int, _Tracked] = {}
        self._lines: dict[tuple[str, int], str] = {}
        self._codes: dict[int, tuple[CodeType, bool, bool]] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Runs the call unchanged and records it."""
        keywords = kwargs or {}
        name = name_of(func)
        if name in IGNORED or torch.compiler.is_compiling():
            return func(*args, **keywords)
        inputs: list[Tensor] = []
        _gather((args, keywords) if keywords else args, 3 if keywords else 2, inputs)
        producers = tuple(map(self.producer, inputs))  # before: an in-place call overwrites
        shapes = tuple([plain_shape(tensor) for tensor in inputs])
        output = func(*args, **keywords)
        outputs: list[Tensor] = []
        _gather(output, 3, outputs)
        if outputs or inputs:
            self._record(func, canonical(name), args, keywords, (inputs, producers, shapes), output, outputs)
        return output

    def _record(
        self,
        func: Callable[..., Any],
        name: str,
        args: tuple[Any, ...],
        keywords: dict[str, Any],
        given: tuple[list[Tensor], tuple[Op | None, ...], tuple[tuple[int, ...], ...]],
        output: Any,
        outputs: list[Tensor],
    ) -> None:
        module, module_type, line = self._where(sys._getframe(2))  # noqa: SLF001 - the documented way to the stack
        dim = keywords.get("dim", args[1] if len(args) > 1 and name in HAS_DIM else None)
        shape = plain_shape(outputs[0]) if outputs else ()
        plain_dim = dim if type(dim) is int else None
        op = Op(len(self.ops), name, given[1], module, module_type, line, given[2], shape, plain_dim)
        self.ops.append(op)
        for tensor in outputs:
            self._tracked[id(tensor)] = _Tracked(weakref.ref(tensor), op)
        if name == "setitem" and args and isinstance(args[0], Tensor):
            self._tracked[id(args[0])] = _Tracked(weakref.ref(args[0]), op)
        for handler in filter(None, (self._handlers.get(name), self._handlers.get("*"))):
            with torch.no_grad():
                handler(Call(op, func, args, keywords, output, given[0], outputs))

    def producer(self, tensor: Tensor) -> Op | None:
        """The call that made ``tensor``, or ``None`` for a parameter, a batch field or an unseen call."""
        known = self._tracked.get(id(tensor))
        return known.op if known is not None and known.tensor() is tensor else None

    @staticmethod
    def origin(op: Op | None, through: frozenset[str] = RESHAPES) -> Op | None:
        """Follows first inputs from ``op`` through the calls named in ``through``; where that ends."""
        while op is not None and op.name in through and op.inputs:
            op = op.inputs[0]
        return op

    def ancestors(self, op: Op | None) -> Iterator[Op]:
        """``op`` and every recorded call it depends on, nearest first."""
        queue, seen = [op] if op is not None else [], set()
        while queue:
            here = queue.pop(0)
            if here.index not in seen:
                seen.add(here.index)
                yield here
                queue += [item for item in here.inputs if item is not None]

    def _where(self, frame: FrameType | None) -> tuple[str, str, str]:
        """Module path, module class and user line, from the stack."""
        path = kind = line = None
        while frame is not None and (path is None or line is None):
            code = frame.f_code
            known = self._codes.get(id(code))
            if known is None:  # the code is kept, so that an id stays its own
                method = code.co_argcount > 0 and code.co_varnames[:1] == ("self",)
                known = self._codes[id(code)] = (code, is_library(code.co_filename), method)
            if line is None and not known[1]:
                line = self._line(code.co_filename, frame.f_lineno)
            if path is None and known[2]:
                owner = frame.f_locals.get("self")
                if isinstance(owner, nn.Module) and id(owner) in self._paths:
                    path, kind = self._paths[id(owner)], type(owner).__name__
            frame = frame.f_back
        return path or "", kind or "", line or ""

    def _line(self, filename: str, number: int) -> str:
        found = self._lines.get((filename, number))
        if found is None:
            found = self._lines[filename, number] = f"{display_path(filename)}:{number}"
        return found


def tensors(value: Any, depth: int = 3) -> Iterator[Tensor]:
    """The tensors in a call's arguments or output, in order."""
    found: list[Tensor] = []
    _gather(value, depth, found)
    return iter(found)


def _gather(value: Any, depth: int, found: list[Tensor]) -> None:
    if isinstance(value, Tensor):
        found.append(value)
    elif depth and isinstance(value, (tuple, list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            if isinstance(item, Tensor):
                found.append(item)
            elif isinstance(item, (tuple, list, dict)):
                _gather(item, depth - 1, found)


def compiled_functions(root: nn.Module) -> list[str]:
    """Functions that ``torch.compile`` wraps, in the classes of a model's modules and beside them.

    Under a mode these run in eager, and compute otherwise in the last bits: trace them only in isolation.
    """
    kinds = {kind for module in root.modules() for kind in type(module).__mro__}
    places = {kind.__module__ for kind in kinds} - {"builtins"}
    own = [sys.modules[name] for name in places if name in sys.modules and name.partition(".")[0] not in _NEVER]
    found = {
        name
        for place in (*own, *(kind for kind in kinds if kind.__module__.partition(".")[0] not in _NEVER), root)
        for name, item in list(vars(place).items())
        if "_torchdynamo_orig_callable" in getattr(item, "__dict__", ()) and not _is_left_alone(item)
    }
    return sorted(found)


def _is_left_alone(function: Any) -> bool:
    return bool(getattr(function, "_torchdynamo_disable", False))


def changed_by_tracing(root: nn.Module) -> list[str]:
    """Modules whose arithmetic depends on whether a mode is entered: trace them only in isolation.

    In eval mode PyTorch's transformer modules take a fused path, and leave it under any TorchFunctionMode; the
    results then differ in the last bits.
    """
    kinds = (nn.TransformerEncoder, nn.TransformerEncoderLayer, nn.MultiheadAttention)
    return [name for name, module in root.named_modules() if isinstance(module, kinds) and not module.training]
