"""Whether a training loss is one of supervised learning, where lower is better, from what reached it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lightning_debug.evidence.curves import LossKind
from lightning_debug.evidence.loss import LossCall, LossGraph

NAMES = {"selection": "cross_entropy", "difference": "mse_loss"}
"""Losses written out by hand, by what their value is."""

MOST_PARTS = 64
"""A loss that goes backward may be divided by so many batches at most."""


def loss_kind(graphs: Sequence[LossGraph]) -> LossKind:
    """Reads watched training steps.

    A loss against targets that the program makes itself (adversarial, contrastive, bootstrapped) may rise in a
    healthy run, and so may a sum of several terms.

    Args:
        graphs: What reached the loss of some training steps; at least one.

    >>> loss_kind([LossGraph(loss=1.0, losses=2)]).supervised
    False
    """
    return _common([_of(graph) for graph in graphs])


def loss_kind_by_hand(graphs: Sequence[LossGraph], *, returned: bool) -> LossKind:
    """Reads watched training steps that call backward themselves.

    Several optimizers or backward passes may pull one another's losses up: what goes backward must be one loss
    function of one target, in every pass of every step that was watched, whole or divided by one number.

    Args:
        graphs: What reached the losses of some training steps; at least one.
        returned: Whether the value that is followed is what the step returns, rather than what goes backward.

    >>> from lightning_debug.evidence.loss import Operand
    >>> call = LossCall(function="mse_loss", value=2.0, reduction="mean", target=Operand(field="y", from_batch=True))
    >>> loss_kind_by_hand([LossGraph(loss=0.5, losses=1, backward=(0.5,), calls=(call,))], returned=False).share
    0.25
    """
    found = [_by_hand(graph, returned) for graph in graphs if all(map(_finite, graph.backward))]
    if not found:
        return LossKind(reason="the loss is not finite in the steps that were watched")
    if len({(kind.share, kind.target) for kind in found if kind.supervised}) > 1:
        return LossKind(reason="the optimization is manual, and other losses go backward in other steps")
    return _common(found)


def _common(found: list[LossKind]) -> LossKind:
    strange = next((kind for kind in found if not kind.supervised), None)
    if strange is not None:
        return strange
    if len({kind.function for kind in found}) > 1:
        return LossKind(reason="the loss is another function in other steps")
    return found[0]


def _of(graph: LossGraph) -> LossKind:
    if graph.loss is None or graph.losses != 1:
        return LossKind(reason="the training step gives several losses, or none")
    calls = [call for call in graph.reaching if call.function != "argmax"]
    same = [call for call in calls if _parts(graph.loss, call) == 1]
    return _of_call(same[0]) if same else LossKind(reason="the loss is not the value of one loss function")


def _of_call(call: LossCall, share: float = 1.0) -> LossKind:
    if call.target is None or not call.target.from_batch or call.target.from_model:
        return LossKind(reason="the loss compares with targets that do not come from the batch")
    smoothed = bool(call.weighted or call.label_smoothing or call.ignored)
    return LossKind(
        supervised=True,
        function=NAMES.get(call.function, call.function),
        plain=not smoothed,
        target=call.target.field,
        share=share,
    )


def _by_hand(graph: LossGraph, returned: bool) -> LossKind:
    if not graph.backward:
        return LossKind(reason="the optimization is manual, and no loss goes backward in the training step")
    calls = [call for call in graph.calls if call.function != "argmax"]
    found: list[tuple[LossCall, int]] = []
    for value in graph.backward:
        known = [(call, parts) for call in calls if (parts := _parts(value, call))]
        if not known:
            return LossKind(reason="the optimization is manual, and what goes backward is no single loss function")
        found.append(min(known, key=lambda one: one[1]))
    kinds = {(call.function, call.target.field if call.target else "") for call, _ in found}
    if len(kinds) > 1 or len({parts for _, parts in found}) > 1:
        return LossKind(reason="the optimization is manual, and several losses go backward one by one")
    parts = found[0][1]
    if returned:  # the loss of one pass, or of all together
        mean = sum(call.value or 0.0 for call, _ in found) / len(found)
        whole = LossCall(function="", value=mean, reduction="mean")
        among = [_parts(graph.loss, call) for call in (whole, *(call for call, _ in found))]
        parts = next((one for one in among if one), 0)
        if not parts:
            return LossKind(reason="the optimization is manual, and what the step returns is not what goes backward")
    return _of_call(found[0][0], 1.0 / parts)


def _finite(value: float | None) -> bool:
    return value is None or math.isfinite(value)


def _parts(value: float | None, call: LossCall) -> int:
    """By which whole number the value of a call was divided; 0 where it was not, or is no mean."""
    averaged = call.by_hand or call.reduction == "mean"
    if value is None or call.value is None or not averaged:
        return 0
    if math.isclose(call.value, value, rel_tol=1e-3, abs_tol=1e-7):
        return 1
    ratio = call.value / value if value else 0.0
    parts = round(ratio) if math.isfinite(ratio) else 0
    divided = 2 <= parts <= MOST_PARTS and math.isclose(call.value, parts * value, rel_tol=1e-4)
    return parts if divided else 0
