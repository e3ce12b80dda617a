"""What is not finite in a batch of any structure, and in a model's parameters and buffers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lightning_debug.evidence.numbers import NonFiniteTensor
from lightning_debug.probes.batch_fields import batch_fields
from lightning_debug.probes.plain_shape import plain_shape

SHOWN = 8
"""How many rows, columns and tensors are named; the rest is counted."""


def plain(tensor: Tensor) -> Tensor | None:
    """The ordinary floating-point values of a tensor (this rank's shard of a DTensor), or ``None`` if it has none."""
    tensor = tensor.detach()
    if hasattr(tensor, "to_local"):
        tensor = tensor.to_local()
    if tensor.is_nested or tensor.is_quantized or tensor.device.type == "meta":
        return None
    if tensor.layout == torch.sparse_coo:
        tensor = tensor._values()  # noqa: SLF001 -- values() wants a coalesced tensor
    elif tensor.layout != torch.strided:
        tensor = tensor.values()
    if not (tensor.is_floating_point() or tensor.is_complex()) or not tensor.numel():
        return None
    return tensor if tensor.element_size() > 1 else None  # the eight-bit floats have next to no operations


def severity(tensor: Tensor) -> int:
    """0 for finite values, 1 where some are infinite, 2 where some are NaN. Reads on the host."""
    values = plain(tensor)
    if values is None or bool(torch.isfinite(values).all()):
        return 0
    return 2 if bool(torch.isnan(values).any()) else 1


@torch.no_grad()
def describe(name: str, tensor: Tensor, kind: str, module: str = "") -> NonFiniteTensor:
    """Counts and places of what is not finite in a tensor. Reads on the host."""
    values = plain(tensor)
    trainable = kind == "parameter" and tensor.requires_grad
    if values is None:
        return NonFiniteTensor(name=name, kind=kind, shape=plain_shape(tensor), module=module, trainable=trainable)
    if values.is_complex():
        values = torch.view_as_real(values)
    finite = torch.isfinite(values)
    rows, columns = _places(~finite)
    good = values[finite].double()
    return NonFiniteTensor(
        name=name,
        kind=kind,
        shape=plain_shape(tensor),
        dtype=str(tensor.dtype).removeprefix("torch."),
        numel=values.numel(),
        nan=int(torch.isnan(values).sum()),
        positive=int((values == torch.inf).sum()),
        negative=int((values == -torch.inf).sum()),
        rows=tuple(rows[:SHOWN]),
        row_count=len(rows),
        columns=tuple(columns[:SHOWN]),
        column_count=len(columns),
        minimum=float(good.min()) if good.numel() else None,
        maximum=float(good.max()) if good.numel() else None,
        module=module,
        trainable=trainable,
    )


def _places(bad: Tensor) -> tuple[list[int], list[int]]:
    if bad.ndim == 0:
        return [], []
    rows = bad.flatten(1).any(1) if bad.ndim > 1 else bad
    columns = bad.flatten(0, -2).any(0) if bad.ndim > 1 else bad[:0]
    return rows.nonzero().flatten().tolist(), columns.nonzero().flatten().tolist()


def bad_fields(batch: Any) -> tuple[NonFiniteTensor, ...]:
    """The fields of a batch that hold NaN or infinite values. Reads on the host."""
    return tuple(describe(name, tensor, "field") for name, tensor in batch_fields(batch) if severity(tensor))


@torch.no_grad()
def replace_bad(batch: Any, names: Sequence[str]) -> None:
    """Makes the named fields finite in place: NaN becomes 0, an infinite value the field's largest or smallest."""
    for name, tensor in batch_fields(batch):
        values = plain(tensor) if name in names else None
        if values is not None:
            good = values[torch.isfinite(values)]
            real = good.numel() > 0 and not good.is_complex()
            top, bottom = (float(good.max()), float(good.min())) if real else (0.0, 0.0)
            torch.nan_to_num_(values, nan=0.0, posinf=top, neginf=bottom)


def tensors_of(module: nn.Module) -> Iterator[tuple[str, Tensor, str, str]]:
    """Name, tensor, kind and owner's class of every floating-point parameter and buffer that holds data, once each."""
    seen: set[int] = set()
    for path, owner in module.named_modules():
        own = (("parameter", owner.named_parameters), ("buffer", owner.named_buffers))
        for kind, named in own:
            for key, tensor in named(recurse=False):
                if id(tensor) in seen or torch.nn.parameter.is_lazy(tensor):
                    continue
                seen.add(id(tensor))
                if tensor.is_floating_point() or tensor.is_complex():
                    yield f"{path}.{key}" if path else key, tensor, kind, type(owner).__name__


@torch.no_grad()
def weights_flag(module: nn.Module) -> tuple[Tensor | None, int]:
    """The largest magnitude among all parameters and the largest value among all buffers, as one tensor.

    It is finite exactly if no parameter holds NaN or an infinite value and no buffer holds NaN or +Inf: masks
    of -Inf are ordinary. Nothing is read on the host.

    Returns:
        One element (``None`` where there is nothing to look at), and how many tensors were looked at.
    """
    parameters: list[Tensor] = []
    largest: list[Tensor] = []
    for _, tensor, kind, _ in tensors_of(module):
        values = plain(tensor)
        if values is None:
            continue
        if kind == "parameter" and tensor.requires_grad:
            parameters.append(values)
        else:
            largest.append((values.abs() if values.is_complex() else values).max())
    by_device: dict[torch.device, list[Tensor]] = {}
    for item in parameters:
        by_device.setdefault(item.device, []).append(item)
    for group in by_device.values():
        largest += torch._foreach_norm(group, torch.inf)  # noqa: SLF001 -- one launch for all of them
    if not largest:
        return None, 0
    home = next((item.device for item in largest if item.device.type != "cpu"), largest[0].device)
    wide = any(item.dtype in (torch.float64, torch.complex128) for item in largest)
    dtype = torch.float64 if wide else torch.float32
    together = torch.stack([item.to(home, dtype, non_blocking=True) for item in largest]).max()
    return together.clamp(min=0.0), len(largest)  # masks alone, all -Inf, are no fault


def bad_weights(module: nn.Module) -> tuple[NonFiniteTensor, ...]:
    """Parameters with values that are not finite; frozen ones and buffers with NaN or +Inf. Reads on the host.

    >>> layer = nn.Linear(2, 1)
    >>> layer.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    >>> bad_weights(layer)
    ()
    """
    found = []
    for name, tensor, kind, owner in tensors_of(module):
        if severity(tensor):
            seen = describe(name, tensor, kind, owner)
            if seen.trainable or seen.nan or seen.positive:
                found.append(seen)
    return tuple(found)
