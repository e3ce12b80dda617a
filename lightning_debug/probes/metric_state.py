"""What a model's metrics and hand-kept totals hold: where it came from, and what it would be without the past."""

from __future__ import annotations

import numbers
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

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
    """A list or a number that a model keeps in an attribute, when an epoch begins.

    Args:
        name: The attribute.
        value: The number, or a clone of it; unused for a list.
        ends: First and last item of the list then.
        length: Its length then.
    """

    name: str
    value: Any = None
    ends: tuple[Any, ...] = ()
    length: int = 0


@dataclass
class Stores:
    """The lists and numbers in a model's own attributes.

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
        for name, value in list(vars(self.root).items()):
            if name in self.ignore:
                continue
            if isinstance(value, list) and value:
                self._begun.append(Store(name, ends=(value[0], value[-1]), length=len(value)))
            elif isinstance(value, Tensor) and value.ndim == 0:
                self._begun.append(Store(name, value=value.detach().clone()))
            elif isinstance(value, (int, float)) and type(value) is not bool:
                self._begun.append(Store(name, value=value))

    def carried(self) -> list[Store]:
        """Those that grew since without being emptied. Reads numbers on the host."""
        found = []
        for store in self._begun:
            value = vars(self.root).get(store.name)
            if isinstance(value, list):
                kept = len(value) > store.length > 0
                if kept and value[0] is store.ends[0] and value[store.length - 1] is store.ends[1]:
                    found.append(store)
            elif store.value is not None and isinstance(value, (Tensor, numbers.Real)) and float(store.value) != 0:
                found += [store] if float(value) != float(store.value) else []
        return found

    def alone(self, store: Store) -> Any:
        """What the attribute would hold if the epoch had begun with nothing in it."""
        value = vars(self.root)[store.name]
        return value[store.length :] if isinstance(value, list) else value - store.value
