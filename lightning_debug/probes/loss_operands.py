"""Operands: a tensor that meets a loss, in a few numbers, at a bounded cost."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lightning_debug.evidence.loss import QUANTILES, Operand
from lightning_debug.probes.plain_shape import plain_shape

LEAST_ROWS = 256
FEW_VALUES = 65_536
MOST_VALUES = 1_000_000
MOST_DISTINCT = 1000


def readable(tensor: Tensor) -> bool:
    """Whether values can be read here without a collective, a collapse of structure or an error."""
    wrapped = getattr(torch._C._functorch, "is_functorch_wrapped_tensor", None)  # noqa: SLF001 - vmap refuses reads
    if tensor.is_cuda and torch.cuda.is_current_stream_capturing():
        return False
    return (
        tensor.layout is torch.strided
        and tensor.device.type != "meta"
        and not tensor.is_nested
        and not tensor.is_complex()
        and not tensor.is_quantized
        and not hasattr(tensor, "to_local")  # a DTensor: reading it is a collective
        and not (wrapped is not None and wrapped(tensor))
    )


def sample_rows(tensor: Tensor, dim: int, most: int = MOST_VALUES) -> Tensor:
    """Rows of ``tensor`` along ``dim``, evenly spread over the others.

    Args:
        tensor: Shape ``(..., size, ...)``.
        dim: The dimension along which rows lie.
        most: The most values to return, unless 8 rows have more.

    Returns:
        Shape ``(rows, size)``.

    >>> sample_rows(torch.arange(6).reshape(2, 3), 0).tolist()
    [[0, 3], [1, 4], [2, 5]]
    """
    moved = tensor.movedim(dim, -1)
    lead, size = moved.shape[:-1], max(moved.shape[-1], 1)
    total = math.prod(lead)
    count = min(max(LEAST_ROWS, FEW_VALUES // size), max(8, most // size))
    if total <= count:
        return moved.reshape(total, moved.shape[-1])
    # Golden-ratio offsets: an even stride could fall on one column of an image again and again.
    picks = torch.tensor([int((i + i * 0.618034 % 1) * total / count) for i in range(count)], device=tensor.device)
    return moved[torch.unravel_index(picks, lead)]


def describe(tensor: Any, dim: int | None = None, *, ignore: int | None = None, **known: Any) -> Operand:
    """Summarises a tensor.

    Args:
        tensor: Any tensor; of one that cannot be read the shape and dtype alone are told.
        dim: The dimension of its rows; the last by default.
        ignore: A value to leave out: a loss's ``ignore_index``.
        known: Fields of the result that the values do not tell.
    """
    base = {"shape": plain_shape(tensor), "dtype": str(tensor.dtype).removeprefix("torch."), **known}
    if tensor.numel() == 0 or not readable(tensor):
        return Operand(**base, dim=dim)
    plain = tensor.detach().as_subclass(Tensor)
    if plain.ndim == 0:
        plain, dim = plain.reshape(1), None
    along = plain.ndim - 1 if dim is None else dim % plain.ndim
    with torch.no_grad(), torch.autocast(plain.device.type, enabled=False):
        rows = _numbers(sample_rows(plain, along))
        measured = {**_values(rows, plain.dtype, ignore), **_rows(rows)}
        for name, logs in (("sum_errors", False), ("log_sum_errors", True)):
            measured[name] = tuple(
                _error(rows if other == along else _numbers(sample_rows(plain, other, FEW_VALUES)), logs)
                for other in range(plain.ndim)
            )
    return Operand(**base, dim=along, **measured)


def _numbers(rows: Tensor) -> Tensor:
    wide = rows.dtype in (torch.float64, torch.int64, torch.int32) and rows.device.type != "mps"
    return rows.to(torch.float64 if wide else torch.float32)


def _values(rows: Tensor, dtype: torch.dtype, ignore: int | None) -> dict[str, Any]:
    values = rows.flatten()
    if ignore is not None:
        values = values[values != ignore]
    right = values[values.isfinite()]
    result: dict[str, Any] = {"count": values.numel(), "finite": right.numel() == values.numel()}
    if right.numel() == 0:
        return result
    least = right.min()
    masks = right < 0, right == 0, (right >= 0) & (right <= 1), right == least, right == right.round()
    numbers = _read(least, right.max(), right.mean(), right.std(correction=0), *masks)
    names = "minimum maximum mean deviation share_negative share_zero share_in_unit share_at_minimum".split()
    result |= dict(zip(names, numbers[:-1], strict=True))
    result["integral"] = not dtype.is_floating_point or numbers[-1] == 1.0
    some = right if right.numel() <= FEW_VALUES else right[:: -(-right.numel() // FEW_VALUES)]
    ordered = some.sort().values
    places = [round(level * (ordered.numel() - 1)) for level in QUANTILES]
    result["quantiles"] = tuple(float(value) for value in ordered[places].tolist())
    _, counts = torch.unique_consecutive(ordered, return_counts=True)
    if counts.numel() <= MOST_DISTINCT:
        result["distinct"] = counts.numel()
        if result["integral"]:
            shares = counts / counts.sum()
            result["entropy"] = max(0.0, float(-(shares * shares.log()).sum()))
    return result


def _rows(rows: Tensor) -> dict[str, Any]:
    result: dict[str, Any] = {"rows": rows.shape[0]}
    if rows.shape[1] < 2:
        return result
    sums, logs = rows.sum(1), rows.logsumexp(1)
    names = "row_spread row_sum_lowest row_sum_highest log_sum_lowest log_sum_median log_sum_highest".split()
    spread = (rows.max(1).values - rows.min(1).values).median()
    binary = ((rows == 0) | (rows == 1)).all()
    soft = (rows >= 0).all() & ((sums - 1).abs() <= 1e-3).all()
    *numbers, is_binary, is_soft = _read(
        spread, sums.min(), sums.max(), logs.min(), logs.median(), logs.max(), binary, soft
    )
    if is_binary:
        result["rows_hold"] = "one-hot" if is_soft else "multi-hot"
    elif is_soft:
        result["rows_hold"] = "soft"
    return {**result, **dict(zip(names, numbers, strict=True))}


def _error(rows: Tensor, logs: bool) -> float | None:
    """How far the rows are from distributions (or from their logarithms) at most; ``None`` where a NaN hides it."""
    if rows.shape[1] < 2 or rows.shape[0] == 0:
        return None
    if logs:
        error = _read(rows.logsumexp(1).abs().max())[0]
        return None if math.isnan(error) else error
    error, negated, least, most = _read(
        (rows.sum(1) - 1).abs().max(), (rows.sum(1) + 1).abs().max(), rows.min(), rows.max()
    )
    if math.isnan(least):  # an overflow made these sums, not the dimension of a softmax
        return None
    return error if least >= 0 else negated if most <= 0 else math.inf


def _read(*scalars: Tensor) -> list[float]:
    """Values of 0-d tensors, and of masks the share that is true, in one read."""
    means = [item.float().mean() if item.ndim else item for item in scalars]
    wide = torch.float32 if means[0].device.type == "mps" else torch.float64
    return [float(value) for value in torch.stack([item.to(wide) for item in means]).tolist()]
