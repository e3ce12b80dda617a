"""DataRelations: how samples relate to labels, to each other, to their order, and across loaders."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from lightning_debug.callbacks._data_alignment import alignment, depend
from lightning_debug.callbacks._data_augmented import augmentations
from lightning_debug.callbacks._data_given import GivenColumns
from lightning_debug.callbacks._data_leaks import name_of, ordering_of, shared_samples
from lightning_debug.callbacks._data_learning import KeptBatches, label_learning
from lightning_debug.callbacks._data_part import DataContext, DataPart, Source, Stage
from lightning_debug.evidence import Evidence, Unavailable
from lightning_debug.evidence.data_augmentation import AugmentedNeighbours, MixedSamples
from lightning_debug.evidence.data_relations import (
    EpochOrders,
    LabelAlignment,
    LabelLearning,
    SampleCopies,
    SampleOrder,
    SharedSamples,
)
from lightning_debug.evidence.data_values import LabelColumns
from lightning_debug.probes.batch_roles import Field
from lightning_debug.probes.order_labels import is_irregular
from lightning_debug.probes.order_loader import draws_again, draws_an_order, is_filled
from lightning_debug.probes.relation_copies import are_balancing, chance, conflicts, groups, read_by_each
from lightning_debug.probes.relation_epochs import ENOUGH as ENOUGH_READ
from lightning_debug.probes.relation_epochs import EpochMark, LaterEpoch, again, entropy, mark_of
from lightning_debug.probes.relation_fingerprints import among
from lightning_debug.probes.relation_order import order_of
from lightning_debug.probes.relation_raw import kept_apart, raw_samples
from lightning_debug.probes.relation_stream import Samples, SampleStream

EPOCHS = 4
"""So many epochs are compared."""
FEWEST = 16
"""Orders of fewer samples are alike by chance too often."""


class DataRelations(DataPart):
    """Keeps 16 bytes a sample of the first epoch and of the first validation, and asks its questions at their end."""

    produces = (
        SampleOrder,
        EpochOrders,
        SampleCopies,
        SharedSamples,
        LabelAlignment,
        LabelLearning,
        AugmentedNeighbours,
        MixedSamples,
        LabelColumns,
    )

    def begin(self, context: DataContext) -> None:
        """Starts with nothing."""
        self._context = context
        self._epoch: SampleStream | LaterEpoch = SampleStream()
        self._first: Samples | None = None
        self._marks: list[EpochMark] = []
        self._validation: dict[int, SampleStream] = {}
        self._validated = False
        self._leaks_told = False
        self._independent = self._fixed = False
        self._given = GivenColumns()
        self._kept: dict[Stage, KeptBatches] = {"train": KeptBatches(), "validate": KeptBatches()}

    def saw(
        self,
        stage: Stage,
        loader_index: int,
        epoch: int,
        batch_index: int,
        fields: Sequence[Field],
        size: int,
        *,
        audited: bool,
        batch: Any,
    ) -> Iterable[Evidence] | None:
        """Takes keys and labels."""
        new = self._first is None if stage == "train" else not self._validated  # later epochs bring the same again
        if new and not self._context.scanning:
            self._kept[stage].add(batch, fields, size)
        if stage == "train":
            if not self._given.known:
                self._given.note(fields, size)
            if not batch_index and self._epoch.count:  # an epoch that was cut short
                self._epoch = self._next_epoch()
            if len(self._marks) < EPOCHS:
                self._epoch.add(fields, size)
        elif not self._validated:
            self._validation.setdefault(loader_index, SampleStream()).add(fields, size)
        return None

    def end_of_epoch(self, stage: Stage) -> Iterable[Evidence] | None:
        """Looks at the first epoch as a whole, and compares the order of the next ones with it."""
        self._validated = self._validated or (stage == "validate" and bool(self._validation))
        found = list(self._of_epoch()) if stage == "train" else []
        found += self._leaks() if self._validated else []
        self._let_go()
        return found

    def _let_go(self) -> None:
        """Forgets values of samples that nothing asks for any more."""
        if self._first is None or not (self._leaks_told or not self._context.sources("validate")):
            return
        self._first.rows = self._first.rows[:0].copy()
        if not self._independent:
            self._validation, self._kept = {}, {"train": KeptBatches(), "validate": KeptBatches()}

    def finish(self) -> Iterable[Evidence]:
        """What is known when training ends before its first epoch, or without a whole validation."""
        if self._first is None and self._epoch.count:
            yield from self._of_epoch()
        if not self._leaks_told:
            yield from self._leaks()
        if self._independent and not self._context.scanning:
            learned = label_learning(self._context, self._kept, self._validation.get(0) if self._fixed else None)
            yield from [learned] if learned is not None else []

    def _of_epoch(self) -> Iterator[Evidence]:
        if len(self._marks) >= EPOCHS or not self._epoch.count:
            return
        epoch = self._epoch
        if isinstance(epoch, SampleStream):
            samples = self._first = epoch.samples()
            self._marks.append(mark_of(samples, epoch.everything))
            yield from self._of_first(samples)
        else:
            self._marks.append(epoch.mark())
            yield from self._orders()
        self._epoch = self._next_epoch()

    def _next_epoch(self) -> SampleStream | LaterEpoch:
        return SampleStream() if self._first is None else LaterEpoch(self._first, same=not self._fixed)

    def wants(self, stage: Stage) -> bool:
        """Nothing more after the first validation, and once the order of the epochs is known."""
        if stage == "validate":
            return not self._validated
        return len(self._marks) < EPOCHS and not (isinstance(self._epoch, LaterEpoch) and self._epoch.over)

    def keys_suffice(self, stage: Stage, loader_index: int) -> bool:
        """Once enough values and batches are kept."""
        stream = self._epoch if stage == "train" else self._validation.get(loader_index)
        kept = self._kept[stage].is_over or self._context.scanning or (stage == "train" and self._first is not None)
        return kept and stream is not None and stream.asks_for_keys

    @property
    def _source(self) -> Source | None:
        """The training loader, if there is one only."""
        sources = self._context.sources("train")
        return sources[0] if len(sources) == 1 else None

    @property
    def _overfitting(self) -> bool:
        return any(getattr(self._context.trainer, name, 0) for name in ("overfit_batches", "fast_dev_run"))

    @property
    def _reloads(self) -> bool:
        return bool(getattr(self._context.trainer, "reload_dataloaders_every_n_epochs", 0))

    def _of_first(self, samples: Samples) -> Iterator[Evidence]:
        source = self._source
        sampler, shuffled = ordering_of(source)
        streams = source is None or source.streams
        raw = raw_samples(source.dataset) if source is not None and not streams else None
        self._fixed = raw is not None and not self._is_changed(raw)  # what a dataset holds comes again in each epoch
        at = self._context.moment()
        if (samples.kind or samples.several.kind) and len(samples) >= 2:
            yield SampleOrder(
                at=at,
                samples=len(samples),
                batches=len(samples.sizes),
                batch_size=max(samples.sizes),
                **order_of(samples),
                shuffled=shuffled,
                sampler=type(sampler).__name__,
                streams=streams,
                dataset=name_of(source),
                overfitting=self._overfitting,
            )
        withheld = self._withheld(raw, samples) if raw is not None else 0
        held = raw if raw is None or source is None or self._fixed else kept_apart(raw, source.dataset, samples)
        compared = held if held is not None and held.rows.shape[1] > 1 and not withheld else samples
        if samples.kind or source is None or not source.hands_on_bags(max(samples.sizes, default=0)):
            yield self._copies(compared, source, sampler, withheld, in_dataset=compared is raw)
        yield from self._aligned(samples, raw)
        given = self._given.evidence(samples, self._kept["train"].batches.first(1), self._context)
        yield from [given] if given is not None else []

    def _withheld(self, raw: Samples, samples: Samples) -> int:
        """Samples that the dataset holds and never gives, though each of its indices was asked for once."""
        source = self._source
        if source is None or not self._fixed or not len(source.dataset) == len(raw) == len(samples):
            return 0
        if draws_again(ordering_of(source)[0]) or not among(samples.keys, raw.keys).all():
            return 0
        return len(raw) - int(among(raw.keys, samples.keys).sum())

    def _copies(
        self, samples: Samples, source: Source | None, sampler: Any, withheld: int, *, in_dataset: bool
    ) -> SampleCopies:
        found = groups(samples.keys)
        exact, near, expected = chance(samples, np.flatnonzero(found.grouped)) if found.copies else (0, 0, 0.0)
        labelled = samples.kind == "classes"
        conflicting, fewest = conflicts(found, samples.labels) if labelled else (0, 0)
        return SampleCopies(
            at=self._context.moment(),
            samples=len(samples),
            copies=found.copies,
            largest=found.largest,
            once=len(samples) - int(found.grouped.sum()),
            twice=found.twice,
            places=found.places,
            in_dataset=in_dataset,
            withheld=withheld,
            exact=exact,
            near=near,
            expected=expected,
            compared=samples.rows.shape[1],
            labelled=labelled,
            conflicting=conflicting,
            fewest_conflicting=fewest,
            balancing=labelled and are_balancing(found, samples.labels),
            drawn_again=not in_dataset and draws_again(sampler),
            grows=self._reloads or (source is not None and is_filled(source.dataset)),
            sampler=type(sampler).__name__,
            streams=source is None or source.streams,
            readers=0
            if source is None
            else source.num_workers * read_by_each(found, samples.sizes, source.num_workers),
            dataset=name_of(source),
        )

    def _aligned(self, samples: Samples, raw: Samples | None) -> Iterator[Evidence]:
        told = alignment(samples, raw, self._source, fixed=self._fixed)
        if told is not None:
            self._independent = not depend(told) and not told.pooled
            yield dataclasses.replace(told, at=self._context.moment())

    def _orders(self) -> Iterator[Evidence]:
        first = self._marks[0]
        same_size = [mark for mark in self._marks if mark.samples == first.samples >= FEWEST]
        if len(same_size) < 2:
            return
        assert self._first is not None
        begun = self._first.keys[:ENOUGH_READ], self._first.labels[:ENOUGH_READ]
        by_inputs = again(mark.inputs for mark in same_size) if entropy(begun[0]) >= 64 else 0
        telling = entropy(begun[1]) >= 64 and (self._first.kind == "amounts" or is_irregular(self._first.labels))
        by_labels = again(mark.labels for mark in same_size) if self._first.kind and telling else 0
        sampler, shuffled = ordering_of(self._source)
        yield EpochOrders(
            at=self._context.moment(),
            epochs=len(same_size),
            repeated=max(by_inputs, by_labels),
            repeated_samples=again(mark.everything for mark in same_size),
            by="inputs" if by_inputs >= by_labels else "labels",
            samples=first.samples,
            shuffled=shuffled if shuffled is not None else draws_an_order(sampler) or None,
            sampler=type(sampler).__name__,
            overfitting=self._overfitting,
            dataset=name_of(self._source),
        )

    def _leaks(self) -> Iterator[Evidence]:
        if self._leaks_told or self._first is None:
            return
        self._leaks_told = True
        train, sources = self._source, self._context.sources("validate")
        for index, stream in sorted(self._validation.items()):
            source = sources[index] if index < len(sources) else None
            found = shared_samples(
                train,
                source,
                self._first,
                stream.samples(),
                at=self._context.moment(),
                loader=index,
                loaders=len(sources),
                overfitting=self._overfitting,
            )
            if found is not None:
                yield found
        if not self._validation:
            yield Unavailable(evidence="SharedSamples", reason="no validation batch was seen")
        if 0 not in self._validation or train is None or (train.streams and not train.transforms):
            return
        held_out = self._validation[0].samples()
        yield from augmentations(self._context, train, self._first, held_out, fixed=self._fixed)

    def _is_changed(self, raw: Samples) -> bool:
        assert self._first is not None
        return not bool(among(self._first.keys[:64], raw.keys).all())
