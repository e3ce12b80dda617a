"""What a program says it is doing: the fields of its batches, its metrics, words in its source."""

from __future__ import annotations

import inspect
import itertools
import sys
import types
import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from lightning_debug.evidence.loss_checks import BatchField, EarlierTraining
from lightning_debug.probes.batch_fields import batch_fields
from lightning_debug.probes.plain_shape import plain_shape
from lightning_debug.probes.source import is_installed, is_library

MOST_FIELDS = 32
WORDS = ("brier", "ordinal", "quadratic score", "proper scor")


def fields_of(batch: Any) -> tuple[BatchField, ...]:
    """The tensors of a batch, and which of them are equal. Reads on the host."""
    found: list[tuple[BatchField, Tensor]] = []
    for name, tensor in itertools.islice(batch_fields(batch), MOST_FIELDS):
        dtype = str(tensor.dtype).removeprefix("torch.")
        twin = next((field.name for field, other in found if _equal(tensor, other)), "")
        shape, (lowest, highest) = plain_shape(tensor), _range(tensor)
        field = BatchField(name=name, dtype=dtype, shape=shape, equals=twin, lowest=lowest, highest=highest)
        found.append((field, tensor))
    return tuple(field for field, _ in found)


def _equal(first: Tensor, second: Tensor) -> bool:
    alike = first.shape == second.shape and first.dtype == second.dtype and first.layout == torch.strided
    return alike and not first.is_nested and bool(torch.equal(first, second))


def _range(tensor: Tensor) -> tuple[int | None, int | None]:
    real = tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool
    if real or not tensor.numel() or tensor.layout != torch.strided or tensor.is_nested:
        return None, None
    return int(tensor.min()), int(tensor.max())


def metric_names(root: nn.Module) -> tuple[str, ...]:
    """Class names of the torchmetrics metrics in a model."""
    kinds = {type(module) for module in root.modules()}
    return tuple(sorted(kind.__name__ for kind in kinds if _is_metric(kind)))


def _is_metric(kind: type) -> bool:
    return any(base.__name__ == "Metric" and base.__module__.startswith("torchmetrics") for base in kind.__mro__)


def stated_words(root: nn.Module, words: Iterable[str] = WORDS) -> tuple[str, ...]:
    """Which words stand in the source of the user's classes (see :func:`written`)."""
    text = written(root)
    return tuple(word for word in words if word in text)


def written(root: nn.Module) -> str:
    """The source of the user's classes in small letters: their methods, docstrings and names.

    The user's are those in the package of the model itself, and those that are installed nowhere.
    """
    package = type(root).__module__.partition(".")[0]
    kinds = dict.fromkeys(base for module in root.modules() for base in type(module).__mro__)
    kinds = dict.fromkeys(kind for kind in kinds if _is_of(kind, package))
    return "\n".join(part.lower() for kind in kinds for part in _texts(kind))


def _is_of(kind: type, package: str) -> bool:
    top = kind.__module__.partition(".")[0]
    file = getattr(sys.modules.get(kind.__module__), "__file__", None) or ""
    return top == package or not (is_installed(file) or top in sys.stdlib_module_names or is_library(file))


def _texts(kind: type) -> list[str]:
    found = []
    for member in vars(kind).values():
        function = getattr(member, "__func__", getattr(member, "fget", member))
        if isinstance(function, types.FunctionType) and not is_library(function.__code__.co_filename):
            try:
                found.append(inspect.getsource(function))
            except (OSError, TypeError):  # typed into a console
                continue
    return [*found, kind.__name__, kind.__doc__ or ""] if found else []


_TRAINED: weakref.WeakSet[nn.Module] = weakref.WeakSet()
"""Models that were trained in this process."""


def was_trained(root: nn.Module) -> None:
    """Remembers that a model was trained: in another fit it goes on from there."""
    _TRAINED.add(root)


@torch.no_grad()
def earlier_training(root: nn.Module) -> EarlierTraining:
    """Whether weights were trained before, read off normalisation layers and frozen ones. Reads on the host.

    Fresh normalisation layers have constant weights, running means of 0 and have counted no batch; fresh linear layers
    and convolutions keep within the bound that torch draws their weights from.

    >>> net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    >>> earlier_training(net).trained
    ()
    >>> _ = net(torch.randn(8, 3))
    >>> earlier_training(net).trained
    ('1',)
    """
    if root in _TRAINED:
        return EarlierTraining(trained=("in an earlier fit",))
    layers = [(name, module) for name, module in root.named_modules() if "norm" in type(module).__name__.lower()]
    layers = [(name, module) for name, module in layers if _states(module)]
    trained = tuple(name for name, module in layers if any(_is_used(*state) for state in _states(module)))
    if not trained:
        trained = tuple(name for name, module in root.named_modules() if _is_frozen_after_training(module))
    tables = {id(item.weight): name for name, item in root.named_modules() if type(item) is nn.Embedding}
    linear = [(name, item) for name, item in root.named_modules() if type(item) is nn.Linear]
    tied = tuple((name, tables[id(item.weight)]) for name, item in linear if id(item.weight) in tables)
    return EarlierTraining(layers=len(layers), trained=trained[:8], tied=tied)


def _is_frozen_after_training(module: nn.Module) -> bool:
    weight = vars(module)["_parameters"].get("weight")
    plain = isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)) and type(weight) is nn.Parameter
    if not plain or weight is None or weight.requires_grad or weight.is_meta or not weight.numel():
        return False
    return bool(weight.abs().amax() > 1.05 * weight[0].numel() ** -0.5)


def _states(module: nn.Module) -> list[tuple[str, Tensor]]:
    names = ("weight", "bias", "running_mean", "num_batches_tracked")
    found = [(name, vars(module)["_parameters"].get(name, vars(module)["_buffers"].get(name))) for name in names]
    return [(name, tensor) for name, tensor in found if isinstance(tensor, Tensor) and tensor.numel()]


def _is_used(name: str, tensor: Tensor) -> bool:
    if tensor.is_meta or type(tensor) not in (Tensor, nn.Parameter):
        return False
    if name in ("running_mean", "num_batches_tracked"):
        return bool((tensor != 0).any())
    return bool((tensor != tensor.reshape(-1)[0]).any())
