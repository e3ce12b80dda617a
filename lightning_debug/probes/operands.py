"""What an operation met: the range of each operand, and the counts that tell the causes of a NaN apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from lightning_debug.evidence.numbers import Operand
from lightning_debug.probes.nonfinite_tensors import plain
from lightning_debug.probes.plain_shape import plain_shape

SOFTMAXES = frozenset("softmax log_softmax softmin logsumexp".split())
ATTENTION = frozenset("scaled_dot_product_attention multi_head_attention_forward".split())
LABELLED = frozenset("cross_entropy nll_loss".split())
MASKS = ("attn_mask", "key_padding_mask")


@torch.no_grad()
def operand(tensor: Tensor, source: str = "", kind: str = "") -> Operand:
    """The range of a tensor. Reads on the host.

    >>> found = operand(torch.tensor([0.0, -2.0, torch.inf]), "batch")
    >>> found.minimum, found.maximum, found.zeros, found.positive
    (-2.0, 0.0, 1, 1)
    """
    shape, dtype = plain_shape(tensor), str(tensor.dtype).removeprefix("torch.")
    values = plain(tensor)
    if values is None:
        if tensor.layout != torch.strided or tensor.is_nested or tensor.is_quantized or not tensor.numel():
            return Operand(source=source, kind=kind, shape=shape, dtype=dtype, numel=tensor.numel())
        values = tensor.detach()
    if values.is_complex():
        values = torch.view_as_real(values)
    finite = values[torch.isfinite(values)].double()
    sizes = finite.abs()
    sizes = sizes[sizes > 0]
    return Operand(
        source=source,
        kind=kind,
        shape=shape,
        dtype=dtype,
        numel=values.numel(),
        minimum=float(finite.min()) if finite.numel() else None,
        maximum=float(finite.max()) if finite.numel() else None,
        smallest=float(sizes.min()) if sizes.numel() else None,
        zeros=int((finite == 0).sum()),
        negatives=int((finite < 0).sum()),
        nan=int(torch.isnan(values).sum()),
        positive=int((values == torch.inf).sum()) if values.is_floating_point() else 0,
        negative=int((values == -torch.inf).sum()) if values.is_floating_point() else 0,
    )


@torch.no_grad()
def numbers(name: str, arguments: tuple[Any, ...], keywords: Mapping[str, Any], output: Any) -> dict[str, float]:
    """Plain numbers among a call's arguments, and counts that tell causes apart (see ``Origin.numbers``)."""
    found: dict[str, float] = {}
    for key, value in [*((str(index), item) for index, item in enumerate(arguments)), *keywords.items()]:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            found[key] = float(value)
    tensors = [item for item in arguments if isinstance(item, Tensor)]
    first = tensors[0] if tensors else next((item for item in keywords.values() if isinstance(item, Tensor)), None)
    for kinds, count in _COUNTS:
        if name in kinds and first is not None:
            found.update(count(first, arguments, keywords))
    if isinstance(output, Tensor) and first is not None and output.numel() and name in _REDUCTIONS:
        found["reduced"] = first.numel() / output.numel()
    return found


_REDUCTIONS = frozenset("std var std_mean var_mean mean nanmean normalize layer_norm".split())


def _masked_rows(scores: Tensor, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> dict[str, float]:
    dim = keywords.get("dim", arguments[1] if len(arguments) > 1 else None)
    if not isinstance(dim, int) or not scores.ndim:
        return {}
    return {"masked_rows": float((scores == -torch.inf).all(dim).sum())}


def _masked_keys(_: Tensor, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> dict[str, float]:
    masks = [keywords.get(name) for name in MASKS]
    masks += [item for item in arguments[3:4] if isinstance(item, Tensor)]
    found = 0
    for mask, hides in zip(masks, (False, True, False), strict=False):
        if isinstance(mask, Tensor) and mask.ndim:
            closed = (mask if hides else ~mask) if mask.dtype == torch.bool else mask == -torch.inf
            found += int(closed.all(-1).sum())
    return {"masked_rows": float(found)} if found else {}


def _labels(scores: Tensor, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> dict[str, float]:
    target = keywords.get("target", arguments[1] if len(arguments) > 1 else None)
    if not isinstance(target, Tensor) or target.is_floating_point():
        return {}
    ignored = keywords.get("ignore_index", -100)
    kept = target != ignored
    found = {"kept": float(kept.sum()), "labels": float(target.numel())}
    if scores.ndim == target.ndim + 1 and bool(kept.any()):
        at_label = scores.gather(1 if target.ndim else 0, target.clamp(min=0).unsqueeze(1 if target.ndim else 0))
        found["masked_labels"] = float(((at_label.squeeze(1) == -torch.inf) & kept).sum()) if target.ndim else 0.0
    return found


_COUNTS: tuple[tuple[frozenset[str], Callable[..., dict[str, float]]], ...] = (
    (SOFTMAXES, _masked_rows),
    (ATTENTION, _masked_keys),
    (LABELLED, _labels),
)


def flat(value: Any, depth: int = 4) -> list[Tensor]:
    """The tensors in a call's arguments or outputs, in order."""
    if isinstance(value, Tensor):
        return [value]
    if not depth or not isinstance(value, (tuple, list, dict)):
        return []
    items = value.values() if isinstance(value, dict) else value
    return [tensor for item in items for tensor in flat(item, depth - 1)]
