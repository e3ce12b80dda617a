"""DataDraws: whether workers or epochs draw the same random numbers for their augmentation."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import Any

from torch.utils.data import ConcatDataset, Subset, TensorDataset

from lightning_debug.callbacks._data_part import DataContext, DataPart, Source, Stage
from lightning_debug.callbacks._data_watch import may_follow
from lightning_debug.evidence import Evidence, Unavailable
from lightning_debug.evidence.data_augmentation import AugmentationDraws, AugmentedMaps, AugmentedNeighbours
from lightning_debug.experiments.asking import Traceable, put_back
from lightning_debug.experiments.clock import working_time
from lightning_debug.probes.batch_roles import Field, batch_roles
from lightning_debug.probes.order_loader import asks_for_lists
from lightning_debug.probes.own_copy import own_copy
from lightning_debug.probes.relation_draws import NotCopied, draws, seed_all, states_of_all
from lightning_debug.probes.relation_fingerprints import Keys, among
from lightning_debug.probes.relation_raw import raw_samples
from lightning_debug.probes.relation_stream import SampleStream
from lightning_debug.probes.relation_turns import turned_maps
from lightning_debug.probes.worker_seeds import held_seeds

OURS_TO_TRUST = "pl_worker_init_function"
"""Lightning's own: it seeds the global generators, which torch seeds already."""
SAMPLES, TIMES, SECONDS = 8, 4, 0.5
"""So many samples with pictures and maps are drawn so often, while that takes no more of our own time than this."""


class DataDraws(DataPart):
    """Asks copies of the training dataset for the same samples again, once, after the first epoch.

    What a step itself draws, ``turns`` of the context learns from the samples that this hands it.
    """

    produces = (AugmentationDraws, AugmentedMaps, AugmentedNeighbours)

    def begin(self, context: DataContext) -> None:
        """Starts with nothing."""
        self._context = context
        self._stream = SampleStream(rows=1)
        self._told = False

    def wants(self, stage: Stage) -> bool:
        """A few samples of training."""
        return stage == "train" and self._stream.count < 64

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
        """Remembers a few samples, which show whether they are as they are in memory, and as the net meets them."""
        if audited and not loader_index and not self._context.scanning and may_follow(epoch, batch_index):
            self._context.turns.delivered(stage, (epoch, batch_index), fields)
        if stage == "train" and self._stream.count < 64:
            self._stream.add(fields, size)
        return None

    def end_of_epoch(self, stage: Stage) -> Iterable[Evidence] | None:
        """Draws once."""
        if stage != "train" or self._told:
            return None
        self._told = True
        sources = self._context.sources("train")
        reason = "there are several training loaders"
        if len(sources) == 1:
            try:
                drawn = self._draw(sources[0])
            except NotCopied as error:
                reason = str(error)
            else:
                maps = self._maps(sources[0]) if drawn.redrawn and not drawn.bags else None
                return [drawn] if maps is None else [drawn, maps]
        elif faulty := [item for source in sources for item in self._faulty(source)]:
            return faulty
        return [Unavailable(evidence=AugmentationDraws.__name__, reason=reason, at=self._context.moment())]

    def _faulty(self, source: Source) -> list[Evidence]:
        """What one of several loaders draws that is wrong; the rest says nothing of all of them."""
        try:
            drawn = self._draw(source)
        except NotCopied:
            return []
        maps = self._maps(source) if drawn.redrawn and not drawn.bags else None
        found: list[Evidence] = [drawn] if drawn.views or drawn.reseeds or drawn.copies_agree else []
        if maps is not None and maps.kept:
            found += [maps, AugmentedNeighbours(at=self._context.moment())]  # neighbours are those of one loader
        return found

    def _draw(self, source: Source) -> AugmentationDraws:
        dataset = source.dataset
        if source.streams or not source.length:
            raise NotCopied("the data stream in without an index")
        if is_fixed(dataset, self._stream.samples().keys):
            raise NotCopied("the loader delivers the samples as they are in memory")
        init = getattr(source.loader, "worker_init_fn", None)
        try:
            with put_back(source.collate_fn, dataset):
                found = draws(dataset, source.collate_fn, lists=asks_for_lists(source.loader))
                moved = found.pop("moves")
                workers, epochs = held_seeds(init, seed_all, states_of_all)
        except NotCopied:
            raise
        except Traceable as error:
            raise NotCopied(error.reason) from error
        except Exception as error:  # a dataset that wants to be asked by its loader only
            raise NotCopied(f"a copy of the dataset raises {type(error).__name__}") from error
        given = init.func if isinstance(init, functools.partial) else init
        return AugmentationDraws(
            at=self._context.moment(),
            workers=source.num_workers,
            persistent=bool(getattr(source.loader, "persistent_workers", False)),
            initialised=given is not None and getattr(given, "__name__", "") != OURS_TO_TRUST,
            held=moved if epochs.issuperset(moved) else (),
            held_in_all=workers.issuperset(moved),
            bags=source.hands_on_bags(max(self._stream.samples().sizes, default=0)),
            dataset=type(dataset).__name__,
            **found,
        )

    def _maps(self, source: Source) -> AugmentedMaps | None:
        """What becomes of maps beside pictures that are flipped and turned, as in segmentation."""
        if asks_for_lists(source.loader):
            return None
        count = min(SAMPLES, source.length or 0)
        try:
            with put_back(source.collate_fn, source.dataset):
                own, begun, drawn = own_copy(source.dataset), working_time(), list[list[list[Field]]]()
                for place in range(count):
                    if working_time() - begun > SECONDS:
                        break
                    items = [own[(source.length or 0) * place // count] for _ in range(TIMES)]
                    batches = [source.collate_fn([item]) if source.collate_fn else item for item in items]
                    drawn.append([batch_roles(batch) for batch in batches])
                found = turned_maps(drawn)
        except Exception:  # a dataset, or a collate function, that wants to be asked by its loader only
            return None
        if found is None:
            return None
        values = dataclasses.asdict(found)
        return AugmentedMaps(**values, dataset=type(source.dataset).__name__, at=self._context.moment())


def is_fixed(dataset: Any, seen: Keys) -> bool:
    """Whether a dataset delivers what it holds in memory, unchanged."""
    inner = dataset
    while isinstance(inner, Subset):
        inner = inner.dataset
    parts = inner.datasets if isinstance(inner, ConcatDataset) else [inner]
    if all(type(part) in (TensorDataset, list, tuple) for part in parts):
        return True
    raw = raw_samples(dataset)
    return raw is not None and bool(len(seen)) and bool(among(seen, raw.keys).all())
