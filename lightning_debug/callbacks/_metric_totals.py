"""What a module adds up by hand over a validation's batches, and what its ``MeanMetric`` objects are given."""

from __future__ import annotations

import itertools
import numbers
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from lightning_debug.callbacks._lightning import LightningModule, module_attributes
from lightning_debug.probes.metric_state import metrics_of

MOST_TOTALS = 32
"""So many attributes are followed."""


class Totals:
    """Numbers, scalar tensors, entries of dictionaries and mean metrics, after each batch; read when all is over.

    >>> module = torch.nn.Module()
    >>> module.total = 1.0
    >>> totals = Totals(module)
    >>> module.total += 0.5
    >>> totals.add()
    >>> module.total += 0.25
    >>> totals.add()
    >>> totals.columns()
    {'self.total': [0.5, 0.25]}
    """

    def __init__(self, pl_module: LightningModule | torch.nn.Module) -> None:
        self._module = pl_module
        self._means = {
            path: metric
            for path, metric in metrics_of(pl_module).items()
            if type(metric).__name__ == "MeanMetric" and isinstance(getattr(metric, "weight", None), Tensor)
        }
        self._taken: list[dict[str, Any]] = []
        self.add()

    def add(self) -> None:
        """A batch is over. Waits for no device."""
        taken: dict[str, Any] = {}
        for name, value in self._scalars():
            if len(taken) < MOST_TOTALS:
                taken[name] = value.detach().clone() if isinstance(value, Tensor) else value
        self._taken.append(taken)

    def columns(self) -> dict[str, list[float]]:
        """What each batch added, by attribute; of a metric only where all batches had the same weight. Reads values."""
        first, *rest = self._taken
        begun = {name: 0.0 for name in (rest[0] if rest else {}) if "[" in name} | first  # a dict may begin empty
        names = [name for name in begun if all(name in taken for taken in rest)]
        found = {}
        for name in names:
            levels = _read([begun[name], *(taken[name] for taken in rest)])
            steps = [after - before for before, after in itertools.pairwise(levels)]
            if any(steps):
                found[name] = steps
        for path in self._means:
            sums, weights = (found.pop(f"self.{path}.{part}", None) for part in ("mean_value", "weight"))
            if sums and weights and weights[0] > 0 and all(abs(item - weights[0]) < 1e-6 for item in weights):
                found[f"self.{path}"] = [item / weights[0] for item in sums]
        return found

    def _scalars(self) -> Iterator[tuple[str, Any]]:
        for path, metric in self._means.items():
            yield f"self.{path}.mean_value", metric.mean_value
            yield f"self.{path}.weight", metric.weight
        own = module_attributes()
        for name, value in [*vars(self._module).items(), *self._module.named_buffers(recurse=False)]:
            if name in own:
                continue
            if _is_scalar(value):
                yield f"self.{name}", value
            elif isinstance(value, dict) and len(value) <= MOST_TOTALS:
                yield from ((f"self.{name}[{key!r}]", item) for key, item in value.items() if _is_scalar(item))


def _is_scalar(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1 and not value.is_complex() and not value.requires_grad
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _read(values: list[Any]) -> list[float]:
    """Values as numbers, those of tensors read together."""
    device = next((value.device for value in values if isinstance(value, Tensor)), None)
    if device is None:
        return [float(value) for value in values]
    precision = torch.float32 if device.type == "mps" else torch.float64
    together: list[float] = torch.stack(
        [torch.as_tensor(value).reshape(()).to(device, precision) for value in values]
    ).tolist()
    return together
