"""Whether a loss is a known loss function, or the negative of one: read off its graph."""

from __future__ import annotations

from typing import Any

from torch import Tensor

KNOWN = {
    "NllLossBackward": "cross_entropy",
    "NllLoss2DBackward": "cross_entropy",
    "MseLossBackward": "mse_loss",
    "SmoothL1LossBackward": "smooth_l1_loss",
    "HuberLossBackward": "huber_loss",
    "BinaryCrossEntropyBackward": "binary_cross_entropy",
    "BinaryCrossEntropyWithLogitsBackward": "binary_cross_entropy_with_logits",
    "CtcLossBackward": "ctc_loss",
    "SoftMarginLossBackward": "soft_margin_loss",
    "MultiMarginLossBackward": "multi_margin_loss",
    "MultilabelMarginLossBackward": "multilabel_margin_loss",
}
"""Nodes of torch's loss functions, which are there to be made small."""

SQUARE, SIZE, EXPONENTIAL = "the square of a difference", "the square of an output", "the exponential of an output"
_TERMS = (SQUARE, SIZE, EXPONENTIAL)
"""What counts where it enters with a minus, and says nothing of a loss by itself."""

_SAME = ("MeanBackward", "SumBackward", "ToCopyBackward", "CloneBackward", "ViewBackward", "SqueezeBackward",
         "UnsqueezeBackward", "ReshapeAliasBackward", "AliasBackward", "UnsafeViewBackward")  # fmt: skip

_PARTS = ("SliceBackward", "SelectBackward", "IndexBackward")


def loss_sign(loss: Tensor) -> tuple[int, str]:
    """The sign with which known loss functions enter a loss.

    Args:
        loss: The value that backward starts from.

    Returns:
        1 and a function's name where every known loss function in it enters positively, -1 where every one
        enters negatively, and 0 where none was found, they differ, or a factor is not known. The square of a
        difference from data counts as one, alone or over a variance, as in a Gaussian likelihood.

    >>> import torch
    >>> scores = torch.zeros(2, 3, requires_grad=True)
    >>> loss_sign(-torch.nn.functional.cross_entropy(scores, torch.tensor([0, 1])))
    (-1, 'cross_entropy')
    """
    found: list[tuple[int, str]] = []
    whole = _walk(loss.grad_fn, 1, found, 64)
    known = [(sign, name) for sign, name in found if name not in _TERMS]
    if len({sign for sign, _ in known}) != 1 or not whole:
        return 0, ""
    return known[0]


def against(loss: Tensor) -> str:
    """The known loss function that enters a sum with a minus, while another enters it with a plus; else ``""``.

    What enters with a minus may be a square or an exponential of the model's values as well, as in a divergence from
    a normal distribution.

    >>> import torch
    >>> scores, data = torch.zeros(2, 3, requires_grad=True), torch.ones(2, 3)
    >>> labels = torch.tensor([0, 1])
    >>> against(0.5 * torch.nn.functional.cross_entropy(scores, labels) - torch.nn.functional.mse_loss(scores, data))
    'mse_loss'
    """
    found: list[tuple[int, str]] = []
    _walk(loss.grad_fn, 1, found, 64)
    if not any(sign > 0 and name not in _TERMS for sign, name in found):
        return ""
    taken = [name for sign, name in found if sign < 0]
    return min(taken, key=lambda name: name in _TERMS, default="")


def _walk(node: Any, sign: int, found: list[tuple[int, str]], left: int) -> bool:  # noqa: C901 - by kind of node
    """Follows scalar arithmetic; whether all of it was understood."""
    if node is None or left <= 0:
        return True
    name = type(node).__name__.rstrip("0123456789")
    if name in KNOWN:
        found.append((sign, KNOWN[name]))
        return True
    inputs = [item for item, _ in node.next_functions]
    if name in _SAME:
        return _walk(inputs[0], sign, found, left - 1)
    if _is_squared_error(node, name):
        found.append((sign, "the squared error"))
        return True
    if name in ("GatherBackward", "IndexBackward") and type(inputs[0]).__name__.startswith("LogSoftmaxBackward"):
        found.append((-sign, "cross_entropy"))  # the log-probabilities of labels, chosen by hand
        return True
    if _is_log_probability(node, name):
        found.append((-sign, "the loss of a likelihood"))
        return True
    if _is_hinge(name, node):
        found.append((sign, "the hinge loss"))
        return True
    if name == "MulBackward" and _weighs(node, inputs) and _is_log_softmax(next(item for item in inputs if item), 8):
        found.append((-sign, "cross_entropy"))  # the log-probabilities of labels, chosen by rows of 0 and 1 or shares
        return True
    if _is_likelihood(name, node):
        found.append((-sign, "the loss of a likelihood"))
        return True
    counted = _sign_of_counts(name, node)
    if counted:
        found.append((counted * sign, "the loss of a likelihood"))
        return True
    if name == "NegBackward":
        return _walk(inputs[0], -sign, found, left - 1)
    if name == "AddBackward":
        terms = [_walk(item, sign, found, left - 1) for item in inputs]
        return any(terms)  # a penalty beside the loss need not be understood
    if name in ("SubBackward", "RsubBackward"):
        first = -1 if name == "RsubBackward" else 1
        _walk(inputs[0], sign * first, found, left - 1)
        if len(inputs) > 1:
            _walk(inputs[1], -sign * first, found, left - 1)
        return any(name not in _TERMS for _, name in found)
    if name in ("MulBackward", "DivBackward"):
        factor = _factor(node, inputs)
        if factor is None and name == "MulBackward" and _weighs(node, inputs):
            return _walk(next(item for item in inputs if item is not None), sign, found, left - 1)
        if factor is None and name == "DivBackward" and _divides_by_positive(node, inputs):
            return _walk(inputs[0], sign, found, left - 1)  # by the variance, in a likelihood written out
        if factor is None:
            return False
        return _walk(next(item for item in inputs if item is not None), sign * factor, found, left - 1)
    if name == "PowBackward" and getattr(node, "_saved_exponent", None) == 2:
        found.append((sign, SQUARE if "Sub" in type(inputs[0]).__name__ else SIZE))
    if name == "ExpBackward":
        found.append((sign, EXPONENTIAL))
    return False


def _is_squared_error(node: Any, name: str) -> bool:
    """The square of a difference from data, in some unit: of a prediction, or of a mean in a likelihood."""
    if name != "PowBackward" or getattr(node, "_saved_exponent", None) != 2:
        return False
    inner = node.next_functions[0][0]
    while type(inner).__name__.rstrip("0123456789") in (
        "DivBackward",
        "IndexBackward",
        *_SAME,
    ):  # a square hides the unit's sign
        inner = inner.next_functions[0][0]
    if type(inner).__name__.rstrip("0123456789") not in ("SubBackward", "RsubBackward"):
        return False
    return len(inner.next_functions) == 2 and sum(item is None for item, _ in inner.next_functions) == 1


def _is_hinge(name: str, node: Any) -> bool:
    """What is above 0 of a number less a score times labels of -1 and 1."""
    if name not in ("ReluBackward", "ClampBackward", "ClampMinBackward"):
        return False
    margin = node.next_functions[0][0]
    if type(margin).__name__.rstrip("0123456789") != "RsubBackward" or len(margin.next_functions) != 1:
        return False
    product = margin.next_functions[0][0]
    if type(product).__name__.rstrip("0123456789") != "MulBackward":
        return False
    saved = [getattr(product, name, None) for name in ("_saved_self", "_saved_other")]
    signs = [item for item in saved if isinstance(item, Tensor) and not item.requires_grad and item.dim()]
    return len(signs) == 1 and bool((signs[0].abs() == 1).all().tolist())


def _is_log_probability(node: Any, name: str) -> bool:
    """``logsigmoid``, or the logarithm of a sigmoid, or of what it leaves of 1, kept off 0 or not."""
    if name in ("LogSigmoidBackward", "LogSigmoidForwardBackward"):
        return True
    if name != "LogBackward":
        return False
    inner = node.next_functions[0][0]
    for _ in range(4):
        kind = type(inner).__name__.rstrip("0123456789")
        if kind == "SigmoidBackward":
            return True
        alone = inner is not None and sum(item is not None for item, _ in inner.next_functions) == 1
        if (
            kind not in (*_SAME, *_PARTS, "AddBackward", "RsubBackward", "ClampBackward", "ClampMinBackward")
            or not alone
        ):
            return False
        inner = next(item for item, _ in inner.next_functions if item is not None)
    return False


def _is_log_softmax(node: Any, left: int) -> bool:
    """``log_softmax``, or the logarithm of a softmax, kept off 0 or not."""
    inside = False
    while node is not None and left > 0:
        kind = type(node).__name__.rstrip("0123456789")
        if kind == "LogSoftmaxBackward" or (inside and kind == "SoftmaxBackward"):
            return True
        inputs = [item for item, _ in node.next_functions if item is not None]
        kept = inside and kind in ("AddBackward", "ClampBackward", "ClampMinBackward") and len(inputs) == 1
        if kind not in (*_SAME[3:], *_PARTS, "LogBackward") and not kept:
            return False
        inside, left, node = inside or kind == "LogBackward", left - 1, inputs[0] if inputs else None
    return False


def _is_likelihood(name: str, node: Any) -> bool:
    """A score less the logarithm of a sum of exponentials that it is part of, as in Cox's partial likelihood."""
    if name != "SubBackward" or len(node.next_functions) != 2:
        return False
    (score, place), (total, _) = node.next_functions
    if type(total).__name__.rstrip("0123456789") not in ("LogcumsumexpBackward", "LogsumexpBackward"):
        return False
    return score is not None and total.next_functions[0] == (score, place)


def _sign_of_counts(name: str, node: Any) -> int:
    """1 for exp(z) - n * z of counts n, as in Poisson's likelihood, -1 for n * z - exp(z), and 0 for all else."""
    if name != "SubBackward" or len(node.next_functions) != 2:
        return 0
    for sign, (one, other) in ((1, node.next_functions), (-1, reversed(node.next_functions))):
        kinds = [type(item[0]).__name__.rstrip("0123456789") for item in (one, other)]
        if kinds != ["ExpBackward", "MulBackward"]:
            continue
        factors = other[0].next_functions
        if one[0].next_functions[0] in factors and _weighs(other[0], [item for item, _ in factors]):
            return sign
    return 0


def _weighs(node: Any, inputs: list[Any]) -> bool:
    """Whether the other factor is data that is nowhere below 0: weights, a mask, events that were seen."""
    if len(inputs) != 2 or sum(item is not None for item in inputs) != 1:
        return False
    value = getattr(node, "_saved_other" if inputs[0] is not None else "_saved_self", None)
    return isinstance(value, Tensor) and not value.requires_grad and bool((value >= 0).all().tolist())


def _divides_by_positive(node: Any, inputs: list[Any]) -> bool:
    if inputs[0] is None or len(inputs) < 2:
        return False
    if inputs[1] is not None:
        return _is_positive(inputs[1], 8)
    value = getattr(node, "_saved_other", None)
    return isinstance(value, Tensor) and bool((value > 0).all().tolist())


def _is_positive(node: Any, left: int) -> bool:
    """Whether a value is above 0 by the way it was made."""
    if node is None or left <= 0:
        return False
    name = type(node).__name__.rstrip("0123456789")
    if name in ("ExpBackward", "SoftplusBackward"):
        return True
    if name == "PowBackward":
        return getattr(node, "_saved_exponent", None) in (2, 4)
    inputs = [item for item, _ in node.next_functions]
    if name in ("MulBackward", "DivBackward"):
        factor = _factor(node, inputs)
        return factor == 1 and _is_positive(next(item for item in inputs if item is not None), left - 1)
    return False


def _factor(node: Any, inputs: list[Any]) -> int | None:
    """The sign of a constant factor; ``None`` when it is not one known number."""
    if sum(item is not None for item in inputs) != 1:
        return None
    for name in ("_saved_other", "_saved_self"):
        try:
            value = getattr(node, name)
        except (AttributeError, RuntimeError):
            continue
        if isinstance(value, Tensor):
            if value.numel() != 1 or value.requires_grad:
                continue
            value = value.tolist()  # under a dispatch mode item() of a number would meet the number
        if isinstance(value, (int, float)) and value:
            return 1 if value > 0 else -1
    return None
