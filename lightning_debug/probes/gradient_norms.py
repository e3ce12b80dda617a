"""One pass over the gradients: their norm, which serves the guard, the log and the clipping."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._foreach_utils import _group_tensors_by_device_and_dtype, _has_foreach_support

from lightning_debug.probes.deferred import host_value


def parameters_of(optimizer: Any) -> list[Tensor]:
    """An optimizer's parameters, in the order of its groups."""
    return [item for group in getattr(optimizer, "param_groups", ()) for item in group.get("params", ())]


def gradients(optimizer: Any) -> list[Tensor]:
    """The gradients of an optimizer's parameters that have one, in the order of its groups."""
    found = []
    for parameter in parameters_of(optimizer):
        grad = getattr(parameter, "grad", None)
        if grad is not None:
            found.append(grad.detach() if grad.requires_grad else grad)
    return found


def local(gradient: Tensor) -> Tensor:
    """The values of a gradient as an ordinary tensor that shares its memory: a shard's own, a sparse one's entries."""
    if type(gradient) is Tensor and gradient.layout == torch.strided:  # most are
        return gradient
    if hasattr(gradient, "to_local"):
        gradient = gradient.to_local()
    if gradient.layout == torch.sparse_coo:
        return gradient._values()  # noqa: SLF001 -- values() wants a coalesced tensor
    return gradient if gradient.layout == torch.strided else gradient.values()


def summed(gradient: Tensor) -> Tensor:
    """As :func:`local`, with repeated rows of a sparse gradient on the CPU added up, in memory of their own.

    On other devices adding them up would make the host wait; there the norm is that of the separate entries.
    """
    if gradient.layout == torch.sparse_coo and gradient.device.type == "cpu":
        with torch.no_grad():
            return gradient.coalesce().values()
    return local(gradient)


def add_up_sparse(optimizer: Any) -> None:
    """Adds up repeated rows of sparse gradients in place of them, as has to be before their values are clamped."""
    for parameter in parameters_of(optimizer):
        grad = getattr(parameter, "grad", None)
        if grad is not None and grad.layout == torch.sparse_coo:
            parameter.grad = grad.coalesce()


def drop_gradients(optimizer: Any) -> None:
    """Takes an optimizer's gradients away: its next step then changes neither parameters nor state."""
    for parameter in parameters_of(optimizer):
        parameter.grad = None


def _groups(tensors: Sequence[Tensor]) -> list[tuple[torch.device, list[Tensor]]]:
    """Tensors of one device and type each, for functions that take many at once."""
    groups: Mapping[Any, Any] = _group_tensors_by_device_and_dtype([list(tensors)])
    return [(device, group) for (device, _), ([group], _) in groups.items()]


@torch.no_grad()
def total_norm(tensors: Sequence[Tensor], norm_type: float = 2.0) -> Tensor | None:
    """The norm of all values taken together, as ``torch.nn.utils.get_total_norm`` computes it, bit for bit.

    Nothing is read on the host.

    Args:
        tensors: Ordinary tensors, on any devices.
        norm_type: Order of the norm.

    Returns:
        A tensor of one element, or ``None`` without tensors.

    >>> total_norm([torch.tensor([3.0]), torch.tensor([4.0])])
    tensor(5.)
    """
    if not tensors:
        return None
    home = next((item.device for item in tensors if item.device.type != "cpu"), tensors[0].device)
    norms: list[Tensor] = []
    groups = _groups(tensors)
    for device, group in groups:
        if _has_foreach_support(group, device):
            norms.extend(torch._foreach_norm(group, norm_type))  # noqa: SLF001 -- as clip_grad_norm_
        else:
            norms.extend(torch.linalg.vector_norm(item, norm_type) for item in group)
    if len(groups) > 1:
        norms = [item.to(home, non_blocking=True) for item in norms]
    total: Tensor = torch.linalg.vector_norm(torch.stack(norms), norm_type)
    return total


@torch.no_grad()
def exact_norm(tensors: Iterable[Tensor], norm_type: float = 2.0) -> float:
    """The norm in double precision, read on the host: finite whenever every value is (and it fits a double)."""
    norms = []
    for item in tensors:
        if item.numel():
            values = item if item.is_complex() else item.double()
            norms.append(float(torch.linalg.vector_norm(values, norm_type)))
    if any(math.isnan(norm) for norm in norms):
        return math.nan
    largest = max(norms, default=0.0)
    if largest == 0.0 or math.isinf(largest) or math.isinf(norm_type):
        return largest
    return float(largest * sum((norm / largest) ** norm_type for norm in norms) ** (1.0 / norm_type))


def clip_factor(max_norm: float | Tensor, norm: Tensor) -> Tensor:
    """What gradients are multiplied by so that their norm becomes ``max_norm``, rounded as torch does; 1 at most."""
    return torch.clamp(max_norm / (norm + 1e-6), max=1.0)


def clip_plain(optimizer: Any, max_norm: float, norm_type: float) -> Tensor | None:
    """Clips as :func:`total_norm` and :func:`scale_to_norm` do, where all gradients are of the ordinary kind.

    That is: strided tensors of one type on the CPU, without a graph and without a value that is not finite. Takes the
    fewest calls there, for the code of a call that is made once a step is cold, and takes longer than its work.

    Args:
        optimizer: Whose gradients.
        max_norm: What their norm is brought down to.
        norm_type: Order of the norm.

    Returns:
        The norm before, one element; ``None`` where nothing was done.

    >>> weight = torch.zeros(2, requires_grad=True)
    >>> weight.grad = torch.tensor([3.0, 4.0])
    >>> clip_plain(torch.optim.SGD([weight]), 1.0, 2.0), weight.grad
    (tensor(5.), tensor([0.6000, 0.8000]))
    """
    found: list[Tensor] = []
    for parameter in parameters_of(optimizer):
        grad = parameter.grad
        if grad is None:
            continue
        if type(grad) is not Tensor or not grad.is_cpu or grad.layout is not torch.strided or grad.requires_grad:
            return None
        if found and grad.dtype is not found[0].dtype:
            return None
        found.append(grad)
    if not found:
        return None
    norms = torch._foreach_norm(found, norm_type)  # noqa: SLF001 -- as clip_grad_norm_
    norm: Tensor = torch.linalg.vector_norm(torch.stack(norms), norm_type)
    value = host_value(norm)
    if not math.isfinite(value):
        return None
    if 1.01 * (value + 1e-6) > max_norm:  # a hundredth is more than any type rounds by
        torch._foreach_mul_(found, clip_factor(max_norm, norm))
    return norm


@torch.no_grad()
def scale_to_norm(tensors: Sequence[Tensor], max_norm: float | Tensor, norm: Tensor) -> None:
    """Scales gradients in place as ``torch.nn.utils.clip_grads_with_norm_`` does; a norm that is no number leaves them.

    Nothing is read from a device; on the CPU, where reading is free, what need not be scaled is left alone.

    Args:
        tensors: The gradients' values.
        max_norm: What the norm is brought down to.
        norm: Their norm, one element.
    """
    factor = clip_factor(max_norm, norm)
    if factor.is_cpu and norm.is_cpu:
        if host_value(factor) == 1.0 or not math.isfinite(host_value(norm)):
            return
    else:
        factor = torch.where(torch.isfinite(norm), factor, torch.ones_like(factor))
    for device, group in _groups(tensors):
        here = factor.to(device, non_blocking=True)
        if _has_foreach_support(group, device):
            torch._foreach_mul_(group, here)
        else:
            for item in group:
                item.mul_(here)


@torch.no_grad()
def clamp_values(tensors: Sequence[Tensor], limit: float, scale: Tensor | None = None) -> None:
    """Clamps every value in place to ``[-limit, limit]`` (times ``scale``), as ``clip_grad_value_`` does."""
    if scale is not None:
        for item in tensors:
            bound = (scale * limit).to(device=item.device, dtype=item.dtype)
            item.clamp_(min=-bound, max=bound)
        return
    for device, group in _groups(tensors):
        if _has_foreach_support(group, device):
            torch._foreach_clamp_min_(group, -limit)
            torch._foreach_clamp_max_(group, limit)
        else:
            for item in group:
                item.clamp_(min=-limit, max=limit)
