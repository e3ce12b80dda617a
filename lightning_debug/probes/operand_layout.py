"""Whether the dimensions of a layer's input lie in memory as they claim to: rough, reshaped, regrouped."""

from __future__ import annotations

import torch
from torch import Tensor


def roughness(operand: Tensor) -> tuple[float, ...]:
    """How unlike neighbours are along each dimension after the first: 0 smooth, 1 without any order."""
    part = operand.detach()[:16].float().cpu()
    found = []
    for dim in range(1, operand.ndim):
        size = part.shape[dim]
        spread = part.var(dim, unbiased=False).mean() if size > 2 else part.new_zeros(())
        rough = part.diff(dim=dim).square().mean() / 2 / spread if bool(spread > 0) else part.new_ones(())
        found.append(float(rough) * (size - 1) / size if size > 1 else 1.0)
    return tuple(found)


def strided(series: Tensor) -> tuple[float, ...]:
    """Whether (time, channels) were reshaped to (channels, time), see :class:`FirstLayerInput`.

    Then the next value of a channel lies as many values apart as there are channels, and rows go on in the next ones.

    >>> wave = torch.linspace(0, 6, 40)[None, :, None] + torch.tensor([0.0, 2.0])
    >>> [[round(one) for one in strided(item)] for item in (wave.sin().mT, wave.sin().reshape(1, 2, 40))]
    [[3, 51], [0, 0]]
    """
    if series.ndim != 3 or not 2 <= series.shape[1] <= 16 or series.shape[2] < 4 * series.shape[1]:
        return ()
    part = series.detach()[:64].float().cpu()
    channels = part.shape[1]
    flat = part.reshape(len(part), -1)
    near, far = [(flat[:, lag:] - flat[:, :-lag]).square().mean() for lag in (1, channels)]
    seam = (part[:, :-1, -channels:] - part[:, 1:, :channels]).square().mean()
    return (float(far / near), float(seam / near)) if bool(near > 0) else ()


def regrouped(pictures: Tensor) -> tuple[float, ...]:
    """Whether (height, width, channels) were reshaped to (channels, height, width), see :class:`FirstLayerInput`.

    Then a step of one row lies as many claimed rows apart as there are channels, and most rows go on in the next one.

    >>> across, down = torch.linspace(-3, 3, 12), torch.linspace(-2, 2, 12)[:, None]
    >>> picture = torch.sin(across + down)[None, :, :, None] * torch.tensor([1.0, 0.8, 0.6])
    >>> ways = (picture.permute(0, 3, 1, 2), picture.reshape(1, 3, 12, 12))
    >>> [[round(one) for one in regrouped(item)] for item in ways]
    [[5, 6], [0, 0]]
    """
    if pictures.ndim != 4 or not 2 <= pictures.shape[1] <= 4 or min(pictures.shape[2:]) < 2 * pictures.shape[1]:
        return ()
    part = pictures.detach()[:16].float().cpu()
    channels, height, width = part.shape[1:]
    flat = part.reshape(len(part), -1)
    near, far = [(flat[:, lag:] - flat[:, :-lag]).square().mean() for lag in (width, channels * width)]
    if not bool(near > 0):
        return ()
    rows = part.reshape(len(part), channels * height, width)
    within = torch.arange(1, channels * height) % channels != 0  # ends of rows that lie inside a row of a reshaped one
    seam = (rows[:, :-1, -channels:] - rows[:, 1:, :channels])[:, within].square().mean()
    return float(far / near), float(seam / near)
