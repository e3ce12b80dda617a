"""DataAuditor: reads along what the loaders deliver, and tells what is wrong with it."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Literal

from lightning_debug.callbacks._base import GIVE_UP_AFTER, DebugCallback
from lightning_debug.callbacks._data_part import DataContext, DataPart, Stage
from lightning_debug.callbacks._data_parts import PARTS_OF_DATA
from lightning_debug.callbacks._data_tap import HOOK, BatchTap
from lightning_debug.callbacks._data_watch import PRODUCES, StepWatch, can_watch
from lightning_debug.callbacks._lightning import LightningModule, Trainer, batch_hook_owner, moment
from lightning_debug.evidence import Evidence
from lightning_debug.evidence.data import LabelCounts
from lightning_debug.experiments.isolation import in_sandbox
from lightning_debug.probes.batch_roles import Field, batch_roles, batch_size_of, with_tensors
from lightning_debug.probes.deferred_batches import HostCopies, on_device

RARE = 10
FIRST = 32
"""How many batches of each loader are looked at closely, before that becomes rare."""
EPOCHS_COPIED = 4
"""Batches on a device are copied to the host in so many epochs; after that, only those looked at closely."""


class DataAuditor(DebugCallback):
    """Finds what is wrong with the data while the run reads it: scale, layout, labels, order, copies, leaks.

    It sees every batch of training and validation on the host, before it goes to the device, and never iterates a
    loader itself. The first batches are looked at closely, later ones rarely.

    Args:
        inputs: Names of the batch's inputs, where they are not plain: the last key of the path (``"image"``), or the
            whole of it (``"batch[0]"``).
        labels: Likewise of the labels.
    """

    produces: ClassVar[tuple[type[Evidence], ...]] = tuple(
        dict.fromkeys([*(kind for part in PARTS_OF_DATA for kind in part.produces), *PRODUCES])
    )

    _run: _Run | None = None

    def __init__(self, inputs: str | list[str] | None = None, labels: str | list[str] | None = None) -> None:
        self.inputs, self.labels = inputs, labels

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins to read along."""
        self._end()
        if trainer.barebones:
            return
        run = self._run = _Run(self, DataContext(trainer, pl_module))
        for part in list(run.parts):
            run.ask(part, "begin", functools.partial(part.begin, run.context))
        run.tap = BatchTap(batch_hook_owner(trainer, HOOK), run.see)
        reason = can_watch(pl_module)
        for kind in PRODUCES if reason else ():
            self.unavailable(kind, reason, trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Counts batches from 0 again."""
        if self._run is not None:
            self._run.restart("train")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Arranges for the coming step to be watched, on the steps that are."""
        if self._run is not None:
            known = self._run.known("train", 0)
            self._run.watch.train_batch(pl_module, batch, batch_idx, trainer.current_epoch, known)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Arranges for the coming step to be watched, on the steps that are."""
        if self._run is not None and not trainer.sanity_checking and dataloader_idx == 0:
            self._run.watch.validation_batch(pl_module, batch, batch_idx, self._run.known("validate", 0))

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Counts batches from 0 again."""
        if self._run is not None:
            self._run.restart("validate")
            self._run.watch.validation_begins()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Has the heavier work done."""
        if self._run is not None:
            self._run.end_of_epoch("train")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Has the heavier work done."""
        if self._run is not None and not trainer.sanity_checking:
            self._run.end_of_epoch("validate")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tells what was gathered."""
        self._finish()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Tells what was gathered so far."""
        self._finish(wait=False)  # the device may not answer any more

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Takes the tap away."""
        self._end()

    def _finish(self, *, wait: bool = True) -> None:
        run = self._run
        self._end()
        if run is not None:
            run.complete(wait=wait)
            for part in list(run.parts):
                run.ask(part, "finish", part.finish)

    def _end(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            run.watch.release()
            if run.tap is not None:
                run.tap.remove()

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state.pop("_run", None)
        return state


class _Run:
    """What is known of the run in progress."""

    def __init__(self, auditor: DataAuditor, context: DataContext) -> None:
        self.auditor, self.context = auditor, context
        self.parts: list[DataPart] = []
        self.tap: BatchTap | None = None
        self._failures: Counter[DataPart] = Counter()
        self._seen: Counter[tuple[str, int]] = Counter()
        self._in_epoch: Counter[tuple[str, int]] = Counter()
        self._known: dict[tuple[str, int], list[Field]] = {}
        self._copies: HostCopies[Callable[[Sequence[Field]], None]] = HostCopies()
        for kind in PARTS_OF_DATA:
            self.parts.append(kind())
        self.watch = StepWatch(self.observe, self.guard)

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
            self.watch.rare |= RARE * min(evidence.counts) < sum(evidence.counts)

    def restart(self, stage: Literal["train", "validate"]) -> None:
        """An epoch or a validation begins."""
        for key in [key for key in self._in_epoch if key[0] == stage]:
            del self._in_epoch[key]

    def see(self, batch: Any, loader_index: int) -> None:
        """One batch, as it is about to go to the device."""
        now = moment(self.context.trainer)
        if now.stage not in ("train", "validate") or in_sandbox() or not self.parts:
            return
        with self.auditor.attempt("reading a batch", self.context.trainer):
            stage: Stage = "train" if now.stage == "train" else "validate"
            key = stage, loader_index
            number, index = self._seen[key], self._in_epoch[key]
            self._seen[key] += 1
            self._in_epoch[key] += 1
            looked = is_audited(number)
            fields = self._fields(key, batch, number)
            if fields is None:
                return
            size = batch_size_of([item.tensor.shape for item in fields])
            tell = functools.partial(self._hand_on, stage, loader_index, now.epoch, index, size, looked, batch)
            copied = any(on_device(item.tensor) for item in fields)
            if copied or len(self._copies):
                if looked or not copied or now.epoch < EPOCHS_COPIED:
                    self._copies.put(tell, fields, whole=looked)
                self._read(self._copies.arrived())
            else:
                tell(fields)

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
            saw = functools.partial(part.saw, stage, loader_index, epoch, index, fields, size)
            self.ask(part, "saw", functools.partial(saw, audited=looked, batch=batch))

    def _read(self, arrived: Iterable[tuple[Callable[[Sequence[Field]], None], list[Field]]]) -> None:
        for tell, fields in arrived:
            tell(fields)

    def end_of_epoch(self, stage: Stage) -> None:
        """An epoch or a validation ended."""
        self._read(self._copies.wait())
        for part in list(self.parts):
            self.ask(part, "end_of_epoch", functools.partial(part.end_of_epoch, stage))

    def complete(self, *, wait: bool) -> None:
        """Reads what is on its way from the device, or forgets it."""
        if wait:
            self._read(self._copies.wait())
        self._copies.drop()

    def ask(self, part: DataPart, what: str, question: Callable[[], Iterable[Evidence] | None]) -> None:
        """Calls a part and records what it returns; what it raises becomes LD001, and the others go on."""
        session, where = self.auditor.session, f"DataAuditor: {type(part).__name__}.{what}"
        now = moment(self.context.trainer)
        try:
            for evidence in question() or ():
                self._look_for_rare(evidence)
                session.observe(evidence)
        except Exception as error:
            if session.settings.strict:
                raise
            self._failures[part] += 1
            given_up = self._failures[part] >= GIVE_UP_AFTER
            if given_up:
                self.parts.remove(part)
            session.failed(where, error, now, given_up=given_up)

    def _fields(self, key: tuple[str, int], batch: Any, number: int) -> list[Field] | None:
        """The fields with their roles; ``None`` where telling those would make the host wait, and not at the start."""
        known = self._known.get(key)
        fields = None if known is None else with_tensors(known, batch)
        if fields is None:
            if number >= FIRST and any(on_device(item.tensor) for item in known or ()):
                return None
            fields = batch_roles(batch, inputs=self.auditor.inputs, labels=self.auditor.labels)
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
