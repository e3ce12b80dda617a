"""Who holds memory: parameters, gradients, optimizer state, and what a step keeps for its backward pass."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from lightning_debug.evidence.errors import MemoryOwners

STATES = {"Adam": 2, "AdamW": 2, "NAdam": 2, "RAdam": 2, "Adamax": 2, "Adagrad": 1, "RMSprop": 1, "Adadelta": 2}
"""Tensors that an optimizer keeps for each parameter."""

_UNITS = {"": 1, "bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "PiB": 2**50}
_ASKED = re.compile(r"(?:[Tt]ried to|[Uu]nable to) allocate (-?[\d.]+) ?(KiB|MiB|GiB|TiB|PiB|bytes)?")
_TELLS = re.compile(
    r"out of memory|can't allocate memory|DefaultCPUAllocator|Invalid buffer size|not enough memory|"
    r"unable to allocate [\d.]+ ",
    re.I,
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that there is no memory left.

    >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."))
    True
    """
    kind = getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)
    plain = isinstance(error, (RuntimeError, MemoryError)) and bool(_TELLS.search(str(error)))
    return isinstance(error, (kind, MemoryError)) or plain


def requested(message: str) -> int | None:
    """How many bytes were asked for, as the message says.

    >>> requested("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has")
    2147483648
    """
    found = _ASKED.search(message)
    return int(float(found[1]) * _UNITS[found[2] or ""]) if found else None


def owners(root: nn.Module, optimizers: Iterable[Any], message: str, batch_size: int | None) -> MemoryOwners:
    """Counts what is held, from shapes alone."""
    parameters = [item for item in root.parameters() if not isinstance(item, nn.UninitializedParameter)]
    trainable = [item for item in parameters if item.requires_grad]
    state = expected = 0
    for optimizer in optimizers:
        entries = getattr(optimizer, "state", {})
        state += sum(_bytes(item) for values in entries.values() for item in _values(values))
        groups = getattr(optimizer, "param_groups", [])
        held = sum(_bytes(item) for group in groups for item in group["params"] if item.requires_grad)
        momentum = int(any(group.get("momentum") for group in groups))
        expected += held * STATES.get(type(optimizer).__name__, momentum)
    return MemoryOwners(
        parameters=sum(map(_bytes, parameters)) + sum(map(_bytes, root.buffers())),
        gradients=sum(map(_bytes, trainable)),
        optimizer=state,
        optimizer_expected=max(state, expected),
        capacity=_capacity(next(iter(parameters), None)),
        batch_size=batch_size,
        requested=requested(message),
    )


def _values(state: Any) -> list[Tensor]:
    return [item for item in state.values() if isinstance(item, Tensor)] if isinstance(state, dict) else []


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _capacity(parameter: Tensor | None) -> int | None:
    if parameter is not None and parameter.is_cuda:
        free, _ = torch.cuda.mem_get_info(parameter.device)
        return int(free + torch.cuda.memory_reserved(parameter.device))
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not every system tells
        return None


def saved_bytes(root: nn.Module, step: Callable[[], Any], device: torch.device | None = None) -> int:
    """Bytes that a step keeps for its backward pass, parameters left out, each storage once.

    Args:
        root: The model.
        step: Runs the step's forward pass.
        device: Where to count; everywhere if not given.
    """
    own = {item.untyped_storage().data_ptr() for item in root.parameters()}
    seen: dict[int, int] = {}
    kept: list[Tensor] = []  # alive until the end: a freed address could be given out again

    def pack(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in own and (device is None or tensor.device == device):
            seen[place] = tensor.untyped_storage().nbytes()
            kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        step()
    return sum(seen.values())
