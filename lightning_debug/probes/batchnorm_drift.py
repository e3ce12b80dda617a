"""Running statistics of batch-norms: whether they were updated, and how far they moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.instancenorm import _InstanceNorm

from lightning_debug.probes.modes import ModeModule

SAMPLE = 256
"""How many values of a weight stand for it when it is looked at for changes."""


def _counter(module: _NormBase) -> Tensor | None:
    """The tensor that each update writes to."""
    counter = module.num_batches_tracked
    if isinstance(counter, Tensor) and not isinstance(module, _InstanceNorm):
        return counter
    return module.running_mean


@dataclass(eq=False)
class Updates:
    """How often running statistics are updated between its making and :meth:`count`.

    No value is read from the device unless PyTorch's own version counters say that something was written.

    Args:
        modules: Batch-norms.
    """

    modules: Sequence[_NormBase]
    _before: list[tuple[int, Tensor | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for module in self.modules:
            counter = _counter(module)
            kept = None if counter is None else counter.detach().clone()
            self._before.append((-1 if counter is None else _version(counter), kept))

    def count(self) -> list[int]:
        """Updates of each module; 1 stands for any number where a module does not count them."""
        result = []
        for module, (version, before) in zip(self.modules, self._before, strict=True):
            counter = _counter(module)
            if counter is None or before is None or _version(counter) == version or counter.shape != before.shape:
                result.append(0)
            elif counter.dim() == 0:
                result.append(max(0, int(counter) - int(before)))
            else:
                result.append(int(not torch.equal(counter, before)))
        return result


@dataclass(frozen=True)
class Drift:
    """What a batch-norm with frozen weights did over a few steps.

    Args:
        item: The batch-norm.
        feeder: The module with parameters that ran just before it in the first of them, or ``None``.
        input_trained: Whether its input needed a gradient: something before it is trained.
        updates: Updates of its statistics.
        shift: Largest move of a channel's mean, in that channel's standard deviations at the start.
        weights_changed: Whether its weights, or its feeder's, changed although they are frozen.
        adapting: Whether its statistics are made anew on purpose (:func:`adapts`).
    """

    item: ModeModule
    feeder: nn.Module | None
    input_trained: bool
    updates: int
    shift: float
    weights_changed: bool
    adapting: bool = False


class DriftWatch:
    """Follows batch-norms over a few steps; :meth:`called` is told of each module that runs in the first of them.

    Args:
        items: Batch-norms whose weights are frozen.
    """

    def __init__(self, items: Sequence[ModeModule]) -> None:
        self.items = list(items)
        modules = [item.module for item in items]
        self._norms = [module for module in modules if isinstance(module, _NormBase)]
        self._updates = Updates(self._norms)
        self._means = [_copy(module.running_mean) for module in self._norms]
        self._scales = [_copy(module.running_var) for module in self._norms]
        self._adapting = [adapts(module) for module in self._norms]
        self._weights = [[_sample(weight) for weight in module.parameters(recurse=False)] for module in self._norms]
        self._feeders: dict[int, tuple[nn.Module, list[Tensor]]] = {}
        self._last: nn.Module | None = None
        self._input_trained: set[int] = set()
        self._own = {id(module) for module in self._norms}

    def called(self, module: nn.Module, given: Any) -> None:
        """Notes that ``module`` ran, and on what."""
        if id(module) in self._own:
            if any(isinstance(item, Tensor) and item.requires_grad for item in given):
                self._input_trained.add(id(module))
            if self._last is not None and id(module) not in self._feeders:
                kept = [_sample(weight) for weight in self._last.parameters(recurse=False)]
                self._feeders[id(module)] = (self._last, kept)
        elif next(module.parameters(recurse=False), None) is not None:
            self._last = module

    def drifts(self) -> list[Drift]:
        """What happened since; reads values from the device."""
        result = []
        for position, (item, updates) in enumerate(zip(self.items, self._updates.count(), strict=True)):
            norm = self._norms[position]
            feeder, kept = self._feeders.get(id(norm), (None, []))
            pairs = list(zip(norm.parameters(recurse=False), self._weights[position], strict=False))
            if feeder is not None:
                pairs += list(zip(feeder.parameters(recurse=False), kept, strict=False))
            changed = any(not torch.equal(_sample(weight), before) for weight, before in pairs)
            mean, before, variance = norm.running_mean, self._means[position], self._scales[position]
            shift = 0.0
            if updates and mean is not None and before is not None and variance is not None:
                moved = (mean.detach().float() - before.float()).abs() / (variance.float() + norm.eps).sqrt()
                shift = float(moved.max()) if moved.numel() else 0.0
            trained, adapting = id(norm) in self._input_trained, self._adapting[position]
            result.append(Drift(item, feeder, trained, updates, shift, changed, adapting))
        return result


def adapts(norm: _NormBase) -> bool:
    """Whether the statistics of a batch-norm are made anew on purpose: to adapt them to other data.

    They are averaged over all batches (``momentum=None``), or were reset although the weights are trained. Reads values
    from the device.
    """
    if norm.momentum is None:
        return True
    mean, variance, weight, bias = norm.running_mean, norm.running_var, norm.weight, norm.bias
    if mean is None or variance is None or weight is None:
        return False
    fresh = bool((mean == 0).all()) and bool((variance == 1).all())
    return fresh and (bool((weight != 1).any()) or (bias is not None and bool((bias != 0).any())))


def _version(tensor: Tensor) -> int:
    return int(tensor._version)  # noqa: SLF001 - counts in-place writes, and needs no value from the device


def _copy(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().clone()


def _sample(weight: Tensor) -> Tensor:
    local = weight.to_local() if hasattr(weight, "to_local") else weight
    return local.detach().flatten()[:SAMPLE].clone()


def trainable_twin(model: nn.Module, item: ModeModule) -> tuple[str, str]:
    """The outermost frozen module around ``item``, and a trainable module elsewhere that looks like its source.

    A momentum encoder or target network is frozen, of the class of a network that is trained, and has parameters of
    the same shapes.

    Returns:
        Path of the frozen module, and path of its twin or ``""``.
    """
    root_path, root = item.path, item.module
    for path, parent in reversed(item.parents):
        if any(parameter.requires_grad for parameter in parent.parameters()):
            break
        root_path, root = path, parent
    shapes = [tuple(parameter.shape) for parameter in root.parameters()]
    inside = {id(module) for module in root.modules()}
    for path, module in model.named_modules():
        if type(module) is type(root) and id(module) not in inside:
            others = list(module.parameters())
            if any(other.requires_grad for other in others) and [tuple(other.shape) for other in others] == shapes:
                return root_path, path
    return root_path, ""
