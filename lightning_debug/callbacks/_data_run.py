"""DataRun: takes batches in, tells what their fields are for, and hands them to the parts that look."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from lightning_debug.callbacks import _arguments
from lightning_debug.callbacks._base import GIVE_UP_AFTER, DebugCallback
from lightning_debug.callbacks._data_part import DataContext, DataPart, Stage
from lightning_debug.callbacks._data_tap import BatchTap
from lightning_debug.callbacks._data_watch import StepWatch
from lightning_debug.callbacks._lightning import moment
from lightning_debug.evidence import Evidence
from lightning_debug.evidence.data import LabelCounts
from lightning_debug.experiments.isolation import in_sandbox
from lightning_debug.probes.batch_roles import Field, batch_roles, last_key, with_tensors
from lightning_debug.probes.batch_samples import size_at
from lightning_debug.probes.deferred_batches import HostCopies, on_device
from lightning_debug.probes.held_batches import HeldBatches

RARE = 10
"""A class is rare that has less than so small a part of the samples, and less than half of an equal part."""
FIRST = 32
"""How many batches of each loader are looked at closely, before that becomes rare."""
MISFITS = 8
"""So many batches unlike the one before, as of texts, and no more of that loader's are held."""
EPOCHS_COPIED = 4
"""Batches on a device are copied to the host in so many epochs; after that, only those looked at closely."""
_STAGES: dict[Any, Stage] = {"train": "train", "validate": "validate"}


class DataRun:
    """What is known of one reading of the data: the run in progress, or a scan before it.

    Args:
        auditor: Whose session the evidence goes to.
        context: The loaders.
        parts: Who is handed every batch.
        inputs: Names of the batch's inputs, where they are not plain.
        labels: Likewise of the labels.
    """

    def __init__(
        self,
        auditor: DebugCallback,
        context: DataContext,
        parts: Sequence[type[DataPart]],
        inputs: str | list[str] | None = None,
        labels: str | list[str] | None = None,
    ) -> None:
        self.auditor, self.context = auditor, context
        self._names = {"inputs": inputs, "labels": labels}
        self.parts: list[DataPart] = [kind() for kind in parts]
        self.tap: BatchTap | None = None
        self.delivered: Counter[Stage] = Counter()
        self._failures: Counter[DataPart] = Counter()
        self._seen: Counter[tuple[str, int]] = Counter()
        self._in_epoch: Counter[tuple[str, int]] = Counter()
        self._known: dict[tuple[str, int], list[Field]] = {}
        self._copies: HostCopies[Callable[[Sequence[Field]], None]] = HostCopies()
        self._held: dict[tuple[Stage, int], HeldBatches] = {}
        self._misfits: Counter[tuple[Stage, int]] = Counter()
        self.watch = StepWatch(self.observe, self.guard, auditor.session, context.turns)

    def begin(self) -> None:
        """Has every part start with nothing."""
        for part in list(self.parts):
            self.ask(part, "begin", functools.partial(part.begin, self.context))

    def known(self, stage: Stage, loader_index: int) -> list[Field]:
        """The fields of the batches seen last, without their values."""
        return self._known.get((stage, loader_index), [])

    def observe(self, evidence: Evidence) -> None:
        """Records evidence as of now."""
        self._look_for_rare(evidence)
        self.auditor.session.observe(dataclasses.replace(evidence, at=moment(self.context.trainer)))

    def guard(self, what: Callable[[], None]) -> None:
        """Does something of ours that must not disturb the step."""
        with self.auditor.attempt("following a step", self.context.trainer):
            what()

    def _look_for_rare(self, evidence: Evidence) -> None:
        if isinstance(evidence, LabelCounts) and evidence.stage == "train" and len(evidence.counts) > 1:
            share = min(evidence.counts) / sum(evidence.counts)
            self.watch.rare |= RARE * share < 1 and 2 * len(evidence.counts) * share < 1

    def restart(self, stage: Stage) -> None:
        """An epoch or a validation begins."""
        self._read_held()
        for key in [key for key in self._in_epoch if key[0] == stage]:
            del self._in_epoch[key]

    def see(self, batch: Any, loader_index: int) -> None:
        """One batch, as it is about to go to the device."""
        trainer = self.context.trainer
        stage = _STAGES.get(getattr(trainer.state.stage, "value", None))
        if stage is None or in_sandbox() or not self.parts:
            return
        try:
            if not self._holds(stage, loader_index, batch) and not self._passes(stage, loader_index, batch):
                fields = self.read(stage, loader_index, trainer.current_epoch, batch)
                if fields is not None and self._seen[stage, loader_index] > FIRST:
                    self._hold_next(stage, loader_index, batch, fields)
        except Exception:  # a guard around each batch would cost more than most batches
            with self.auditor.attempt("reading a batch", trainer):
                raise

    def _holds(self, stage: Stage, loader_index: int, batch: Any) -> bool:
        """Whether this batch is held back, to be read with others like it."""
        key = stage, loader_index
        held = self._held.get(key)
        if held is None:
            return False
        audited = is_audited(self._seen[key])
        if audited or not held.take(batch):
            self._misfits[key] += not audited and not len(held)
            self._read_held(key)
            return False
        self._count(key, held.size)
        if held.is_full:
            self._read_held(key)
            if self._may_hold(stage, loader_index):
                self._held[key] = held
        return True

    def _may_hold(self, stage: Stage, loader_index: int) -> bool:
        wanting = [part for part in self.parts if part.wants(stage)]
        return bool(wanting) and all(part.keys_suffice(stage, loader_index) for part in wanting)

    def _read_held(self, *keys: tuple[Stage, int]) -> None:
        """Hands on what is held of some loaders, or of all; then nothing more is held until another batch was read."""
        for key in keys or [*self._held]:
            held = self._held.pop(key)
            index = self._in_epoch[key] - len(held)
            for place, fields in enumerate(held.release(), index):
                self._hand_on(*key, held.epoch, place, held.size, False, None, fields)

    def _hold_next(self, stage: Stage, loader_index: int, batch: Any, fields: Sequence[Field]) -> None:
        """Has the batches after this one held back, as long as they are like it."""
        key = stage, loader_index
        if self._misfits[key] >= MISFITS or not self._may_hold(stage, loader_index):
            return
        held = HeldBatches.like(batch, fields, self.context.trainer.current_epoch)
        if held is None:
            self._misfits[key] = MISFITS
        else:
            self._held[key] = held

    def _count(self, key: tuple[Stage, int], size: int) -> None:
        self._seen[key] += 1
        self._in_epoch[key] += 1
        self.delivered[key[0]] += size

    def _passes(self, stage: Stage, loader_index: int, batch: Any) -> bool:
        """Whether nobody wants this batch; then it is counted. What is done here is done in every step."""
        key = stage, loader_index
        if is_audited(self._seen[key]) or len(self._copies):
            return False
        for part in self.parts:
            if part.wants(stage):
                return False
        first = next((item for item in self._known.get(key, ()) if item.dim is not None), None)
        size = None if first is None else size_at(first.path, first.dim or 0, batch)
        if size is None:
            return False
        self._count(key, size)
        return True

    def read(self, stage: Stage, loader_index: int, epoch: int, batch: Any) -> list[Field] | None:
        """Hands a batch on. Returns its fields, where that was done at once."""
        key = stage, loader_index
        number, index = self._seen[key], self._in_epoch[key]
        self._seen[key] += 1
        self._in_epoch[key] += 1
        looked = is_audited(number)
        fields = self._fields(key, batch, number)
        if fields is None:
            return None
        size = next((item.size for item in fields if item.size), 0)
        self.delivered[stage] += size
        copied = any(on_device(item.tensor) for item in fields)
        if not copied and not len(self._copies):
            self._hand_on(stage, loader_index, epoch, index, size, looked, batch, fields)
            return fields
        if looked or not copied or epoch < EPOCHS_COPIED:
            tell = functools.partial(self._hand_on, stage, loader_index, epoch, index, size, looked, batch)
            self._copies.put(tell, fields, whole=looked)
        self._tell(self._copies.arrived())
        return None

    def _hand_on(
        self,
        stage: Stage,
        loader_index: int,
        epoch: int,
        index: int,
        size: int,
        looked: bool,
        batch: Any,
        fields: Sequence[Field],
    ) -> None:
        for part in list(self.parts):
            if looked or part.wants(stage):
                try:  # `ask` in place: this is done in every step
                    self._take(part.saw(stage, loader_index, epoch, index, fields, size, audited=looked, batch=batch))
                except Exception as error:
                    self._failed(part, "saw", error)

    def _tell(self, arrived: Iterable[tuple[Callable[[Sequence[Field]], None], list[Field]]]) -> None:
        for tell, fields in arrived:
            tell(fields)

    def end_of_epoch(self, stage: Stage) -> None:
        """An epoch or a validation ended."""
        self._read_held()
        self._tell(self._copies.wait())
        for part in list(self.parts):
            self.ask(part, "end_of_epoch", functools.partial(part.end_of_epoch, stage))

    def finish(self, *, wait: bool = True) -> None:
        """No more comes. What is on its way from the device is read, or forgotten."""
        self._read_held()
        if wait:
            self._tell(self._copies.wait())
        self._copies.drop()
        for part in list(self.parts):
            self.ask(part, "finish", part.finish)

    def ask(self, part: DataPart, what: str, question: Callable[[], Iterable[Evidence] | None]) -> None:
        """Calls a part and records what it returns; what it raises becomes LD001, and the others go on."""
        try:
            self._take(question())
        except Exception as error:
            self._failed(part, what, error)

    def _take(self, found: Iterable[Evidence] | None) -> None:
        for evidence in found or ():
            self._look_for_rare(evidence)
            self.auditor.session.observe(evidence)

    def _failed(self, part: DataPart, what: str, error: Exception) -> None:
        session = self.auditor.session
        if session.settings.strict:
            raise error
        self._failures[part] += 1
        given_up = self._failures[part] >= GIVE_UP_AFTER
        if given_up:
            self.parts.remove(part)
        where = f"DataAuditor: {type(part).__name__}.{what}"
        session.failed(where, error, moment(self.context.trainer), given_up=given_up)

    def _fields(self, key: tuple[str, int], batch: Any, number: int) -> list[Field] | None:
        """The fields with their roles; ``None`` where telling those would make the host wait, and not at the start."""
        known = self._known.get(key)
        fields = None if known is None else with_tensors(known, batch)
        if fields is None:
            if number >= FIRST and any(on_device(item.tensor) for item in known or ()):
                return None
            fields = batch_roles(batch, **self._names)
            if key == ("train", 0) and not number and self.context.trainer.global_rank == 0:
                there = sorted({name for item in fields for name in (item.path, last_key(item.path))})
                _arguments.missing("DataAuditor", there, "field of the batch", **self._names)
            self._known[key] = [_emptied(item) for item in fields]
        return fields


def is_audited(number: int) -> bool:
    """Whether the batch with this number, from 0, is looked at closely.

    >>> sum(is_audited(number) for number in range(1000))
    56
    """
    return number < FIRST or (number < 50 * FIRST and number % 50 == 0) or number & (number - 1) == 0


def _emptied(field: Field) -> Field:
    """The field without its values, which belong to a batch that is gone."""
    shape = [0] * field.tensor.ndim
    return dataclasses.replace(field, tensor=field.tensor.new_empty(shape))
