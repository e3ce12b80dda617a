"""What a model's metrics and hand-kept totals hold: where it came from, and what it would be without the past."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lightning_debug.probes.bytecode import mentioned, reached

LASTING = ("MaxMetric", "MinMetric", "Running", "RunningMean", "RunningSum", "MetricTracker", "SumMetric", "CatMetric")
"""Metrics that are made to outlast an epoch, or that count without an end."""

_DEPTH = 2


def metrics_of(root: nn.Module) -> dict[str, Any]:
    """The metric objects of a model by path, attributes that are no submodules included; parts of metrics are not.

    Those of :data:`LASTING` are left out.
    """
    found: dict[int, tuple[str, Any]] = {}
    for path, value in _reachable(root):
        if _is_metric(value) and type(value).__name__ not in LASTING:
            found.setdefault(id(value), (path, value))
    inside = {id(part) for _, metric in found.values() for part in metric.modules() if part is not metric}
    return {path: metric for key, (path, metric) in found.items() if key not in inside}


def collection_of(root: nn.Module, path: str) -> str:
    """The path of the collection that a metric is part of; empty where it is in none.

    >>> from torchmetrics import MeanMetric, MetricCollection
    >>> root = nn.Module()
    >>> root.kept = MetricCollection({"mean": MeanMetric()})
    >>> collection_of(root, "kept.mean")
    'kept'
    """
    owners = [path[:at] for at, letter in enumerate(path) if letter == "."]
    modules = dict(root.named_modules())
    return next((name for name in owners if type(modules.get(name)).__name__ == "MetricCollection"), "")


def _reachable(root: nn.Module) -> Iterator[tuple[str, Any]]:
    yield from root.named_modules()
    for name, value in list(vars(root).items()):
        if not name.startswith("_"):
            yield from _inside(value, name, _DEPTH)


def _inside(value: Any, path: str, depth: int) -> Iterator[tuple[str, Any]]:
    if _is_metric(value):
        yield path, value
    elif isinstance(value, nn.Module):
        yield from ((f"{path}.{name}", part) for name, part in value.named_modules())
    elif depth and isinstance(value, Mapping):
        for key, item in list(value.items())[:64]:
            yield from _inside(item, f"{path}[{key!r}]", depth - 1)
    elif depth and isinstance(value, (list, tuple)):
        for index, item in enumerate(value[:64]):
            yield from _inside(item, f"{path}[{index}]", depth - 1)


def _is_metric(value: Any) -> bool:
    module = sys.modules.get("torchmetrics")
    return module is not None and isinstance(value, module.Metric)


def updates(metric: Any) -> int:
    """How often a metric was updated since it was reset.

    A sum of metrics (``first + second``) holds no state of its own, and its own count outlasts a reset: its terms'
    counts are taken.
    """
    if type(metric).__name__ == "CompositionalMetric":
        terms = [term for term in (metric.metric_a, metric.metric_b) if _is_metric(term)]
        return min(map(updates, terms), default=0)
    return int(metric.update_count)


class Ledger:
    """Says which stage a metric's updates came from. Reads counters on the host, none of a tensor.

    >>> class Metric:
    ...     update_count = 0
    >>> metric, ledger = Metric(), Ledger()
    >>> metric.update_count = 5
    >>> ledger.mark({"accuracy": metric}, "train")
    >>> metric.update_count = 7
    >>> ledger.mark({"accuracy": metric}, "validate")
    >>> ledger.of("accuracy")
    {'train': 5, 'validate': 2}
    """

    def __init__(self) -> None:
        self._known: dict[str, dict[str, int]] = {}

    def mark(self, metrics: Mapping[str, Any], stage: str) -> None:
        """Books the updates since the last mark to a stage; a counter that went back was reset in between."""
        for path, metric in metrics.items():
            count, known = updates(metric), self._known.get(path, {})
            before = sum(known.values())
            if count < before:
                known, before = {}, 0
            if count > before:
                known[stage] = known.get(stage, 0) + count - before
            self._known[path] = known

    def of(self, path: str) -> dict[str, int]:
        """Updates in a metric's state, by stage."""
        return dict(self._known.get(path, {}))


@dataclass
class Store:
    """A list, a number or a tensor of counts that a model keeps in an attribute, when an epoch begins.

    Args:
        name: The attribute.
        value: The number or counts, or a clone of them; ``None`` for lists.
        lists: The lists by key, ``""`` where the attribute is the list itself: first item, last item, length.
    """

    name: str
    value: Any = None
    lists: dict[Any, tuple[Any, Any, int]] = field(default_factory=dict)

    @property
    def is_list(self) -> bool:
        """Whether it is a list, or a dictionary of lists."""
        return bool(self.lists)

    def held_before(self) -> float:
        """Items of a list, or the number (the sum of the counts), when the epoch began."""
        return float(max(length for *_, length in self.lists.values()) if self.lists else _total(self.value))

    def held_in(self, now: Any) -> float:
        """The same of what the attribute holds now."""
        return float(max(len(_list(now, key)) for key in self.lists) if self.lists else _total(now))


@dataclass
class Stores:
    """The lists, numbers and counts in a model's own attributes and buffers.

    Args:
        root: The model.
        ignore: Attributes that are not the user's.
    """

    root: nn.Module
    ignore: frozenset[str] = frozenset()
    _begun: list[Store] = field(default_factory=list)

    def begin(self) -> None:
        """An epoch begins: remembers what is there already."""
        self._begun = []
        for name, value in (*vars(self.root).items(), *self.root.named_buffers(recurse=False)):
            if name in self.ignore or name.startswith("_"):
                continue
            if isinstance(value, list):
                held = {"": value}
            elif isinstance(value, dict):
                held = {key: item for key, item in list(value.items())[:64] if isinstance(item, list)}
            else:
                held = {}
                if _is_count(value):
                    kept = value.detach().clone() if isinstance(value, Tensor) else copy.copy(value)
                    self._begun.append(Store(name, value=kept))
            ends = {key: (item[0], item[-1], len(item)) for key, item in held.items() if item}
            if ends:
                self._begun.append(Store(name, lists=ends))

    def carried(self) -> list[Store]:
        """Those that grew since without being emptied. Reads numbers on the host."""
        return [store for store in self._begun if self._grew(store)]

    def _grew(self, store: Store) -> bool:
        now = getattr(self.root, store.name, None)
        if store.is_list:
            return all(self._kept(_list(now, key), *ends) for key, ends in store.lists.items())
        if now is None or store.value is None or not _is_count(now) or np.shape(now) != np.shape(store.value):
            return False
        before = np.asarray(_plain(store.value), dtype=np.float64)
        after = np.asarray(_plain(now), dtype=np.float64)
        return bool((after >= before).all() and (after > before).any() and (before != 0).any())

    @staticmethod
    def _kept(now: Any, first: Any, last: Any, length: int) -> bool:
        return isinstance(now, list) and len(now) > length and now[0] is first and now[length - 1] is last

    def alone(self, store: Store) -> Any:
        """What the attribute would hold if the epoch had begun with nothing in it."""
        now = getattr(self.root, store.name)
        if "" in store.lists:
            return now[store.lists[""][2] :]
        if store.is_list:
            return {**now, **{key: now[key][length:] for key, (_, _, length) in store.lists.items()}}
        return now - store.value


_LARGEST = 2**16
_OUTSIDE = frozenset(
    """
    open save save_checkpoint savefig savetxt savez to_csv to_json to_parquet to_pickle to_excel dump write writelines
    write_text write_bytes imwrite imsave save_image add_figure add_image add_text add_histogram add_scalar
    experiment wandb mlflow comet_ml neptune clearml requests socket subprocess os shutil urlopen Popen system
    send post put publish unlink rename mkdir makedirs barrier all_gather all_reduce input exit kill push_to_hub
    """.split()
)


def stays_inside(function: FunctionType, owner: type) -> bool:
    """Whether nothing that a function, or what it calls of the user's, mentions reaches beyond the process.

    >>> def ends(self):
    ...     self.log("val_acc", self.right / self.count)
    >>> def saves(self):
    ...     torch.save(self.outputs, "outputs.pt")
    >>> stays_inside(ends, object), stays_inside(saves, object)
    (True, False)
    """
    return not any(_OUTSIDE & mentioned(part) for part in reached(function, owner))


def _is_count(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.numel() <= _LARGEST and value.dtype not in (torch.bool,) and not value.is_complex()
    if isinstance(value, np.ndarray):
        return value.size <= _LARGEST and value.dtype.kind in "iuf"
    return isinstance(value, (int, float)) and type(value) is not bool


def _plain(value: Any) -> Any:
    return value.detach().to("cpu", torch.float64).numpy() if isinstance(value, Tensor) else value


def _list(value: Any, key: Any) -> Any:
    return value if key == "" else value.get(key, []) if isinstance(value, Mapping) else []


def _total(value: Any) -> float:
    return float(value.sum()) if isinstance(value, (Tensor, np.ndarray)) else float(value)
