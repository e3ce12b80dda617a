"""What rules about losses ask of a loss call."""

from __future__ import annotations

from lightning_debug.evidence.loss import LossCall
from lightning_debug.evidence.loss_checks import StatedIntent

DISTANCES = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "difference")
"""Losses that measure a distance."""

ONE_HOT_ERROR = 1e-3
"""How far the sum of probabilities may be from 1."""


def softmax_dim(call: LossCall) -> int | None:
    """The dimension along which the scores of a call are probabilities that a softmax made; ``None`` if they are not.

    >>> from lightning_debug.evidence.loss import Operand, Operation
    >>> scores = Operand(shape=(32, 4), sum_errors=(3.0, 1e-7), minimum=0.01)
    >>> softmax_dim(LossCall(function="mse_loss", scores=scores, origin=(Operation(name="softmax"),)))
    1
    """
    if not any(operation.name == "softmax" for operation in call.origin):
        return None
    for dim, error in enumerate(call.scores.sum_errors):
        if error is not None and error <= ONE_HOT_ERROR and call.scores.shape[dim] > 1:
            return dim
    return None


def is_autoencoder(call: LossCall, intent: StatedIntent) -> bool:
    """Whether the target may be the model's input: the batch holds no tensor of other values."""
    fields = {field.name: field for field in intent.fields}
    same = {call.target.field if call.target is not None else "", ""}
    others = [name for name, field in fields.items() if name not in same and field.equals not in same - {""}]
    return bool(fields) and not others


def number(value: float) -> str:
    """A number without needless digits.

    >>> number(2.0), number(-0.123456)
    ('2', '-0.123')
    """
    return f"{value:.0f}" if value == round(value) and abs(value) < 1e6 else f"{value:.3g}"
