"""Whether the order of integer labels shows in the inputs."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_debug.evidence.loss_checks import LabelOrder

PERMUTATIONS = 199
MOST_FEATURES = 512


def features(inputs: Tensor) -> Tensor:
    """Up to 512 evenly spread values of each sample, on the CPU."""
    whole = inputs.detach() if inputs.layout is torch.strided else inputs.detach().to_dense()
    rows = whole.reshape(len(inputs), -1)
    step = max(1, rows.shape[1] // MOST_FEATURES)
    return rows[:, ::step][:, :MOST_FEATURES].float().cpu()


def label_order(field: str, inputs: Tensor | None, labels: Tensor) -> LabelOrder:
    """Measures the order of labels.

    Args:
        field: The labels' name.
        inputs: ``(samples, features)`` on the CPU, or ``None`` where there are none.
        labels: ``(samples,)``, whole numbers, on the CPU.

    >>> torch.manual_seed(0)  # doctest: +ELLIPSIS
    <torch._C.Generator ...>
    >>> labels = torch.arange(5).repeat_interleave(20)
    >>> ordered = label_order("y", labels[:, None] + 0.1 * torch.randn(100, 1), labels)
    >>> round(ordered.rank_correlation, 1), ordered.separation_p
    (1.0, 0.005)
    """
    values, codes, counts = torch.unique(labels.long(), return_inverse=True, return_counts=True)
    found = LabelOrder(
        field=field,
        classes=len(values),
        lowest=int(values[0]),
        highest=int(values[-1]),
        samples=len(labels),
        fewest=int(counts.min()),
    )
    if inputs is None or not inputs.shape[1] or len(values) < 2 or len(labels) < 2 * len(values):
        return found
    spread = inputs.std(0)
    scaled = (inputs - inputs.mean(0))[:, spread > 0] / spread[spread > 0]
    if not scaled.numel() or not bool(torch.isfinite(scaled).all()):
        return found
    separation = _separation(scaled, codes, counts)
    generator = torch.Generator().manual_seed(0)
    as_good = 1
    for _ in range(PERMUTATIONS):
        shuffled = codes[torch.randperm(len(codes), generator=generator)]
        as_good += _separation(scaled, shuffled, counts) >= separation
    correlation, pairs = _correlation(scaled, codes, counts, values)
    return LabelOrder(
        **{name: getattr(found, name) for name in ("field", "classes", "lowest", "highest", "samples", "fewest")},
        separation=separation,
        separation_p=as_good / (PERMUTATIONS + 1),
        rank_correlation=correlation,
        pairs=pairs,
    )


def _centres(scaled: Tensor, codes: Tensor, counts: Tensor) -> Tensor:
    sums = torch.zeros(len(counts), scaled.shape[1]).index_add_(0, codes, scaled)
    return sums / counts[:, None]


def _separation(scaled: Tensor, codes: Tensor, counts: Tensor) -> float:
    """Variance between classes over variance within; the inputs' mean is 0."""
    between = float((_centres(scaled, codes, counts).square().sum(1) * counts).sum())
    within = float(scaled.square().sum()) - between
    freedom = max(1, len(scaled) - len(counts)) / max(1, len(counts) - 1)
    return between / max(within, 1e-12) * freedom


def _correlation(scaled: Tensor, codes: Tensor, counts: Tensor, values: Tensor) -> tuple[float | None, int]:
    many = counts > 1
    if int(many.sum()) < 3:
        return None, 0
    centres = _centres(scaled, codes, counts)
    squares = torch.zeros(len(counts)).index_add_(0, codes, (scaled - centres[codes]).square().sum(1))
    noise = (squares / (counts - 1).clamp(min=1) / counts)[many]  # what sampling adds to a squared distance
    centres, values = centres[many], values[many].double()
    first, second = torch.triu_indices(len(values), len(values), offset=1)
    distance = (centres[first] - centres[second]).square().sum(1) - noise[first] - noise[second]
    ranks = torch.stack([_ranks(distance.double()), _ranks((values[first] - values[second]).abs())])
    correlation = float(torch.corrcoef(ranks)[0, 1])
    return (None if math.isnan(correlation) else correlation), len(first)


def _ranks(values: Tensor) -> Tensor:
    """Ranks, ties averaged."""
    _, codes, counts = torch.unique(values, return_inverse=True, return_counts=True)
    places: Tensor = counts.cumsum(0).double() - (counts - 1) / 2
    return places[codes]
