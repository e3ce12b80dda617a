"""Whether integer targets are classes or amounts."""

from __future__ import annotations

import itertools
import re

from lightning_debug.evidence.loss import LossCall, LossGraph
from lightning_debug.evidence.loss_checks import LabelOrder, StatedIntent
from lightning_debug.record import Record
from lightning_debug.rules._loss_tasks import DISTANCES

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_CLASSIFICATION = frozenset(
    "acc accuracy auc auroc confusion error_rate f1 iou jaccard precision recall top1 top3 top5".split()
)
_REGRESSION = frozenset(
    """
    absolute concordance correlation ev explained kappa kendall mae mape mse msle pearson percentage qwk r2 rmse
    rmsle rse spearman squared variance
    """.split()
)
_OF_CLASSES = ("cross_entropy", "nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits", "log_softmax")
ORDERED = 0.5
"""From this rank correlation on the order of labels shows in the inputs."""


def words(names: tuple[str, ...]) -> set[str]:
    """The words in names, in lower case.

    >>> sorted(words(("valAcc", "test/f1_macro", "R2Score", "train-MAE")))
    ['1', '2', 'acc', 'f', 'f1', 'macro', 'mae', 'r', 'r2', 'score', 'test', 'train', 'val']
    """
    found: set[str] = set()
    for name in names:
        parts = [part.lower() for part in _WORD.findall(name)]
        found.update(parts)
        found.update(one + two for one, two in itertools.pairwise(parts) if two.isdigit())
    return found


def means_classes(
    record: Record,
    graph: LossGraph,
    call: LossCall,
    intent: StatedIntent,
    *,
    rank_correlation: float,
    separation_p: float,
    evenness: float,
    pairs: int,
) -> LabelOrder | None:
    """The labels that one output is compared with, if they are classes; else ``None``."""
    target = call.target
    if call.function not in DISTANCES or target is None or not target.from_batch or not target.integral:
        return None
    size = 1
    for length in target.shape:
        size *= length
    one_output = sum(length > 1 for length in call.scores.shape) <= 1
    if size != graph.batch_size or not one_output or len(intent.fields) < 2 or "ordinal" in intent.words:
        return None
    for order in record.of(LabelOrder):
        if not _is_target(call, order, intent):
            continue
        if order.classes < 3 or order.lowest != 0 or order.highest != order.classes - 1:
            continue
        named = words((*intent.logged, *intent.metrics))
        if named & _REGRESSION:
            continue
        separated = order.separation_p is not None and order.separation_p <= separation_p
        if order.separation_p is not None and not separated:
            continue  # inputs that say nothing of the labels say nothing of their order
        ordered = separated and order.pairs >= pairs and (order.rank_correlation or 0.0) >= ORDERED
        unordered = (
            separated
            and order.pairs >= pairs
            and order.rank_correlation is not None
            and order.rank_correlation < rank_correlation
            and order.fewest >= evenness * order.samples / order.classes
        )
        alone = not any(other.function in _OF_CLASSES for other in graph.reaching)
        if unordered or (named & _CLASSIFICATION and alone and not ordered):
            return order
    return None


def _is_target(call: LossCall, order: LabelOrder, intent: StatedIntent) -> bool:
    """Whether the call's target is the field whose order was measured."""
    assert call.target is not None
    if call.target.field:
        return call.target.field == order.field
    fields = [field for field in intent.fields if field.lowest is not None]
    alike = [field for field in fields if (field.lowest, field.highest) == (call.target.minimum, call.target.maximum)]
    return [field.name for field in alike] == [order.field]
