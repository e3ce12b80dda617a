"""What the tensors of a batch are for: inputs, labels, masks, tokens, told from shape, dtype, values and names."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_debug.probes.batch_fields import plain_tensors, tensors_and_texts
from lightning_debug.probes.batch_samples import batch_size_of, numbered_samples, sample_dim
from lightning_debug.probes.field_kinds import (
    Kind,
    all_differ,
    are_lengths,
    come_again,
    input_kind,
    label_kind,
    sampled,
)

Role = Literal["input", "label", "mask", "tokens", "other"]

_LABELS = {"y", "label", "labels", "target", "targets", "gt", "truth", "answer", "answers", "class", "classes", "lbl"}
_LABELS |= {"category", "tgt", "outcome", "response", "ratings", "rating", "score", "scores", "stars", "ys", "labs"}
_INPUTS = {"x", "input", "inputs", "image", "images", "img", "imgs", "feature", "features", "feats", "feat", "data"}
_INPUTS |= {"signal", "audio", "wave", "waveform", "values", "pixels", "pixel", "series", "spectrogram", "xs", "past"}
_MASKS = {"mask", "masks", "padding", "pad", "valid", "observed"}
_TOKENS = {"ids", "id", "tokens", "token", "src", "text", "words", "chars", "user", "item", "users", "items", "idx"}
_TOKENS |= {"index", "indices", "position", "positions", "length", "lengths", "edge"}
_OTHERS = set("weight weights lengths length index idx indices edge batch ptr group time times timestamp ts".split())
_KINDS: dict[str, Callable[[Tensor], Kind]] = {"label": label_kind, "input": input_kind, "tokens": lambda _: "ids"}
_WORD = re.compile(r"[A-Za-z]+")


@dataclass(frozen=True)
class Field:
    """One tensor of a batch and what it is for.

    Args:
        path: How a user would write it: ``"batch['image']"``, ``"batch[1]"``.
        tensor: The tensor itself, detached, never copied; texts and NumPy arrays are turned into tensors.
        role: ``"input"`` (numbers that a net computes with), ``"label"`` (what is to be predicted), ``"mask"``,
            ``"tokens"`` (whole numbers that look up embeddings), ``"other"`` (not known, or samples not told apart).
        kind: More of it. For inputs ``"image"``, ``"series"``, ``"values"``, ``"counts"``, ``"binary"``,
            ``"one-hot"``; for labels ``"classes"`` (whole numbers, of any shape), ``"one-hot"``, ``"multi-hot"``,
            ``"binary"`` (floats 0 and 1), ``"values"`` (regression); ``"ids"`` for tokens; ``"texts"`` for strings,
            whose tensor holds a hash of each.
        dim: The dimension that counts samples, ``None`` where there is none.
        named: Whether the user said so (``inputs=``, ``labels=``).
        keys: What its fingerprint is made of, where ``tensor`` only stands for type and shape (see ``held_batches``).
    """

    path: str
    tensor: Tensor
    role: Role = "other"
    kind: Kind = ""
    dim: int | None = 0
    named: bool = False
    keys: Tensor | None = None

    @functools.cached_property  # asked a dozen times a step
    def size(self) -> int:
        """Samples in it; 0 where they are not told apart."""
        return 0 if self.dim is None else self.tensor.shape[self.dim]

    @functools.cached_property
    def samples(self) -> Tensor:
        """The tensor with the samples in front; a view."""
        return self.tensor if not self.dim else self.tensor.movedim(self.dim, 0)


def batch_roles(
    batch: Any, *, inputs: str | Sequence[str] | None = None, labels: str | Sequence[str] | None = None
) -> list[Field]:
    """The fields of a batch of any structure, in order.

    Args:
        batch: Tuples, lists, dictionaries, named tuples, dataclasses, objects with tensors, nested as they like.
        inputs: Names of the inputs: the last key of their path (``"image"``, ``"0"``) or the whole path.
        labels: Likewise of the labels.

    >>> [(item.path, item.role, item.kind) for item in batch_roles((torch.randn(8, 3), torch.arange(8) % 2))]
    [('batch[0]', 'input', 'values'), ('batch[1]', 'label', 'classes')]
    >>> [item.role for item in batch_roles({"input_ids": torch.arange(24).view(4, 6), "labels": torch.zeros(4).long()})]
    ['tokens', 'label']
    """
    found = tensors_and_texts(batch)
    numbered = numbered_samples([item for _, item, _ in found])
    size = batch_size_of([item.shape for _, item, _ in found])
    fields = []
    for path, tensor, text in found:
        dim = sample_dim(tensor, size)
        if numbered:
            dim = 0 if tensor.ndim and tensor.shape[0] == numbered else None
        fields.append(Field(path, tensor, kind="texts" if text else "", dim=dim))
    return _Roles(fields, _names(inputs), _names(labels)).fields


def with_tensors(known: Sequence[Field], batch: Any) -> list[Field] | None:
    """The fields of a later batch with the roles of an earlier one; ``None`` if it is made otherwise.

    Costs no look at any value.

    >>> known = batch_roles((torch.randn(8, 3), torch.arange(8)))
    >>> [item.size for item in with_tensors(known, (torch.randn(5, 3), torch.arange(5)))]
    [5, 5]
    """
    plain = type(batch) in (list, tuple) and len(batch) > 1 and all(type(item) is Tensor for item in batch)
    found = plain_tensors(batch) if plain else tensors_and_texts(batch)  # most are; this is asked in every step
    if len(found) != len(known):
        return None
    fields = []
    size = 0
    for field, (path, tensor, _) in zip(known, found, strict=True):
        same = field.path == path and field.tensor.dtype == tensor.dtype and field.tensor.ndim == tensor.ndim
        dim = field.dim
        if not same or (dim is not None and tensor.shape[dim] != (size or tensor.shape[dim])):
            return None
        size = tensor.shape[dim] if dim is not None else size
        fields.append(with_tensor(field, tensor, size))
    return fields


def with_tensor(field: Field, tensor: Tensor, size: int) -> Field:
    """The field with another tensor: filled in at once, and with its properties, which takes a fifth of the time."""
    other = object.__new__(Field)
    known = vars(other)
    known.update(vars(field))
    known["tensor"], known["size"] = tensor, 0 if field.dim is None else size
    if field.dim:
        known.pop("samples", None)
    else:
        known["samples"] = tensor
    return other


def _names(words: str | Sequence[str] | None) -> frozenset[str]:
    return frozenset([words] if isinstance(words, str) else words or ())


@functools.lru_cache(maxsize=256)
def last_key(path: str) -> str:
    """The last key of a path.

    >>> last_key("batch['image']"), last_key("batch[0].mask"), last_key("batch[1]")
    ('image', 'mask', '1')
    """
    return re.split(r"[.\[]", path)[-1].rstrip("]").strip("'\"")


def _words(path: str) -> set[str]:
    key = last_key(path)
    return {word.lower() for word in (*_WORD.findall(key), key)} if path != "batch" else set()


class _Roles:
    """Gives each field its role, the surest first."""

    def __init__(self, fields: list[Field], inputs: frozenset[str], labels: frozenset[str]) -> None:
        self.fields = fields
        self._roles: dict[int, tuple[Role, Kind, bool]] = {}
        for index, field in enumerate(fields):
            if {field.path, last_key(field.path)} & labels:
                self._roles[index] = "label", label_kind(field.tensor), True
            elif {field.path, last_key(field.path)} & inputs:
                self._roles[index] = "input", input_kind(field.tensor), True
        told = {role for role, _, _ in self._roles.values()}
        for index, field in enumerate(fields):
            if index not in self._roles:
                role = self._sure(index, field)
                if role is not None and not (role == "label" and "label" in told):
                    self._set(index, role)
        if "label" not in self._given:
            self._find_label()
        for index, field in enumerate(fields):
            if index not in self._roles:
                self._set(index, self._left(field))
        self.fields = [
            dataclasses.replace(field, role=role, kind=field.kind or kind, named=named)
            for field, (role, kind, named) in ((item, self._roles[index]) for index, item in enumerate(fields))
        ]

    @property
    def _given(self) -> set[Role]:
        return {role for role, _, _ in self._roles.values()}

    def _set(self, index: int, role: Role) -> None:
        tensor, kind = self.fields[index].tensor, _KINDS.get(role)
        self._roles[index] = role, kind(tensor) if kind else "", False

    def _sure(self, index: int, field: Field) -> Role | None:
        """A role that the name or dtype alone gives away."""
        words, tensor = _words(field.path), field.tensor
        if field.dim is None or not tensor.numel() or tensor.is_complex():
            return "other"
        if field.kind == "texts":
            return "label" if words & _LABELS else "other"
        whole = not tensor.is_floating_point()
        if words & _MASKS:
            return "mask" if not _is_label_image(self.fields, index) else "label"
        if tensor.dtype == torch.bool and tensor.ndim > 1 and not words & _LABELS:
            return "mask"
        if words & _LABELS or words == {"future"}:  # what is known of the future beside it has a longer name
            return "label" if index or len(self.fields) > 1 else None
        if words & _OTHERS or (words == {"t"} and len(self.fields) > 2):
            return "tokens" if whole and words & _TOKENS and tensor.ndim > 1 else "other"
        if whole and words & _TOKENS:
            return "tokens"
        if words & _INPUTS and (not whole or tensor.dtype == torch.uint8):
            return "input"
        if tensor.dtype == torch.uint8 and tensor.ndim >= 3 and int(sampled(tensor).max()) > 1:
            return "input"
        return None

    def _find_label(self) -> None:
        """Numbers, or else words."""
        self._find_numbers()
        words = [index for index, field in enumerate(self.fields) if field.kind == "texts" and index]
        plain = len(words) == 1 and last_key(self.fields[words[0]].path).isdigit()  # not the file, nor the speaker
        if plain and "label" not in self._given and come_again(self.fields[words[0]].tensor):
            self._roles[words[0]] = "label", "texts", False

    def _find_numbers(self) -> None:
        """The last field that could be a label, where something else is left to be the input."""
        left = [index for index in range(len(self.fields)) if index not in self._roles]
        others: list[str] = [role for role in self._given if role in ("input", "tokens")]
        others += ["input" for item in self.fields if item.tensor.is_complex()]  # a role of its own it has not
        if len(left) + len(others) < 2:
            return
        narrow = [index for index in left if self._is_narrow(index)]
        candidates = [index for index in narrow if index or others]
        if candidates:
            whole = [index for index in candidates if not self.fields[index].tensor.is_floating_point()]
            wide = [self.fields[index].tensor for index in left if index not in narrow]
            beside = "input" in others or any(item.is_floating_point() for item in wide)
            chosen = whole if whole and (beside or whole[-1] == candidates[-1]) else candidates
            groups = [index for index in chosen if not all_differ(self.fields[index].tensor)]  # no running index
            free = [index for index in groups if not self._counts_steps(index)]
            self._set((free or groups or chosen)[-1], "label")
        elif left and len(left) + len(others) == 2 and left[-1]:
            first, last = self.fields[left[0]], self.fields[left[-1]]
            smaller = last.tensor[:1].numel() < first.tensor[:1].numel()
            dense = not last.tensor.is_floating_point() or last.tensor.ndim < first.tensor.ndim
            if smaller or dense or last.tensor.ndim == 2:
                self._set(left[-1], "label")

    def _counts_steps(self, index: int) -> bool:
        """Whether a field says how many steps of another are not padding."""
        tensor = self.fields[index].tensor
        others = (item for item in self.fields if item.tensor.ndim > 1 and item.kind != "texts" and item.dim == 0)
        return any(are_lengths(tensor, item.tensor) for item in others)

    def _is_narrow(self, index: int) -> bool:
        """One value a sample, or one of several units."""
        tensor = self.fields[index].tensor
        if tensor.ndim == 1 or (tensor.ndim == 2 and tensor.shape[1] == 1):
            return True
        return bool(index) and tensor.ndim == 2 and label_kind(self.fields[index].tensor) in ("one-hot", "multi-hot")

    def _left(self, field: Field) -> Role:
        tensor = field.tensor
        if tensor.dtype == torch.bool:
            return "mask"
        if tensor.is_floating_point():
            alone = len(self.fields) == 1 or all(item.tensor.ndim < 2 for item in self.fields)
            return "input" if tensor.ndim > 1 or alone else "other"
        if tensor.dtype == torch.uint8 and tensor.ndim >= 3:
            return "input"
        return "tokens"


def _is_label_image(fields: list[Field], index: int) -> bool:
    """A mask of one class a pixel, beside an image: what segmentation predicts."""
    mask = fields[index].tensor
    if mask.ndim < 3 or not index:
        return False
    images = [item.tensor for item in fields[:index] if item.tensor.ndim == 4]
    return any(image.shape[2:] == mask.shape[-2:] for image in images) and len(fields) == 2
