"""A slow, obvious twin of the isolation's walk: hashes all that a value holds, by value."""

from __future__ import annotations

import collections
import hashlib
import random
import types
from typing import Any

import numpy
import pytorch_lightning as pl
import torch


def fingerprint(*values: Any) -> str:
    """One hash of everything that values hold: attributes, tensors bit for bit, generators, containers."""
    digest = hashlib.sha256()
    for line in lines(values):
        digest.update(line.encode())
    return digest.hexdigest()


def entries(values: dict[Any, Any], path: str = "", seen: dict[int, str] | None = None) -> list[str]:
    """The lines of a dict's entries; the dict itself may be made for the occasion."""
    seen, found = {} if seen is None else seen, []
    for key, item in values.items():
        found += lines(item, f"{path}[{key if isinstance(key, (str, int)) else type(key).__name__}]", seen)
    return found


def lines(value: Any, path: str = "", seen: dict[int, str] | None = None) -> list[str]:  # noqa: C901 -- one kind after another
    """The same as text, one line a leaf, so that a difference can be named."""
    seen = {} if seen is None else seen
    if isinstance(
        value, (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, type, torch.Size)
    ):
        return [f"{path} = {value!r}\n"]
    if isinstance(value, (pl.Trainer, types.ModuleType, types.BuiltinFunctionType)):
        return [f"{path} : {type(value)}\n"]
    if id(value) in seen:
        return [f"{path} -> {seen[id(value)]}\n"]
    seen[id(value)] = path
    found = [f"{path} : {type(value).__name__} {id(value) if not isinstance(value, tuple) else ''}\n"]
    if isinstance(value, torch.Tensor):
        raw = value.detach().to_dense() if value.is_sparse else value.detach()
        found.append(
            f"{path} {raw.dtype} {tuple(raw.shape)} {raw.is_contiguous()} {value.requires_grad} {value.is_leaf}\n"
        )
        found.append(
            f"{path} {raw.clone(memory_format=torch.contiguous_format).view(-1).view(torch.uint8).numpy().tobytes().hex() if raw.numel() else ''}\n"
        )
        found.append(f"{path} pointer {value.data_ptr() if not value.is_sparse else 0} version {value._version}\n")
        found += lines(value.grad, f"{path}.grad", seen) if value.is_leaf else []
        found += entries(dict(value.__dict__), f"{path}.__dict__", seen)
        found += lines(value._backward_hooks, f"{path}._backward_hooks", seen)
    elif isinstance(value, torch.Generator):
        found.append(f"{path} {value.get_state().numpy().tobytes().hex()}\n")
    elif isinstance(value, numpy.random.Generator):
        found.append(f"{path} {value.bit_generator.state}\n")
    elif isinstance(value, numpy.random.RandomState):
        found.append(f"{path} {value.get_state()}\n")
    elif isinstance(value, random.Random):
        found.append(f"{path} {value.getstate()}\n")
    elif isinstance(value, numpy.ndarray):
        found.append(f"{path} {value.tolist()}\n")
    elif isinstance(value, dict):
        found += entries(value, path, seen)
    elif isinstance(value, (list, tuple, collections.deque)):
        for index, item in enumerate(value):
            found += lines(item, f"{path}[{index}]", seen)
    elif isinstance(value, (set, frozenset)):
        found.append(f"{path} {sorted(map(repr, value))}\n")
    elif isinstance(value, bytearray):
        found.append(f"{path} {bytes(value)!r}\n")
    elif isinstance(value, types.FunctionType):
        for cell in value.__closure__ or ():
            found += lines(cell.cell_contents, f"{path}.<>", seen)
        found += lines(value.__dict__, f"{path}.__dict__", seen)
    elif isinstance(value, types.MethodType):
        found += lines(value.__self__, f"{path}.__self__", seen)
    else:
        found += entries(dict(getattr(value, "__dict__", {})), path, seen)
        for kind in type(value).__mro__:
            for name, member in vars(kind).items():
                if isinstance(member, types.MemberDescriptorType):
                    found += lines(getattr(value, name, "<empty>"), f"{path}.{name}", seen)
    return found


def differences(before: list[str], after: list[str]) -> list[str]:
    """The first lines that differ."""
    return [f"{old.strip()} | {new.strip()}" for old, new in zip(before, after, strict=False) if old != new][:5] or (
        [] if len(before) == len(after) else [f"{len(before)} lines | {len(after)} lines"]
    )


def generators() -> list[str]:
    """The global random generators."""
    return lines((torch.get_rng_state().numpy().tobytes(), numpy.random.mtrand._rand, random._inst))
