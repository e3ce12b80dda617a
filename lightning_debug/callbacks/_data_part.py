"""DataPart: what DataAuditor hands every batch to, and what it may ask about the loaders."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch.utils.data import DataLoader, IterableDataset

from lightning_debug.callbacks._lightning import LightningModule, Trainer, moment
from lightning_debug.evidence import Evidence, Moment
from lightning_debug.probes.batch_roles import Field
from lightning_debug.probes.order_loader import hands_on_items
from lightning_debug.probes.step_turns import StepTurns

Stage = Literal["train", "validate"]


@dataclass(frozen=True)
class Source:
    """One dataloader of a stage: read its attributes, never iterate it.

    Args:
        stage: ``"train"`` or ``"validate"``.
        index: Its index among the loaders of the stage.
        loader: The loader itself: a ``DataLoader``, or anything that can be iterated.
    """

    stage: Stage
    index: int
    loader: Any

    @property
    def dataset(self) -> Any:
        """Its dataset, ``None`` where there is none. A read of an item draws random numbers: isolate it."""
        return getattr(self.loader, "dataset", None)

    @property
    def batch_sampler(self) -> Any:
        """Its batch sampler, or what was given for one."""
        return getattr(self.loader, "batch_sampler", None)

    def hands_on_bags(self, rows: int) -> bool:
        """Whether a batch of so many rows is one item of the dataset, handed on as it is."""
        return rows > 1 and hands_on_items(self.loader)

    @property
    def sampler(self) -> Any:
        """What orders the indices: of the batch sampler first, as Lightning does."""
        return getattr(self.batch_sampler, "sampler", None) or getattr(self.loader, "sampler", None)

    @property
    def collate_fn(self) -> Any:
        """What makes a batch of samples."""
        return getattr(self.loader, "collate_fn", None)

    @property
    def batch_size(self) -> int | None:
        """Samples a batch, where the loader says so."""
        size = getattr(self.loader, "batch_size", None)
        size = getattr(self.batch_sampler, "batch_size", None) if size is None else size
        return size if isinstance(size, int) and not isinstance(size, bool) else None

    @property
    def drop_last(self) -> bool:
        """Whether a last batch that is not full is left out."""
        return bool(getattr(self.loader, "drop_last", False) or getattr(self.batch_sampler, "drop_last", False))

    @property
    def num_workers(self) -> int:
        """Processes that load."""
        count = getattr(self.loader, "num_workers", 0)
        return count if isinstance(count, int) else 0

    @property
    def streams(self) -> bool:
        """Whether samples come without an index (``IterableDataset``), or from something that is no DataLoader."""
        return not isinstance(self.loader, DataLoader) or isinstance(self.dataset, IterableDataset)

    @property
    def length(self) -> int | None:
        """Samples in the dataset; ``None`` where that is not known."""
        if self.streams:
            return None
        try:
            return len(self.dataset)
        except Exception:  # other people's datasets may have no length, or raise
            return None

    @property
    def transforms(self) -> tuple[Any, ...]:
        """The ``transform`` and like attributes of the dataset and of the datasets that it wraps, outermost first."""
        found: list[Any] = []
        dataset, depth = self.dataset, 0
        while dataset is not None and depth < 8:
            own = vars(dataset) if hasattr(dataset, "__dict__") else {}
            found += [value for key, value in own.items() if "transform" in key or "augment" in key]
            dataset, depth = own.get("dataset"), depth + 1
        return tuple(item for item in found if callable(item))


class DataContext:
    """What a part may know about the run.

    Args:
        trainer: The Trainer.
        pl_module: The module in training.
    """

    scanning = False
    """Whether data are only read, before training."""

    def __init__(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.trainer, self.pl_module = trainer, pl_module

    @functools.cached_property
    def turns(self) -> StepTurns:
        """What becomes of samples on their way to the net."""
        return StepTurns()

    def source(self, stage: Stage, index: int = 0) -> Source | None:
        """A dataloader, by stage and index; ``None`` where there is none."""
        loaders = self.sources(stage)
        return loaders[index] if index < len(loaders) else None

    def sources(self, stage: Stage) -> tuple[Source, ...]:
        """All dataloaders of a stage, in the order of ``dataloader_idx`` (training: in that of its batches' parts)."""
        given = self.trainer.train_dataloader if stage == "train" else self.trainer.val_dataloaders
        return tuple(Source(stage, index, loader) for index, loader in enumerate(_flat(given)))

    def moment(self, batch: int | None = None) -> Moment:
        """Now."""
        return moment(self.trainer, batch)


def _flat(loaders: Any) -> list[Any]:
    if loaders is None:
        return []
    if isinstance(loaders, dict):
        return [item for value in loaders.values() for item in _flat(value)]
    if isinstance(loaders, (list, tuple)):
        return [item for value in loaders for item in _flat(value)]
    nested = getattr(loaders, "flattened", None)  # a CombinedLoader
    return list(nested) if isinstance(nested, list) else [loaders]


class DataPart:
    """Gathers one family of facts about the data while the run reads it.

    DataAuditor makes one of each class for a fit and calls it on the host, outside autograd, before the batch goes
    to the device. Tensors are the run's own: read them, never write, and keep no reference to them beyond
    :meth:`saw` (clone the few values that are kept). Draw no random numbers from a global generator. What a part
    raises becomes LD001; after three failures it is asked no more.
    """

    produces: ClassVar[tuple[type[Evidence], ...]] = ()
    """The kinds of evidence that :meth:`finish`, :meth:`end_of_epoch` and :meth:`saw` return."""

    def begin(self, context: DataContext) -> None:
        """Called once, when training starts (``on_train_start``)."""

    def wants(self, stage: Stage) -> bool:
        """Whether batches of a stage are of use that are not looked at closely; it is asked before each of them."""
        return True

    def keys_suffice(self, stage: Stage, loader_index: int) -> bool:
        """Whether :meth:`saw` may be called later, without the batch, for those of a loader that are not audited.

        Inputs of many values are then known by their ``keys`` alone (see ``held_batches``); labels have their values.
        """
        return False

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
        """Called for the batches of training and of validation (not of the sanity check) that are wanted or audited.

        Args:
            stage: ``"train"`` or ``"validate"``.
            loader_index: Lightning's ``dataloader_idx``.
            epoch: From 0.
            batch_index: From 0 in each epoch or validation, by loader.
            fields: What is in it, tensors on the CPU only.
            size: Samples in it; 0 if not known.
            audited: Whether this batch is one of those to look at closely (the first 32 of each loader, then ever
                more rarely). On others keep to microseconds: a look at small labels, a checksum of a few values.
            batch: The batch itself; ``None`` where :meth:`keys_suffice`.

        Returns:
            Evidence that is ready already, if any.
        """
        return None

    def end_of_epoch(self, stage: Stage) -> Iterable[Evidence] | None:
        """Called after a training epoch or a whole validation; the place for heavier work, within a second."""
        return None

    def finish(self) -> Iterable[Evidence]:
        """Called when training ends, also by an exception or an interrupt; what is known by then."""
        return ()
