"""Cuts a batch of any structure into batches of fewer samples, or says why that is not certain to be right."""

from __future__ import annotations

import copy
import dataclasses
from collections import UserDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

_PLAIN = (str, bytes, int, float, complex, type(None))
_ROWS = "a list of as many items as there are samples, each of which could also be a batch"


class Uncuttable(Exception):
    """A batch whose samples cannot be told apart with certainty.

    Args:
        reason: Half a sentence that can follow "not judged, because".
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


def batch_size(batch: Any) -> int:
    """How many samples a batch holds.

    Every tensor with a dimension must agree on its leading size; or, where samples are kept in lists
    because they differ in size, every such list on its length.

    Raises:
        Uncuttable: If they disagree, or if the batch holds something whose structure is not known.

    >>> batch_size({"image": torch.zeros(6, 3, 4, 4), "label": torch.zeros(6), "scale": torch.tensor(2.0)})
    6
    """
    return _Layout(batch).samples


def cut_batch(batch: Any, start: int, stop: int) -> Any:
    """The samples ``start`` to ``stop`` as a batch of the same structure that shares no memory with it.

    Raises:
        Uncuttable: As :func:`batch_size`.

    >>> cut_batch((torch.arange(4), ["a", "b", "c", "d"], None), 1, 3)
    (tensor([1, 2]), ['b', 'c'], None)
    """
    layout = _Layout(batch)
    return _rebuild(batch, lambda leaf: _cut(leaf, start, stop, layout), layout.is_column)


def take_samples(batch: Any, samples: Sequence[int]) -> Any:
    """The samples of these indices, in this order, as a batch of the same structure that shares no memory with it.

    Raises:
        Uncuttable: As :func:`batch_size`.

    >>> take_samples((torch.arange(4), ["a", "b", "c", "d"], None), [1, 1, 0])
    (tensor([1, 1, 0]), ['b', 'b', 'a'], None)
    """
    layout = _Layout(batch)
    return _rebuild(batch, lambda leaf: _take(leaf, list(samples), layout), layout.is_column)


def moved(batch: Any, device: torch.device | str) -> Any:
    """A batch of the same structure with its tensors on a device; nothing waits for the copies.

    Raises:
        Uncuttable: If the batch holds something whose structure is not known: its own ``to`` might move it in place.

    >>> moved({"image": torch.zeros(6, 3), "name": "a"}, "meta")["image"].device.type
    'meta'
    """
    return _rebuild(
        batch,
        lambda leaf: leaf if isinstance(leaf, np.ndarray) else leaf.to(device, non_blocking=True),
        lambda _: False,
    )


def structure(batch: Any) -> tuple[str, ...]:
    """What a batch is made of, without its sizes: two batches that one step can take have equal structures.

    >>> structure({"x": torch.zeros(2, 3), "y": None}) == structure({"x": torch.ones(5, 3), "y": None})
    True
    """
    return tuple(_describe(batch, ""))


def _describe(node: Any, path: str) -> Iterator[str]:
    if isinstance(node, (Tensor, np.ndarray)):
        yield f"{path}:{type(node).__name__}:{node.dtype}:{node.ndim}"
        return
    try:
        children = _children(node)
    except Uncuttable:
        children = None
    if children is None or _is_values(node):
        yield f"{path}:{type(node).__name__}"
        return
    yield f"{path}:{type(node).__name__}:{len(children)}"
    for name, child in children:
        yield from _describe(child, f"{path}.{name}")


class _Layout:
    """Where the samples of one batch are: along the leading dimension of tensors, or in lists of samples."""

    def __init__(self, batch: Any) -> None:
        arrays, lists = list(_arrays(batch)), list(_lists(batch))
        leading = {len(item) for item in arrays}
        if len(leading) == 1:
            self.samples = leading.pop()
            self._columns = [item for item in lists if _is_values(item) and len(item) == self.samples]
            if any(not _is_values(item) and len(item) == self.samples for item in lists):
                raise Uncuttable(f"the batch holds {_ROWS}")
        else:
            self.samples, self._columns = _samples_in_lists(batch, leading)
        if self.samples < 1:
            raise Uncuttable("the batch is empty")

    def is_column(self, node: Any) -> bool:
        """Whether a list holds one item for each sample."""
        return any(node is item for item in self._columns)


def _samples_in_lists(batch: Any, leading: set[int]) -> tuple[int, list[Any]]:
    """Samples of different size: every field is a list with an item a sample, or a tensor of as many rows."""
    fields = [child for _, child in _children(batch) or [] if not isinstance(child, _PLAIN)]
    lists = [item for item in fields if isinstance(item, (list, tuple)) and not _is_named_tuple(item)]
    others = [len(item) for item in fields if isinstance(item, (Tensor, np.ndarray)) and item.ndim]
    lengths = {len(item) for item in lists}
    known = all(isinstance(item, (list, tuple, Tensor, np.ndarray)) for item in fields)
    if not leading:
        raise Uncuttable("the batch holds no tensor with a dimension")
    if not lists or not known or len(lengths | set(others)) != 1:
        sizes = ", ".join(map(str, sorted(leading)[:4]))
        raise Uncuttable(f"the tensors of the batch have leading sizes {sizes}: which one counts samples is not known")
    return lengths.pop(), lists


def _children(node: Any) -> list[tuple[Any, Any]] | None:
    """Parts of a container by name; ``None`` for what is none.

    Raises:
        Uncuttable: For an object whose structure is not known.
    """
    if isinstance(node, (*_PLAIN, np.generic, Tensor, np.ndarray)):
        return None
    if isinstance(node, PackedSequence):
        raise Uncuttable("the batch holds a PackedSequence")
    if _is_named_tuple(node):
        return [(name, getattr(node, name)) for name in node._fields]
    if type(node) in (list, tuple):
        return list(enumerate(node))
    if isinstance(node, (dict, UserDict)):
        return list(node.items())
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        return [(item.name, getattr(node, item.name)) for item in dataclasses.fields(node) if hasattr(node, item.name)]
    if _is_tensor_dict(node):
        return None
    raise Uncuttable(f"the batch holds a {type(node).__name__}, whose samples are not known")


def _arrays(node: Any) -> Iterator[Any]:
    """Everything in a batch with a leading size, in order."""
    if isinstance(node, Tensor):
        if node.is_nested or node.layout is not torch.strided:
            raise Uncuttable("the batch holds a sparse or nested tensor")
        if node.ndim:
            yield node
    elif isinstance(node, np.ndarray):
        if node.ndim:
            yield node
    elif _is_tensor_dict(node):
        if not node.batch_size:
            raise Uncuttable("the batch holds a TensorDict without a batch size")
        yield node
    else:
        for _, child in _children(node) or []:
            yield from _arrays(child)


def _lists(node: Any) -> Iterator[list[Any] | tuple[Any, ...]]:
    """Every plain list and tuple in a batch below the batch itself."""
    for _, child in _children(node) or []:
        if type(child) in (list, tuple):
            yield child
        yield from _lists(child)


def _rebuild(node: Any, cut: Callable[[Any], Any], is_column: Callable[[Any], bool]) -> Any:
    if isinstance(node, (Tensor, np.ndarray)) or _is_tensor_dict(node) or is_column(node):
        return cut(node)
    children = _children(node)
    if children is None:
        return node
    parts = [_rebuild(child, cut, is_column) for _, child in children]
    if _is_named_tuple(node):
        return type(node)(*parts)
    if type(node) in (list, tuple):
        return type(node)(parts)
    if isinstance(node, (dict, UserDict)):
        result = copy.copy(node)
        result.update(zip(node, parts, strict=True))
        return result
    result = object.__new__(type(node))  # a frozen dataclass with slots refuses copy.copy and setattr
    if hasattr(node, "__dict__"):
        vars(result).update(vars(node))
    for (name, _), part in zip(children, parts, strict=True):
        object.__setattr__(result, name, part)
    return result


def _cut(leaf: Any, start: int, stop: int, layout: _Layout) -> Any:
    if isinstance(leaf, Tensor):
        part = leaf.detach()[start:stop] if leaf.ndim else leaf.detach()
        return part.clone().requires_grad_(leaf.requires_grad)
    if isinstance(leaf, np.ndarray):
        return leaf[start:stop].copy() if leaf.ndim else leaf.copy()
    if layout.is_column(leaf):
        return copy.deepcopy(leaf[start:stop])
    return leaf[start:stop].clone()


def _take(leaf: Any, samples: list[int], layout: _Layout) -> Any:
    if layout.is_column(leaf):
        return type(leaf)([copy.deepcopy(leaf[index]) for index in samples])
    if isinstance(leaf, Tensor):
        part = leaf.detach()[samples] if leaf.ndim else leaf.detach().clone()
        return part.requires_grad_(leaf.requires_grad)
    if isinstance(leaf, np.ndarray):
        return leaf[samples] if leaf.ndim else leaf.copy()
    return leaf[torch.tensor(samples)].clone()


def _is_named_tuple(node: Any) -> bool:
    return isinstance(node, tuple) and hasattr(node, "_fields")


def _is_tensor_dict(node: Any) -> bool:
    return any(kind.__name__ == "TensorDictBase" for kind in type(node).__mro__)


def _is_values(node: Any) -> bool:
    """Whether a list holds only numbers and texts."""
    return isinstance(node, (list, tuple)) and all(isinstance(item, (*_PLAIN, np.generic)) for item in node)
