"""Targets, or outputs, that are not as many as the other: where their number comes from."""

from __future__ import annotations

from lightning_debug.evidence.errors import ErrorOperand, ErrorRaised
from lightning_debug.rules._errors_batch import hard_coded
from lightning_debug.rules._errors_words import Diagnosis, named

FACTORIES = ("zeros", "ones", "full", "arange", "empty", "rand", "randn", "tensor")


def constant_target(error: ErrorRaised, scores: ErrorOperand, target: ErrorOperand) -> Diagnosis | None:
    """Targets made in the step, as many as a full batch has, where the batch is smaller (one of several, perhaps)."""
    sizes = {item.shape[0] for item in error.fields if item.shape}
    if target.made_by not in FACTORIES or not scores.shape or not target.shape or scores.shape[0] not in sizes:
        return None
    size, written = scores.shape[0], target.shape[0]
    if size >= written or written == error.batch_size or len(target.shape) > len(scores.shape):
        return None
    fix = (
        f"Take the size from the tensor (x.size(0)) where {named(target, 'the target')} is made"
        f"{f' ({target.made_at})' if target.made_at else ''}, instead of {written}."
    )
    return hard_coded(error, written, size, fix, target.made_at)


def turned_input(error: ErrorRaised, given: int, wanted: int) -> str:
    """The edit, where the number of outputs is a size of the input that no layer made, and another is wanted."""
    if any(row.operation.lower() == "linear" and row.output[-1:] == (given,) for row in error.rows):
        return ""
    for item in error.fields:
        sizes = item.shape[1:]
        if len(sizes) > 1 and sizes.count(given) == sizes.count(wanted) == 1:
            one, two = sorted((sizes.index(given) + 1, sizes.index(wanted) + 1))
            return (
                f"No layer makes these {given} outputs: they are a size of {item.name} {item.shape}, and the targets "
                f"are {wanted}. Swap its dimensions {one} and {two} where the dataset makes it, or in the step: "
                f"{item.name}.transpose({one}, {two})."
            )
    return ""
