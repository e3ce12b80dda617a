"""Which rule tells an exception: a list of judges, the most special first."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache

from lightning_debug.evidence.errors import ErrorRaised
from lightning_debug.finding import Claim
from lightning_debug.record import Record
from lightning_debug.rules._errors_batch import hard_coded_batch, misread_batch
from lightning_debug.rules._errors_calls import refused_calls
from lightning_debug.rules._errors_checkpoint import unfit_checkpoint
from lightning_debug.rules._errors_graph import graph_faults
from lightning_debug.rules._errors_indices import index_faults
from lightning_debug.rules._errors_kinds import wrong_kinds
from lightning_debug.rules._errors_layers import layer_shapes
from lightning_debug.rules._errors_loader import broken_optimizer, outgrown_scheduler, ragged_batch
from lightning_debug.rules._errors_losses import loss_faults
from lightning_debug.rules._errors_memory import out_of_memory_by_owner
from lightning_debug.rules._errors_monitor import unlogged_value
from lightning_debug.rules._errors_shapes import free_shapes
from lightning_debug.rules._errors_text import enriched
from lightning_debug.rules._errors_types import device_faults, dtype_faults
from lightning_debug.rules._errors_words import Diagnosis, described, edit, table

JUDGES: tuple[Callable[[ErrorRaised], Diagnosis | None], ...] = (
    unlogged_value,
    out_of_memory_by_owner,
    ragged_batch,
    broken_optimizer,
    outgrown_scheduler,
    unfit_checkpoint,
    misread_batch,
    graph_faults,
    device_faults,
    index_faults,
    wrong_kinds,
    refused_calls,
    hard_coded_batch,
    loss_faults,
    dtype_faults,
    layer_shapes,
    free_shapes,
)
_OWN = re.compile(r"(raise|assert)\b")
FORETOLD = {"LD103", "LD106", "LD107", "LD108", "LD116"}
"""What may be told of a step that was tried in isolation: the rest could come of the trial itself."""


def diagnose(error: ErrorRaised) -> Diagnosis | None:
    """What an exception comes from; ``None`` for what this tool does not know."""
    return _diagnose(_Key(error))


class _Key:
    """An error by identity: evidence with mappings cannot be hashed."""

    def __init__(self, error: ErrorRaised) -> None:
        self.error = error

    def __hash__(self) -> int:
        return id(self.error)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other.error is self.error


@lru_cache(maxsize=64)
def _diagnose(key: _Key) -> Diagnosis | None:
    if _OWN.match(key.error.source) and not out_of_memory_by_owner(key.error):
        return None  # raised by a check of the user's own
    known = enriched(key.error)
    for judge in JUDGES:
        found = judge(known)
        if found is not None:
            return found
    return None


def claims(record: Record, code: str) -> Iterator[Claim]:
    """The claims of one rule of this family."""
    for error in record.of(ErrorRaised):
        if not error.phase and not error.foretold:
            continue
        found = diagnose(error)
        if found is None or found.code != code or (error.foretold and code not in FORETOLD):
            continue
        yield claim(error, found)


def claim(error: ErrorRaised, found: Diagnosis) -> Claim:
    """A diagnosis as a claim."""
    known = enriched(error)
    tried = "" if found.code == "LD108" else ", and the step raises on it"  # a batch too large was not tried
    told = f"{error.foretold[:1].upper()}{error.foretold[1:]}{tried}: " if error.foretold else ""
    measured = {"cause": found.cause, **found.measured}
    if error.module:
        measured["module"] = error.module
    if error.operation:
        measured["operation"] = error.operation
    if known.operands:
        measured["operands"] = "; ".join(map(described, known.operands[:6]))
    if error.source:
        measured["source"] = error.source
    if error.rows:
        measured["shapes"] = table(error.rows)
    if error.lacking:
        measured["lacking"] = error.lacking
    subject = found.subject or error.line or error.module or error.operation or "the step"
    return Claim(message=f"{told}{found.message}", subject=subject, measured=measured, fix=edit(found.fix), at=error.at)
