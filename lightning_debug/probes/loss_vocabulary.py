"""What torch's calls mean for a loss: operands of loss functions, ranges of activations, arithmetic."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from lightning_debug.probes.vocabulary import RESHAPES

LOSS_FUNCTIONS: dict[str, tuple[str, str]] = {
    "binary_cross_entropy": ("input", "target"),
    "binary_cross_entropy_with_logits": ("input", "target"),
    "cosine_embedding_loss": ("input1", "input2"),
    "cross_entropy": ("input", "target"),
    "ctc_loss": ("log_probs", "targets"),
    "gaussian_nll_loss": ("input", "target"),
    "hinge_embedding_loss": ("input", "target"),
    "huber_loss": ("input", "target"),
    "kl_div": ("input", "target"),
    "l1_loss": ("input", "target"),
    "linear_cross_entropy": ("input", "target"),
    "margin_ranking_loss": ("input1", "input2"),
    "mse_loss": ("input", "target"),
    "multi_margin_loss": ("input", "target"),
    "multilabel_margin_loss": ("input", "target"),
    "multilabel_soft_margin_loss": ("input", "target"),
    "nll_loss": ("input", "target"),
    "poisson_nll_loss": ("input", "target"),
    "smooth_l1_loss": ("input", "target"),
    "soft_margin_loss": ("input", "target"),
    "triplet_margin_loss": ("anchor", "positive"),
    "triplet_margin_with_distance_loss": ("anchor", "positive"),
}
"""The parameters of each loss function that hold predictions and what they are compared with."""

SYMMETRIC = frozenset({"huber_loss", "l1_loss", "mse_loss", "smooth_l1_loss"})
"""Loss functions that may be given their operands in either order."""

THROUGH = RESHAPES | {"broadcast_tensors", "broadcast_to", "repeat", "tile", "to_dense", "resolve_conj"}
"""Calls that change no value on the way from a layer to a loss."""

ARITHMETIC = THROUGH | frozenset(
    """
    abs add amax amin cat clamp clamp_min clamp_max cumsum div dot einsum exp expm1 hypot log log1p log10 log2
    logaddexp logsumexp masked_fill max maximum mean min minimum mul nan_to_num nanmean nansum neg norm pow
    rdiv reciprocal relu rpow rsqrt rsub scatter_add segment_reduce softplus sqrt square stack sub sum var
    vector_norm where xlogy gather take_along_dim index_add average mse
    """.split()
)
"""Calls of which a loss written by hand is made, between the model's output and the value returned."""

SQUARES = frozenset(
    {"abs", "cosh", "mul", "norm", "pow", "square", "vector_norm", "hypot", "where", "clamp", "maximum"}
)
"""Calls that turn a difference into a distance."""

SOFTMAX = frozenset({"softmax", "softmin", "gumbel_softmax"})

RANGES: dict[str, tuple[float | None, float | None]] = {
    "softmax": (0.0, 1.0),
    "softmin": (0.0, 1.0),
    "gumbel_softmax": (0.0, 1.0),
    "sigmoid": (0.0, 1.0),
    "hardsigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
    "cosine_similarity": (-1.0, 1.0),
    "sin": (-1.0, 1.0),
    "cos": (-1.0, 1.0),
    "relu": (0.0, None),
    "relu6": (0.0, 6.0),
    "softplus": (0.0, None),
    "exp": (0.0, None),
    "square": (0.0, None),
    "abs": (0.0, None),
    "log_softmax": (None, 0.0),
    "log_sigmoid": (None, 0.0),
}
"""The least and the greatest value a call can give; ``None`` where it has no limit."""


def bound(function: Callable[..., Any], arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call by parameter, defaults included; empty for a builtin that has no signature."""
    try:
        given = inspect.signature(function).bind(*arguments, **keywords)
    except (TypeError, ValueError):
        return {}
    given.apply_defaults()
    return dict(given.arguments)


def limits(name: str, value: Callable[[int, str, Any], Any]) -> tuple[float | None, float | None]:
    """The least and greatest output of a call.

    Args:
        name: Canonical name of the call.
        value: The call's argument, by position, name and default.
    """
    if name in ("clamp", "hardtanh"):
        default = None if name == "clamp" else 1.0
        names = ("min", "max") if name == "clamp" else ("min_val", "max_val")
        low, high = value(1, names[0], -default if default else None), value(2, names[1], default)
    elif name in ("clamp_min", "clamp_max"):
        one = value(1, name[-3:], None)
        low, high = (one, None) if name == "clamp_min" else (None, one)
    elif name == "threshold":
        one = value(1, "threshold", None)
        low, high = (one if one == value(2, "value", None) else None), None
    else:
        return RANGES.get(name, (None, None))
    return _number(low), _number(high)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def dimension(name: str, arguments: tuple[Any, ...], keywords: Mapping[str, Any], ndim: int) -> int | None:
    """The dimension a call works along, counted from the front."""
    place = {"gumbel_softmax": 4, "take_along_dim": 2}.get(name, 1)
    dim = keywords.get("dim", arguments[place] if len(arguments) > place else None)
    if isinstance(dim, (tuple, list)) and len(dim) == 1:
        dim = dim[0]
    if dim is None and name in SOFTMAX | {"log_softmax"}:
        dim = -1 if name == "gumbel_softmax" else (0 if ndim in (0, 1, 3) else 1)  # torch's choice where none is given
    if isinstance(dim, bool) or not isinstance(dim, int) or ndim == 0:
        return None
    return dim % ndim
