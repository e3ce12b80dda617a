"""How what one loss call was given relates to what another was given."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_debug.probes.loss_tap import HeardLoss

_FAMILIES = (
    frozenset({"cross_entropy", "nll_loss"}),
    frozenset({"binary_cross_entropy", "binary_cross_entropy_with_logits"}),
)
_MOST = 1_000_000
"""How many values of an operand are compared."""


@torch.no_grad()
def relation(training: HeardLoss, validation: HeardLoss, samples: int | None = None) -> str:
    """What makes the two calls differ, as :class:`ValidationLossComparison` names it; ``"unknown"`` if nothing known.

    >>> from lightning_debug.probes.loss_tap import LossTap
    >>> import torch.nn.functional as F
    >>> logits, labels = torch.randn(4, 3), torch.tensor([0, 2, 1, 1])
    >>> with LossTap() as tap:
    ...     _ = F.cross_entropy(logits, labels), F.cross_entropy(logits.softmax(-1), labels)
    >>> relation(*tap.heard)
    'softmax'
    """
    if training.function != validation.function and not _related(training.function, validation.function):
        return "unknown"
    if training.is_classes and validation.is_classes:
        return _between_classes(training, validation, samples)
    return _between_elements(training, validation)


def equal_terms(training: HeardLoss, validation: HeardLoss) -> bool:
    """Whether both calls have the same weights and other options, the reduction left out."""
    names = {*training.options, *validation.options} - {"reduction", "size_average", "reduce"}
    for name in names:
        first, second = training.options.get(name), validation.options.get(name)
        if isinstance(first, Tensor) and isinstance(second, Tensor):
            if not _close(first, second):
                return False
        elif isinstance(first, Tensor) or isinstance(second, Tensor) or first != second:
            return False
    return True


def _related(first: str, second: str) -> bool:
    return any({first, second} <= family for family in _FAMILIES)


def _between_classes(training: HeardLoss, validation: HeardLoss, samples: int | None) -> str:
    first, second = _rows(training.scores), _rows(validation.scores)
    labels, others = training.target.reshape(-1).long(), validation.target.reshape(-1).long()
    if first.shape[-1] != second.shape[-1]:
        return "unknown"
    if first.shape == second.shape and torch.equal(labels, others):
        return _between_scores(training, validation, _most(first), _most(second))
    if samples and _shifted(first, second, labels, others, samples):
        return "shifted"
    return "unknown"


def _between_scores(training: HeardLoss, validation: HeardLoss, first: Tensor, second: Tensor) -> str:
    functions = training.function, validation.function
    logs = first if functions[0] == "nll_loss" else first.float().log_softmax(-1)
    if _close(first, second):
        unlike_logs = float(second.float().logsumexp(-1).abs().max()) > 1e-3
        return "unnormalised" if functions == ("cross_entropy", "nll_loss") and unlike_logs else "equal"
    if _close(logs, second):
        return "equal"
    if functions[0] == "nll_loss" and _close(second.float().log_softmax(-1), first):
        return "equal" if functions[1] == "cross_entropy" else "unnormalised"
    if _close(logs.float().exp(), second):
        return "softmax"
    if functions[0] == "cross_entropy" and _close(first.float().sigmoid(), second):
        return "sigmoid"
    scores, others = training.scores, validation.scores
    dims = range(scores.ndim) if scores.shape == others.shape and scores.numel() <= _MOST else ()
    if any(_close(scores.float().softmax(dim), others) for dim in dims):
        return "softmax"  # over another dimension than that of the classes
    if first.numel() <= _MOST and _close(*(item.flatten().sort().values for item in (first, second))):
        return "rearranged"
    return "unknown"


def _between_elements(training: HeardLoss, validation: HeardLoss) -> str:
    pairs = [(training.target, validation.target), (training.scores, validation.scores)]
    if any(first.numel() != second.numel() for first, second in pairs):
        return "unknown"
    (labels, others), (first, second) = ((_most(one), _most(two)) for one, two in pairs)
    if not _close(labels, others):
        return "unknown"
    if training.function == validation.function and _close(first, second):
        return "equal"
    if validation.function == "binary_cross_entropy_with_logits":
        probability = first if training.function == "binary_cross_entropy" else first.float().sigmoid()
        if _close(probability, second):
            return "sigmoid"
    if training.function == "binary_cross_entropy_with_logits" and _close(first.float().sigmoid(), second):
        return "equal"  # binary_cross_entropy wants probabilities
    return "unknown"


def _shifted(first: Tensor, second: Tensor, labels: Tensor, others: Tensor, samples: int) -> bool:
    """Whether one call compares each position with its own label, and the other with a neighbour's."""
    if any(len(item) % samples or len(item) != len(scores) for item, scores in ((labels, first), (others, second))):
        return False
    here, there = labels.reshape(samples, -1), others.reshape(samples, -1)
    one, two = (item.reshape(samples, -1, item.shape[-1]) for item in (first, second))
    if here.shape[1] == there.shape[1]:
        moved = torch.equal(here[:, 1:], there[:, :-1]) or torch.equal(here[:, :-1], there[:, 1:])
        return moved and here.shape[1] > 2 and not torch.equal(here, there) and _close(_most(one), _most(two))
    if here.shape[1] > there.shape[1]:
        here, there, one, two = there, here, two, one
    if there.shape[1] != here.shape[1] + 1:
        return False
    unshifted = torch.equal(there[:, :-1], here)
    return torch.equal(there[:, 1:], here) and not unshifted and _close(_most(two[:, :-1]), _most(one))


def _rows(scores: Tensor) -> Tensor:
    """Scores as rows of classes: (N, C), (N, C, d…) and (C) alike."""
    moved = scores.movedim(1, -1) if scores.ndim > 1 else scores
    return moved.reshape(-1, moved.shape[-1])


def _most(values: Tensor) -> Tensor:
    """The first values, whole rows of them, as many as are compared."""
    if values.ndim < 2:
        return values.reshape(-1)[:_MOST]
    return values.reshape(-1, values.shape[-1])[: max(1, _MOST // max(1, values.shape[-1]))]


def _close(first: Tensor, second: Tensor) -> bool:
    if first.numel() != second.numel() or not first.numel():
        return False
    coarse = any(item.dtype in (torch.bfloat16, torch.float16) for item in (first, second))
    one, two = first.reshape(-1).float(), second.reshape(-1).float()
    tolerance = 1e-2 if coarse else 1e-4
    largest = float(one.abs().max())
    return largest < float("inf") and torch.allclose(one, two, rtol=tolerance, atol=0.1 * tolerance * largest)
