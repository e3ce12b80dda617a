"""Re-runs a bad step in isolation: which batch field made it bad, or which operation."""

from __future__ import annotations

import copy
import math
import re
from dataclasses import dataclass, replace
from typing import Any

import torch

from lightning_debug.callbacks._guard_state import Batch
from lightning_debug.callbacks._lightning import LightningModule, Trainer
from lightning_debug.callbacks._ranks import is_sharded
from lightning_debug.evidence.numbers import NonFiniteTensor, Origin
from lightning_debug.experiments.isolation import Sandbox, Unrepeatable, isolated
from lightning_debug.finding import FaultFound
from lightning_debug.probes.batch_fields import batch_fields
from lightning_debug.probes.nonfinite import search
from lightning_debug.probes.nonfinite_tensors import bad_fields, bad_weights, replace_bad
from lightning_debug.probes.nonfinite_trace import Search
from lightning_debug.probes.value_flow import HARMLESS

_TELLS = re.compile(
    r"\b(nan|inf|infinite|finite|invalid values|positive-definite|singular|ill-conditioned|between 0 and 1)\b", re.I
)
FINITE = "the re-run of its batch is finite: the step depends on something that has changed since"


@dataclass(frozen=True)
class Inquiry:
    """What is known about a bad step.

    Args:
        fields: Batch fields with values that are not finite.
        weights: Parameters and buffers that are not finite now.
        causes: Fields without whose bad values the step is finite.
        proved: Whether a re-run said so.
        origin: Where it began.
        unknown: Why that is not known.
        gradients: Parameters whose gradient is not finite in the re-run, in backward order.
        total: How many parameters got a gradient in it.
        finite: Whether the re-run was finite; ``None`` without one.
        loss: The loss of the re-run.
    """

    fields: tuple[NonFiniteTensor, ...] = ()
    weights: tuple[NonFiniteTensor, ...] = ()
    causes: tuple[str, ...] = ()
    proved: bool = False
    origin: Origin | None = None
    unknown: str = ""
    gradients: tuple[str, ...] = ()
    total: int = 0
    finite: bool | None = None
    loss: float | None = None


def inquire(
    trainer: Trainer,
    pl_module: LightningModule,
    batch: Batch | None,
    others: list[Batch],
    *,
    late: bool,
    aligned: bool,
) -> Inquiry:
    """Looks at the weights and at a batch, and runs its step again.

    Args:
        trainer: The Trainer, in fit.
        pl_module: Its module.
        batch: The batch of the bad step; ``None`` when it is no longer held.
        others: Other batches that are held, to compare with.
        late: Whether weights were updated since the step.
        aligned: Whether all ranks ask about this step now.
    """
    weights = bad_weights(pl_module)
    broken = [item for item in weights if item.trainable]
    if batch is None:
        return Inquiry(weights=weights, unknown="its batch was no longer held when it was seen; action='skip' finds it")
    fields = bad_fields(batch.value)
    suspects = tuple(item.name for item in fields if not is_mask(item))
    if broken and late:
        told = "the weights were updated with it before it was seen; action='skip' or 'raise' finds it"
        known = {item.name for other in others for item in bad_fields(other.value)}
        causes = tuple(name for name in suspects if others and name not in known)
        return Inquiry(fields, weights, causes, unknown="" if causes else told)
    reason = _not_alone(trainer, pl_module, aligned=aligned)
    if reason:
        origin = Origin(kind="parameter", name=broken[0].name) if broken else None
        return Inquiry(fields, weights, origin=origin, unknown="" if broken else reason)
    try:
        with isolated(trainer, pl_module) as sandbox:
            return _rerun(_Runner(sandbox, pl_module, batch), Inquiry(fields, weights), suspects, trainer)
    except Unrepeatable as error:
        return Inquiry(fields, weights, unknown=str(error))
    except Exception as error:  # the user's step may well raise when it is run a second time
        return Inquiry(fields, weights, unknown=f"its re-run raises {type(error).__name__}: {error}")


def is_mask(field: NonFiniteTensor) -> bool:
    """Whether a field is an additive mask: -Inf and one other value, or -Inf alone."""
    return not field.nan and not field.positive and field.minimum == field.maximum


def _not_alone(trainer: Trainer, pl_module: LightningModule, *, aligned: bool) -> str:
    """Why a re-run could leave other ranks waiting, if it could."""
    if trainer.world_size > 1 and not aligned:
        return "ranks see it at different times, and a re-run on one could leave others waiting; action='skip' finds it"
    if is_sharded(trainer):
        return "ranks hold parts of the model, and a re-run that ends early on one would leave the others waiting"
    if trainer.world_size > 1 and not pl_module.automatic_optimization:
        return "with several ranks and manual optimization a re-run on one of them could leave the others waiting"
    if trainer.world_size > 1 and any("Sync" in type(module).__name__ for module in pl_module.modules()):
        return "with layers that are synchronised over ranks a re-run could leave the others waiting"
    return ""


@dataclass
class _Runner:
    """Runs the step of one batch, again and again, with the random numbers it had."""

    sandbox: Sandbox
    module: LightningModule
    batch: Batch
    runs: int = 0

    def run(self, value: Any, fresh: float = HARMLESS) -> Search:
        if self.runs:
            self.sandbox.rewind()
        self.runs += 1
        automatic = self.module.automatic_optimization

        def step() -> Any:
            torch.set_rng_state(self.batch.cpu)
            if self.batch.cuda is not None:
                torch.cuda.set_rng_state(self.batch.cuda)
            loss = self.sandbox.loss(self.sandbox.training_step(value, self.batch.index))
            return loss if automatic else None

        return search(self.module, step, dict(batch_fields(value)), fresh)

    def without(self, names: tuple[str, ...]) -> Search:
        """The step with the bad values of some fields replaced."""
        value = copy.deepcopy(self.batch.value)
        replace_bad(value, names)
        return self.run(value)


def _rerun(runner: _Runner, known: Inquiry, suspects: tuple[str, ...], trainer: Trainer) -> Inquiry:
    raw = runner.run(runner.batch.value)
    if raw.finite and raw.fresh and trainer.world_size == 1:  # is memory read that nothing was written to?
        spoiled = runner.run(runner.batch.value, math.nan)
        raw = spoiled if not spoiled.finite and spoiled.origin is not None else raw
    known = replace(
        known, origin=raw.origin, gradients=raw.gradients, total=raw.total, finite=raw.finite, loss=raw.loss
    )
    if raw.finite:
        return replace(known, unknown=FINITE)
    if trainer.world_size > 1:  # every rank runs the step once: who runs it twice may wait for those who do not
        causes = (raw.origin.name,) if raw.origin is not None and raw.origin.kind == "input" else ()
        return replace(known, causes=causes)
    if suspects:
        try:
            cured = runner.without(suspects)
            if cured.finite:
                guilty = [name for name in suspects if len(suspects) == 1 or not _innocent(runner, name, suspects)]
                return replace(known, causes=tuple(guilty) or suspects, proved=True)
            known = replace(known, origin=cured.origin or raw.origin)  # not the batch's bad values: something else
        except Exception:  # a batch that cannot be copied
            named = raw.origin.name if raw.origin is not None and raw.origin.kind == "input" else ""
            known = replace(known, causes=(named,) if named else ())
    if known.origin is None:
        return replace(known, unknown="the value comes from code that torch's calls do not show")
    return known


def _innocent(runner: _Runner, name: str, suspects: tuple[str, ...]) -> bool:
    """Whether the step is finite although this field keeps its bad values."""
    return runner.without(tuple(other for other in suspects if other != name)).finite


def tells_of_bad(exception: BaseException) -> bool:
    """Whether an exception of the user's step speaks of a value that is not finite, or may come of one."""
    ours = isinstance(exception, FaultFound)
    about = isinstance(exception, (ValueError, RuntimeError)) and bool(_TELLS.search(str(exception)))
    return about and not ours and "CUDA error" not in str(exception)  # after which no device answers
