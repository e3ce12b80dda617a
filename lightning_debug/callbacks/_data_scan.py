"""Reads whole data sets once before training, through loaders of our own."""

from __future__ import annotations

import contextlib
import copy
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils import data as torch_data

from lightning_debug.callbacks._data_part import DataContext, DataPart, Source, Stage
from lightning_debug.callbacks._data_relations import DataRelations
from lightning_debug.callbacks._data_run import DataRun
from lightning_debug.callbacks._data_tap import HOOK
from lightning_debug.callbacks._data_unreadable import ask_again, described, unreadable_in
from lightning_debug.callbacks._data_values import ValuesInData
from lightning_debug.callbacks._lightning import batch_hook_owner
from lightning_debug.evidence.data import ScannedData
from lightning_debug.experiments._surroundings import random_state, set_random_state
from lightning_debug.experiments.asking import asked
from lightning_debug.probes.unreadable import is_of_loading

PARTS_OF_SCAN: tuple[type[DataPart], ...] = (ValuesInData, DataRelations)
"""What a scan looks at; the rest needs a run."""
STAGES: tuple[Stage, Stage] = ("train", "validate")


class NotScanned(Exception):
    """A loader cannot be read apart from the run; the message says why."""


class RecordedBatches:
    """Passes on the batches of indices of a batch sampler, and remembers those that are on their way.

    Args:
        batches: Lists of indices.
        most: How many to remember.

    >>> batches = RecordedBatches([[3, 1], [2]], 1)
    >>> list(batches), batches.asked(1), batches.asked(0)
    ([[3, 1], [2]], [2], [])
    """

    def __init__(self, batches: Any, most: int) -> None:
        self._batches, self._most = batches, most
        self._recent: dict[int, list[Any]] = {}

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        for number, batch in enumerate(self._batches):
            self._recent[number] = list(batch) if isinstance(batch, (list, tuple)) else [batch]
            self._recent.pop(number - self._most, None)
            yield batch

    def asked(self, number: int) -> list[Any]:
        """The indices of a batch; empty if it is long past."""
        return self._recent.get(number, [])


def private_loader(source: Source, seed: int = 0) -> tuple[Any, RecordedBatches]:
    """A loader of the same batches that no live loader, dataset or random generator notices.

    It reads in worker processes, one at least, so that datasets with a state of their own keep it.

    Raises:
        NotScanned: If that cannot be made.
    """
    live = source.loader
    if source.streams or source.length is None:
        raise NotScanned(f"{type(live).__name__} only yields its batches in turn")
    generator = torch.Generator().manual_seed(seed)
    try:
        batches = _batches(source, generator)
    except Exception as error:  # other people's samplers
        raise NotScanned(f"its sampler cannot be copied: {type(error).__name__}: {error}") from error
    workers = max(1, source.num_workers)
    ahead = getattr(live, "prefetch_factor", None) or 2
    recorded = RecordedBatches(batches, workers * ahead + 2)
    single = live.batch_sampler is None
    options: dict[str, Any] = {"sampler": recorded, "batch_size": None} if single else {"batch_sampler": recorded}
    loader = torch_data.DataLoader(
        live.dataset,
        num_workers=workers,
        collate_fn=live.collate_fn,
        worker_init_fn=live.worker_init_fn,
        multiprocessing_context=live.multiprocessing_context,
        prefetch_factor=ahead,
        timeout=live.timeout,
        generator=generator,
        **options,
    )
    return loader, recorded


def _batches(source: Source, generator: torch.Generator) -> Any:
    batches = source.batch_sampler
    if batches is None or type(batches) is torch_data.BatchSampler:
        return _sampler(source.sampler if batches is None else batches, source.dataset, generator)
    return copy.deepcopy(batches)


def _sampler(sampler: Any, source: Any, generator: torch.Generator) -> Any:
    """The same sampler with a generator of ours; its data source is not copied."""
    if type(sampler) is torch_data.BatchSampler:
        inner = _sampler(sampler.sampler, source, generator)
        return torch_data.BatchSampler(inner, sampler.batch_size, drop_last=False)
    if type(sampler) in (torch_data.SequentialSampler, torch_data.RandomSampler):
        copied = copy.copy(sampler)
    elif isinstance(sampler, torch_data.DistributedSampler):
        return torch_data.SequentialSampler(source)  # all of it, not this rank's part
    else:
        copied = copy.copy(sampler) if hasattr(sampler, "generator") else copy.deepcopy(sampler)
    if hasattr(copied, "generator"):
        copied.generator = generator
    return copied


def scan(run: DataRun, *, bar: bool, live: bool = False) -> None:
    """Reads every loader of training and validation to its end.

    Args:
        run: What to hand the batches to; it is finished afterwards.
        bar: Whether to show progress.
        live: Whether to read the run's own loaders, because no training follows.

    Raises:
        KeyboardInterrupt: After what was read by then is told, and that it is not all.
    """
    state = random_state()
    run.begin()
    try:
        for stage in STAGES:
            sources = run.context.sources(stage)
            for source in sources:
                _scan(run, source, len(sources), bar=bar, live=live)
            run.end_of_epoch(stage)
    except KeyboardInterrupt:
        count = sum(run.delivered.values())
        sys.stderr.write(f"lightning_debug: interrupted; the report tells of the {count} samples read by then\n")
        raise
    finally:
        run.finish()
        set_random_state(state)


@contextlib.contextmanager
def _orders_kept(source: Source) -> Iterator[None]:
    """Puts back what copies of samplers share with them: a generator, or a count, of their module or class."""
    kept = asked([source.batch_sampler, source.sampler])
    if kept.reasons:
        raise NotScanned(f"asking its sampler would leave a trace: {kept.reasons[0]}")
    try:
        yield
    finally:
        kept.restore()


def _scan(run: DataRun, source: Source, loaders: int, *, bar: bool, live: bool) -> None:
    stage, session, count = source.stage, run.auditor.session, 0
    facts: dict[str, Any] = {"stage": stage, "loader": source.index, "samples": source.length}
    outcome = "failed"
    before = run.delivered[stage]
    recorded: RecordedBatches | None = None
    try:
        if stage == "train" and loaders > 1:
            raise NotScanned("there are several training loaders")
        loader = source.loader
        if not live:
            loader, recorded = private_loader(source)
        with contextlib.nullcontext() if live else _orders_kept(source):
            for batch in _shown(loader, stage, _length(recorded or loader), bar=bar):
                _hand_on(run, source, batch, live=live)
                count += 1
        outcome = "complete"
    except NotScanned as error:
        outcome = str(error)
    except KeyboardInterrupt:
        outcome = "interrupted"
        raise
    except Exception as error:
        outcome, now = f"failed: {type(error).__name__}: {error}", run.context.moment()
        if live and is_of_loading(error):
            session.observe(unreadable_in(error, source, now, run.delivered))
        elif is_of_loading(error):
            asked_for = recorded.asked(count) if recorded is not None else []
            index, raised = ask_again(source, asked_for, goes_on=True)
            session.observe(described(raised or error, source, index, now, run.delivered))
        elif not live:  # a worker that was killed, a dataset that cannot be sent to one
            session.failed("DataAuditor: scan", error, now)
    finally:
        read = run.delivered[stage] - before
        session.observe(ScannedData(at=run.context.moment(), read=read, outcome=outcome, **facts))


def _hand_on(run: DataRun, source: Source, batch: Any, *, live: bool) -> None:
    try:
        run.read(source.stage, source.index, 0, _prepared(run, batch, source.index) if live else batch)
    except Exception:  # a guard around each batch would cost as much as reading some
        with run.auditor.attempt("scanning a batch", run.context.trainer):
            raise


def _prepared(run: DataRun, batch: Any, index: int) -> Any:
    """The batch as a run's own tap sees it."""
    return getattr(batch_hook_owner(run.context.trainer, HOOK), HOOK)(batch, index)


def _shown(loader: Any, stage: Stage, total: int | None, *, bar: bool) -> Iterator[Any]:
    from rich.console import Console  # only a scan pays for it
    from rich.progress import track

    name = "training" if stage == "train" else "validation"
    described = f"DataAuditor reads the {name} data"
    yield from track(loader, described, total, console=Console(stderr=True), transient=True, disable=not bar)


def _length(batches: Any) -> int | None:
    try:
        return len(batches)
    except Exception:  # a stream, or a batch sampler without a length
        return None


class ScanContext(DataContext):
    """As a part sees a scan: no net has learned anything yet."""

    scanning = True
