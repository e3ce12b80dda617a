"""One DataLoader of a run, from which batches can be cut without drawing from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils import data as torch_data

MOST_HELD_OUT = 512
"""Samples held out at most."""


class NotDrawable(Exception):
    """Batches cannot be drawn apart from the live loader.

    Args:
        reason: Half a sentence that can follow "not judged, because".
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Loader:
    """One DataLoader, of which batches can be cut."""

    def __init__(self, loader: Any, limit: int | None) -> None:
        if not isinstance(loader, torch_data.DataLoader):
            raise NotDrawable(f"the training loader is a {type(loader).__name__}, which only yields batches in turn")
        if isinstance(loader.dataset, torch_data.IterableDataset) or not hasattr(loader.dataset, "__getitem__"):
            raise NotDrawable(f"the data set {type(loader.dataset).__name__} only yields samples in turn")
        self.dataset, self.collate = loader.dataset, loader.collate_fn
        self._single = loader.batch_sampler is None  # the data set yields whole batches
        sampler: Any = loader.sampler if self._single else loader.batch_sampler
        if not self._single:
            if type(sampler) is not torch_data.BatchSampler:
                raise NotDrawable(f"the batch sampler {type(sampler).__name__} decides what belongs together")
            self.size: int = sampler.batch_size
            sampler = sampler.sampler
        else:
            self.size = 1
        self.population, self.weights = _population(sampler, self.dataset)
        if limit is not None and type(sampler) is torch_data.SequentialSampler:
            self.population = self.population[: limit * self.size]
        if not len(self.population):
            raise NotDrawable("the training set is empty")

    def cut(self, generator: torch.Generator) -> tuple[list[list[int]], list[list[int]]]:
        """Batches to train on and batches held out, as lists of indices."""
        order = torch.randperm(len(self.population), generator=generator).tolist()
        held = min(len(order) // 5, max(MOST_HELD_OUT, self.size))
        if len(order) - held < self.size or (held < 2 and not self._single):
            held = 0  # the whole set is one batch
        parts = [order[held:], order[:held]]
        if self.weights is not None:
            parts = [self._weighed(part, generator) for part in parts]
        train, rest = ([self.population[place] for place in part] for part in parts)
        batches = _chunks(train, self.size)
        if len(batches) > 1 and len(batches[-1]) < self.size:
            batches.pop()
        kept = _chunks(rest, self.size)
        if len(kept) > 1 and len(kept[-1]) < self.size:
            kept.pop()
        return batches, kept

    def _weighed(self, places: list[int], generator: torch.Generator) -> list[int]:
        if not places or self.weights is None:
            return places
        weights = self.weights[places].double()
        if float(weights.sum()) <= 0:
            return places
        drawn = torch.multinomial(weights, len(places), replacement=True, generator=generator)
        return [places[index] for index in drawn.tolist()]

    def fetch(self, indices: list[int]) -> Any:
        """What the loader would yield for these indices."""
        if self._single:
            return self.collate(self.dataset[indices[0]])
        together: Any = getattr(self.dataset, "__getitems__", None)
        return self.collate(together(indices) if together else [self.dataset[index] for index in indices])


def _population(sampler: Any, dataset: Any) -> tuple[Sequence[int], torch.Tensor | None]:
    """The indices that a sampler draws from, and their weights if they differ."""
    kind = type(sampler)
    if kind in (torch_data.SequentialSampler, torch_data.RandomSampler):
        return range(len(sampler.data_source)), None
    if kind is torch_data.SubsetRandomSampler:
        return list(sampler.indices), None
    if kind is torch_data.WeightedRandomSampler:
        return range(len(sampler.weights)), torch.as_tensor(sampler.weights)
    if isinstance(sampler, torch_data.DistributedSampler):
        inner = getattr(sampler.dataset, "_sampler", None)  # Lightning's wrapper around the user's sampler
        if inner is not None:
            drawn, weights = _population(inner, dataset)
        elif kind.__name__ in ("DistributedSampler", "UnrepeatedDistributedSampler"):
            drawn, weights = range(len(sampler.dataset)), None  # type: ignore[arg-type]
        else:
            raise NotDrawable(f"the sampler {kind.__name__} decides what is drawn")
        mine = slice(sampler.rank, None, sampler.num_replicas)
        return drawn[mine], None if weights is None else weights[mine]
    raise NotDrawable(f"the sampler {kind.__name__} decides what is drawn")


def _chunks(items: list[int], size: int) -> list[list[int]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
