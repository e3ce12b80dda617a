"""Looks into an exception of the user's program: its frames, and its step run again under watch."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from lightning_debug.callbacks._lightning import LightningModule, Trainer, moment
from lightning_debug.callbacks._taps import Shadow
from lightning_debug.evidence.errors import ErrorRaised, MemoryOwners, ShapeRow
from lightning_debug.experiments.isolation import Sandbox, Unrepeatable, isolated, offload_of
from lightning_debug.probes.batch_fields import batch_fields
from lightning_debug.probes.batch_slicing import Uncuttable, batch_size, cut_batch
from lightning_debug.probes.error_batch import containers, items_of, keys_of
from lightning_debug.probes.error_checkpoint import checkpoint_notes
from lightning_debug.probes.error_frames import Scene, about, frames_of, read_scene
from lightning_debug.probes.error_memory import is_out_of_memory, owners, saved_bytes
from lightning_debug.probes.error_operands import held_graphs, operand, unregistered_modules
from lightning_debug.probes.error_trace import Refusal, StepTrace, grouped, guess_batch, mark_batch
from lightning_debug.probes.late_layers import late_layers

ROWS_TOLD = 60
FIELDS_TOLD = 24
MESSAGE_TOLD = 2000
_ASSERTED = re.compile(r"device-side assert|CUDA error|CUBLAS_STATUS|cudaError")


@dataclass
class Held:
    """The batch that a step is at.

    Args:
        step: ``"training_step"`` or ``"validation_step"`` (or that of another loop).
        batch: It.
        index: Its index.
        loader: Its loader's index.
    """

    step: str
    batch: Any
    index: int = 0
    loader: int = 0


@dataclass
class Replay:
    """What a second run of the step told.

    Args:
        rows: Its table of shapes.
        refusal: The call that raised.
        error: What it raised.
        lacking: Why there is none, or less than there could be.
        marked: Whether the batch dimension was found by a run of fewer samples.
    """

    rows: tuple[ShapeRow, ...] = ()
    refusal: Refusal | None = None
    error: BaseException | None = None
    lacking: str = ""
    marked: bool = False
    notes: dict[str, str] = field(default_factory=dict)
    """About the graph of its loss."""


def explain(trainer: Trainer, module: LightningModule, error: Exception, held: Held | None) -> ErrorRaised:
    """Everything that can be told about an exception."""
    batch = held.batch if held is not None else None
    named = batch_fields(batch)
    scene = read_scene(error, module, named)
    told = evidence_of(trainer, module, error, scene, held)
    if is_out_of_memory(error):
        return replace(told, memory=_memory(trainer, module, error, held), lacking=_NO_RERUN)
    if _ASSERTED.search(str(error)):
        return replace(told, lacking="the device no longer answers after this error, so that no value could be read")
    if held is None or scene.phase not in ("training_step", "validation_step", "backward"):
        return told
    if trainer.world_size > 1:
        return replace(told, lacking="the step was not run again: other ranks would have waited")
    found = rerun(trainer, module, held)
    return with_replay(told, found, module)


_NO_RERUN = "the step was not run again: there is no memory for it"


def with_replay(told: ErrorRaised, found: Replay, module: LightningModule) -> ErrorRaised:
    """Adds what a second run told."""
    notes = {**told.notes, **found.notes}
    told = replace(told, rows=found.rows[-ROWS_TOLD:], lacking=found.lacking, notes=notes)
    if told.phase == "backward":
        return replace(told, operation="", operands=(), line=told.line or (found.rows[-1].line if found.rows else ""))
    refusal = found.refusal
    if refusal is None or type(refusal.error).__name__ != told.error:
        return told
    if found.error is not refusal.error:  # caught by the user's code
        return told
    told = replace(told, operation=refusal.operation, operands=refusal.operands, arguments=refusal.arguments)
    if refusal.module_type and not told.module:
        told = replace(told, module=refusal.module, module_type=refusal.module_type)
    if refusal.module and refusal.module == told.module:
        with contextlib.suppress(AttributeError):
            text, settings = about(module.get_submodule(refusal.module))
            told = replace(told, module_about=text, settings=settings)
    return told


def evidence_of(
    trainer: Trainer, module: LightningModule, error: BaseException, scene: Scene, held: Held | None
) -> ErrorRaised:
    """What an exception's frames and the batch told."""
    batch = held.batch if held is not None else None
    named = batch_fields(batch)
    asserted = bool(_ASSERTED.search(str(error)))
    return ErrorRaised(
        at=moment(trainer, held.index if held is not None else None),
        error=type(error).__name__,
        message=str(error)[:MESSAGE_TOLD],
        phase=scene.phase,
        line=scene.line,
        source=scene.source[:500],
        function=scene.function,
        module=scene.module,
        module_type=scene.module_type,
        module_about=scene.module_about,
        settings=scene.settings,
        operation=scene.operation,
        operands=() if asserted else scene.operands,
        fields=() if asserted else tuple(operand(value, name, "batch") for name, value in named[:FIELDS_TOLD]),
        containers=containers(batch, scene.local) if held is not None else {},
        batch_size=size_of(batch),
        full_batch_size=full_size(trainer, held),
        held=tuple(held_graphs(module)[:8]),
        unregistered=tuple(unregistered_modules(module)[:8]),
        notes=_notes(batch, scene, trainer, module) | _loaded(error, scene),
    )


def _loaded(error: BaseException, scene: Scene) -> dict[str, str]:
    frames = frames_of(error.__traceback__) if scene.phase == "loading" else []
    return checkpoint_notes(frame for frame, _ in frames)


def _notes(batch: Any, scene: Scene, trainer: Trainer, module: LightningModule) -> dict[str, str]:
    found = {"device": str(module.device), "precision": str(trainer.precision)}
    keys, items = keys_of(batch), items_of(batch)
    if keys:
        found["keys"] = ", ".join(keys)
    if items is not None:
        found["items"] = str(items)
        found["batch_type"] = type(batch).__name__
    aliases = [name for name, value in scene.local.items() if value is batch and batch is not None]
    if aliases:
        found["batch_names"] = ", ".join(aliases)
    if scene.in_collate:
        found["in_collate"] = "yes"
    if scene.phase == "configure_optimizers" and next(module.parameters(), None) is None:
        for name, line in late_layers(module)[:1]:
            found |= {"late_layer": name, "late_line": line}
    for scheduler in (config.scheduler for config in trainer.lr_scheduler_configs):
        known = len(getattr(scheduler, "base_lrs", ()))
        groups = len(getattr(getattr(scheduler, "optimizer", None), "param_groups", ()))
        if 0 < known < groups:
            found |= {"scheduler": type(scheduler).__name__, "groups": f"{known}, {groups}"}
    return found


def size_of(batch: Any) -> int | None:
    """Samples of a batch; ``None`` where that is not certain."""
    try:
        return batch_size(batch)
    except Uncuttable:
        leading = [len(item) for _, item in batch_fields(batch) if item.ndim]
        return leading[0] if leading else None


def full_size(trainer: Trainer, held: Held | None) -> int | None:
    """The batch size that the loader in use was made with."""
    loaders = trainer.train_dataloader if held is None or held.step == "training_step" else trainer.val_dataloaders
    if isinstance(loaders, (list, tuple)):
        loaders = loaders[held.loader] if held is not None and held.loader < len(loaders) else None
    size = getattr(loaders, "batch_size", None)
    return size if isinstance(size, int) else None


@contextlib.contextmanager
def _sandbox(trainer: Trainer, module: LightningModule) -> Iterator[Sandbox]:
    with torch.inference_mode(False), isolated(trainer, module, offload=offload_of(module)) as sandbox:
        yield sandbox


def rerun(
    trainer: Trainer, module: LightningModule, held: Held, *, batch: Any = None, check: bool = False, mark: bool = True
) -> Replay:
    """Runs a step again in isolation, and once more with a sample less to find the batch dimension.

    Args:
        trainer: The Trainer.
        module: Its module.
        held: The step and its batch.
        batch: Another batch to run it with.
        check: Whether to look at indices before they reach a kernel that asserts.
        mark: Whether to run it with a sample less.
    """
    value = held.batch if batch is None else batch
    try:
        with _sandbox(trainer, module) as sandbox:
            first = _watched(sandbox, module, held, value, check=check)
            size, rows = size_of(value), list(first.rows)
            if mark and size is not None and size > 1:
                first.marked = _mark(sandbox, module, held, value, size, rows)
            if not first.marked:
                guess_batch(rows, size)
            first.rows = grouped(rows)
            return first
    except Unrepeatable as refused:
        return Replay(lacking=f"the step was not run again: {refused}")
    except Exception as other:  # what cannot be copied or put back
        return Replay(lacking=f"the step could not be run again: {type(other).__name__}: {str(other)[:200]}")


def _mark(sandbox: Sandbox, module: LightningModule, held: Held, value: Any, size: int, rows: list[ShapeRow]) -> bool:
    try:
        fewer = cut_batch(value, 0, size - 1)
        sandbox.rewind()
        second = _watched(sandbox, module, held, fewer)
    except Exception:  # a batch that cannot be cut: its dimension is guessed
        return False
    return mark_batch(rows, list(second.rows), size, size - 1)


def _watched(sandbox: Sandbox, module: LightningModule, held: Held, value: Any, *, check: bool = False) -> Replay:
    trace = StepTrace(module, batch_fields(value), check_indices=check)
    found = Replay()

    def watched(step: Any, *args: Any, **kwargs: Any) -> Any:
        with trace:
            return step(*args, **kwargs)

    shadow = Shadow(module, held.step, watched)  # the sandbox's own work on the batch is not traced
    try:
        output = _step(sandbox, held, value)()
        found.notes = trace.graph_notes(sandbox.loss(output))
    except Exception as error:  # the one that is explained, or another: the caller compares
        found.error = error.with_traceback(error.__traceback__)
    finally:
        shadow.remove()
    found.rows, found.refusal = tuple(trace.rows), trace.refusal
    if found.error is None:
        found.refusal = None
    return found


def _step(sandbox: Sandbox, held: Held, value: Any) -> Callable[[], Any]:
    if held.step == "training_step":
        return lambda: sandbox.training_step(value, held.index)
    return lambda: sandbox.validation_step(value, held.index, held.loader)


def _memory(trainer: Trainer, module: LightningModule, error: Exception, held: Held | None) -> MemoryOwners:
    """Memory by owner; what a step keeps is measured on one sample and on two."""
    size = size_of(held.batch) if held is not None else None
    known = owners(module, trainer.optimizers, str(error), size)
    if held is None or held.step != "training_step" or not size or size < 2 or trainer.world_size > 1:
        return known
    traceback, error.__traceback__ = error.__traceback__, None  # its frames hold the failed step's tensors
    try:
        with _sandbox(trainer, module) as sandbox:
            parts = [cut_batch(held.batch, 0, count) for count in (1, 2)]
            one, two = (saved_bytes(module, _step(sandbox, held, part)) for part in parts)
    except Exception:  # no room even for that, or a batch that cannot be cut
        return known
    finally:
        error.__traceback__ = traceback
    each = max(two - one, 0)
    return replace(known, per_sample=each, activations=max(one - each, 0) + each * size)


def kept_by_samples(
    trainer: Trainer, module: LightningModule, held: Held, counts: tuple[int, ...], device: torch.device
) -> list[tuple[int, int]]:
    """What slices of a batch keep for the backward pass on a device, in bytes; nothing where they cannot be run."""
    try:
        with _sandbox(trainer, module) as sandbox:
            parts = [(count, cut_batch(held.batch, 0, count)) for count in counts]
            return [(count, saved_bytes(module, _step(sandbox, held, part), device)) for count, part in parts]
    except Exception:  # no room even for that, or a batch that cannot be cut
        return []
