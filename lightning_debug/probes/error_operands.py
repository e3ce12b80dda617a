"""Operands of a call that raised: shape, dtype, device, and the name a user knows them by."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lightning_debug.evidence.errors import ErrorOperand
from lightning_debug.probes.loss_operands import readable
from lightning_debug.probes.plain_shape import plain_shape
from lightning_debug.probes.trace import Op

MOST_NAMES = 4000
MOST_READ = 2**24


class Names:
    """Finds the name of a tensor by identity.

    Args:
        root: The model.
        fields: Names and tensors of the batch.
    """

    def __init__(self, root: nn.Module | None, fields: list[tuple[str, Tensor]]) -> None:
        self._known: dict[int, tuple[str, str, Tensor]] = {}
        for name, tensor in fields:
            self._known.setdefault(id(tensor), (name, "batch", tensor))
        if root is None:
            return
        for name, tensor in root.named_parameters():
            self._known.setdefault(id(tensor), (name, "parameter", tensor))
        for name, tensor in root.named_buffers():
            self._known.setdefault(id(tensor), (name, "buffer", tensor))
        for name, tensor in kept_tensors(root):
            self._known.setdefault(id(tensor), (name, "attribute", tensor))

    def of(self, tensor: Tensor, local: Mapping[str, Any], op: Op | None) -> tuple[str, str]:
        """Name and kind of a tensor, given the variables of the user's frame and the call that made it."""
        known = self._known.get(id(tensor))
        if known is not None and known[2] is tensor:
            return known[0], known[1]
        kind = "computed" if op is not None else ""
        for name, value in local.items():
            if value is tensor:
                return name, kind
        if op is not None:
            return f"the output of {op.name}", kind
        return "", ""


def kept_tensors(root: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Tensors that modules keep as plain attributes, not registered: name and tensor."""
    found = 0
    for path, module in root.named_modules():
        for name, value in list(vars(module).items()):
            if name.startswith("_") and name in nn.Module().__dict__:
                continue
            for suffix, tensor in _inside(value, 2):
                found += 1
                if found > MOST_NAMES:
                    return
                yield (f"{path}.{name}{suffix}" if path else f"{name}{suffix}"), tensor


def unregistered_modules(root: nn.Module) -> list[str]:
    """Modules with parameters that are kept in plain lists or dicts, by the path of the list."""
    known = {id(module) for module in root.modules()}
    found = []
    for path, module in root.named_modules():
        for name, value in list(vars(module).items()):
            items = list(value.values()) if type(value) is dict else list(value) if type(value) in (list, tuple) else []
            if name in ("_modules", "_forward_hooks"):
                continue
            if any(isinstance(item, nn.Module) and id(item) not in known and _owns(item) for item in items[:64]):
                found.append(f"{path}.{name}" if path else name)
    return found


def _owns(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _inside(value: Any, depth: int) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield "", value
    elif depth and type(value) in (list, tuple):
        for index, item in enumerate(value[:64]):
            for suffix, tensor in _inside(item, depth - 1):
                yield f"[{index}]{suffix}", tensor
    elif depth and type(value) is dict:
        for key, item in list(value.items())[:64]:
            for suffix, tensor in _inside(item, depth - 1):
                yield f"[{key!r}]{suffix}", tensor


def held_graphs(root: nn.Module) -> list[str]:
    """Attributes that hold a tensor with a graph: what a step keeps of the one before it."""
    return [name for name, tensor in kept_tensors(root) if tensor.grad_fn is not None]


def operand(tensor: Tensor, name: str = "", kind: str = "", argument: str = "", op: Op | None = None) -> ErrorOperand:
    """Describes a tensor. Reads its range, and whether it holds NaN, on the host.

    >>> operand(torch.tensor([3, 9]), "labels").maximum
    9
    """
    least = most = second = lowest = highest = None
    nan = False
    whole = tensor.dtype in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
    if whole and readable(tensor) and 0 < tensor.numel() <= MOST_READ:
        try:
            least, most = int(tensor.min()), int(tensor.max())
            second = int(tensor[tensor < most].max()) if least < most else None
        except RuntimeError:  # the device no longer answers
            least = most = second = None
    elif tensor.is_floating_point() and readable(tensor) and 0 < tensor.numel() <= MOST_READ:
        with contextlib.suppress(RuntimeError):
            nan = bool(torch.isnan(tensor).any())
            ends = [float(value) for value in tensor.detach().aminmax()]
            lowest, highest = ends if all(map(math.isfinite, ends)) else (None, None)
    return ErrorOperand(
        name=name,
        kind=kind,
        argument=argument,
        shape=plain_shape(tensor),
        dtype=str(tensor.dtype).removeprefix("torch."),
        device=str(tensor.device),
        minimum=least,
        maximum=most,
        second=second,
        lowest=lowest,
        highest=highest,
        nan=nan,
        made_by=op.name if op is not None else "",
        made_at=op.line if op is not None else "",
    )


def plain_arguments(args: tuple[Any, ...], keywords: Mapping[str, Any]) -> dict[str, str]:
    """Arguments that hold no tensor, as text.

    >>> plain_arguments((torch.zeros(2), 4, (1, 2)), {"dim": 1})
    {'1': '4', '2': '(1, 2)', 'dim': '1'}
    """
    found = {}
    for key, value in [*((str(index), item) for index, item in enumerate(args)), *keywords.items()]:
        if isinstance(value, (bool, int, float, str, torch.dtype, torch.device)) or value is None:
            found[key] = str(value)
        elif isinstance(value, (tuple, list, torch.Size)) and all(isinstance(item, int) for item in value):
            found[key] = str(tuple(value))
    return found
