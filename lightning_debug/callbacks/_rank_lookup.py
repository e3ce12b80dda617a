"""What RankMonitor asks of a Trainer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from lightning_debug.callbacks._lightning import Trainer, averages_models, callbacks_of, evaluated_names
from lightning_debug.curves.names import plain, recognised
from lightning_debug.evidence import Evidence

MOST_VALUES = 16

_SHARDED = {"FSDPStrategy", "ModelParallelStrategy", "DeepSpeedStrategy"}


def is_replicated(trainer: Trainer) -> bool:
    """Whether every rank holds the whole model and all are to be equal after each step."""
    kinds = {kind.__name__ for kind in type(trainer.strategy).__mro__}
    return "DDPStrategy" in kinds and not kinds & _SHARDED and not averages_models(trainer)


def logged_values(trainer: Trainer) -> dict[str, Tensor]:
    """What the validation that ends has logged and something decides by, or is a known loss or metric; by name."""
    names, metrics = evaluated_names(trainer), trainer.callback_metrics
    own = {
        name: value
        for name, value in metrics.items()
        if isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex()
        if names is None or not names.isdisjoint((name, plain(name), name.partition("/dataloader_idx_")[0]))
    }
    known = recognised(own)
    wanted = {*users_of_values(trainer), known.val, known.metric}
    return {name: own[name].detach() for name in sorted(wanted & set(own))[:MOST_VALUES]}


def users_of_values(trainer: Trainer) -> dict[str, tuple[str, ...]]:
    """The classes of callbacks and schedulers that decide by a logged value, by its name."""
    found: dict[str, list[str]] = {}
    for callback in callbacks_of(trainer):
        name = getattr(callback, "monitor", None)
        if isinstance(name, str):
            found.setdefault(name, []).append(type(callback).__name__)
    for config in getattr(trainer, "lr_scheduler_configs", []):
        if config.reduce_on_plateau and isinstance(config.monitor, str):
            found.setdefault(config.monitor, []).append(type(config.scheduler).__name__)
    return {name: tuple(dict.fromkeys(users)) for name, users in found.items()}


def sampler_of(trainer: Trainer) -> tuple[str, bool]:
    """The class of the training loader's sampler, ``""`` where it has none, and whether its data are iterable."""
    for loader in _loaders(trainer.train_dataloader):
        if isinstance(loader.dataset, IterableDataset):
            return "", True
        sampler = loader.sampler if loader.batch_size is not None else loader.batch_sampler
        return type(sampler).__name__, False
    return "", False


def _loaders(value: Any) -> Iterator[DataLoader[Any]]:
    if isinstance(value, DataLoader):
        yield value
    elif isinstance(value, (Mapping, list, tuple)):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _loaders(item)


def why_not(kind: type[Evidence], waiting: Sequence[type[Evidence]]) -> str:
    """Why nothing was compared."""
    if kind in waiting:
        return "some rank has told nothing: it trains on fewer batches, or without this callback"
    return {
        "RankBatches": "no batch was in host memory",
        "RankValues": "no validation has logged a loss or metric",
    }.get(kind.__name__, "ranks do not hold the same parameters")
