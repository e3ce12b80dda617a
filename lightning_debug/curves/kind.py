"""Whether a training loss is one of supervised learning, where lower is better, from what reached it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lightning_debug.evidence.curves import LossKind
from lightning_debug.evidence.loss import LossCall, LossGraph

NAMES = {"selection": "cross_entropy", "difference": "mse_loss"}
"""Losses written out by hand, by what their value is."""


def loss_kind(graphs: Sequence[LossGraph]) -> LossKind:
    """Reads watched training steps.

    A loss against targets that the program makes itself (adversarial, contrastive, bootstrapped) may rise in a
    healthy run, and so may a sum of several terms.

    Args:
        graphs: What reached the loss of some training steps; at least one.

    >>> loss_kind([LossGraph(loss=1.0, losses=2)]).supervised
    False
    """
    found = [_of(graph) for graph in graphs]
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
    same = [call for call in calls if _is_value(call, graph.loss)]
    if not same:
        return LossKind(reason="the loss is not the value of one loss function")
    call = same[0]
    if call.target is None or not call.target.from_batch or call.target.from_model:
        return LossKind(reason="the loss compares with targets that do not come from the batch")
    smoothed = bool(call.weighted or call.label_smoothing or call.ignored)
    return LossKind(
        supervised=True,
        function=NAMES.get(call.function, call.function),
        plain=not smoothed,
        target=call.target.field,
    )


def _is_value(call: LossCall, loss: float) -> bool:
    averaged = call.by_hand or call.reduction == "mean"
    return call.value is not None and averaged and math.isclose(call.value, loss, rel_tol=1e-3, abs_tol=1e-7)
