"""What a loss costs, what it must cost for its targets, and what it costs a model that knows nothing of the input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

LARGE = 2**24
"""Values above which distributions over classes are not written out."""


@dataclass(frozen=True)
class Cost:
    """Costs of one loss function, as means over its values.

    Args:
        value: What the scores pay.
        floor: The least that any scores could pay: the entropy of soft targets, 0 for others.
        uninformed: The least that scores could pay that are the same for every row.
    """

    value: float
    floor: float
    uninformed: float


def cost(
    function: str, scores: Tensor, target: Tensor, *, smoothing: float = 0.0, ignore: int | None = None
) -> Cost | None:
    """The costs of a call, without its weights and whatever its reduction; ``None`` for a function not known here.

    Args:
        function: Its name, as in ``LOSS_FUNCTIONS``, or ``"difference"`` for a squared one written by hand.
        scores: What the model gives it.
        target: What that is compared with.
        smoothing: Its ``label_smoothing``.
        ignore: Its ``ignore_index``.

    >>> cost("mse_loss", torch.zeros(2), torch.tensor([1.0, 3.0]))
    Cost(value=5.0, floor=0.0, uninformed=1.0)
    >>> found = cost("cross_entropy", torch.zeros(2, 4), torch.tensor([0, 1]))
    >>> round(found.value, 3), round(found.floor, 3), round(found.uninformed, 3)
    (1.386, 0.0, 0.693)
    """
    measure = _MEASURES.get(function)
    if measure is None or not scores.numel() or not target.numel():
        return None
    scores = scores.detach().float() if scores.dtype in (torch.float16, torch.bfloat16) else scores.detach()
    try:
        with torch.no_grad():
            return measure(scores, target.detach(), smoothing, ignore)
    except (RuntimeError, ValueError, IndexError):  # operands that the function itself takes otherwise
        return None


def _classes(scores: Tensor, target: Tensor, smoothing: float, ignore: int | None) -> Cost | None:
    return _of_log(functional.log_softmax(scores, min(1, scores.ndim - 1)), target, smoothing, ignore)


def _of_log(scores: Tensor, target: Tensor, smoothing: float, ignore: int | None) -> Cost | None:
    dim = min(1, scores.ndim - 1)
    classes = scores.shape[dim]
    rows = scores.movedim(dim, -1).reshape(-1, classes)
    if target.is_floating_point():
        wanted = target.movedim(dim, -1).reshape(-1, classes).to(rows.dtype)
    else:
        labels = target.reshape(-1)
        kept = labels != (-100 if ignore is None else ignore)
        rows, labels = rows[kept], labels[kept]
        if not len(rows) or rows.numel() > LARGE:
            return None
        wanted = functional.one_hot(labels.long(), classes).to(rows.dtype)
    if smoothing:
        wanted = wanted * (1 - smoothing) + smoothing / classes
    paid = -(wanted * rows).nan_to_num(0.0).sum(-1).mean()
    return Cost(float(paid), float(_entropy(wanted).mean()), float(_entropy(wanted.mean(0))))


def _entropy(distribution: Tensor) -> Tensor:
    parts: Tensor = torch.special.xlogy(distribution, distribution)
    return -parts.sum(-1)


def _binary(probability: Callable[[Tensor], Tensor]) -> Callable[..., Cost]:
    def measure(scores: Tensor, target: Tensor, *_: Any) -> Cost:
        given = probability(scores).double().clamp(1e-12, 1 - 1e-12)
        wanted = target.to(given.dtype)
        average = _average(wanted)
        paid = -(wanted * given.log() + (1 - wanted) * (1 - given).log())
        return Cost(float(paid.mean()), float(_coin(wanted).mean()), float(_coin(average).mean()))

    return measure


def _coin(probability: Tensor) -> Tensor:
    return _entropy(torch.stack([probability, 1 - probability], -1))


def _average(target: Tensor) -> Tensor:
    """The mean over examples: the first dimension."""
    return target.mean(0, keepdim=True) if target.ndim else target


def _distance(penalty: Callable[[Tensor], Tensor]) -> Callable[..., Cost]:
    def measure(scores: Tensor, target: Tensor, *_: Any) -> Cost:
        wanted = target.to(torch.promote_types(scores.dtype, torch.float32)).double()
        paid = penalty(scores.double() - wanted)
        return Cost(float(paid.mean()), 0.0, float(penalty(wanted - _average(wanted)).mean()))

    return measure


def _rounded(apart: Tensor) -> Tensor:
    """A distance that is round at 0, with the bend where both functions have it unless told otherwise."""
    return functional.smooth_l1_loss(apart, torch.zeros_like(apart), reduction="none")


def _divergence(scores: Tensor, target: Tensor, *_: Any) -> Cost | None:
    wanted = target
    if bool((target < 0).any()) or scores.ndim < 1 or scores.shape != target.shape:
        return None  # log_target, or something else
    paid = (torch.special.xlogy(wanted, wanted) - wanted * scores).sum(-1).mean()
    average = _average(wanted).expand_as(wanted)
    blind = (torch.special.xlogy(wanted, wanted) - torch.special.xlogy(wanted, average)).sum(-1).mean()
    return Cost(float(paid), 0.0, float(blind))


_MEASURES: dict[str, Callable[..., Cost | None]] = {
    "cross_entropy": _classes,
    "nll_loss": _of_log,
    "binary_cross_entropy": _binary(lambda scores: scores),
    "binary_cross_entropy_with_logits": _binary(torch.sigmoid),
    "mse_loss": _distance(torch.square),
    "difference": _distance(torch.square),
    "l1_loss": _distance(torch.abs),
    "smooth_l1_loss": _distance(_rounded),
    "huber_loss": _distance(_rounded),
    "kl_div": _divergence,
}
