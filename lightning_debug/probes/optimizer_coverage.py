"""Which parameters there are, who holds them, which optimizers know them, and whether they were ever trained."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lightning_debug.probes.source import is_installed

DEPTH = 3
"""How deep plain containers are searched for modules."""

_NUMBER = re.compile(r"\d+$")

SMALLEST = 48
"""Values below which a tensor tells nothing about training."""


@dataclass(frozen=True, eq=False)
class Held:
    """A parameter and where it hangs.

    Args:
        name: Its path, as the user writes it.
        parameter: The parameter.
        owner: The module that holds it.
        path: That module's path.
        held_in: The attribute of a plain container that hides the module from the model; or empty.
    """

    name: str
    parameter: nn.Parameter
    owner: nn.Module
    path: str
    held_in: str = ""


def readable(name: str) -> str:
    """A path without what wrappers put into it."""
    parts = (part for part in name.split(".") if part not in ("_orig_mod", "_forward_module", "_fsdp_wrapped_module"))
    return ".".join(parts)


def held_parameters(root: nn.Module) -> list[Held]:
    """Every parameter of a model once, and those of modules that plain lists and dicts hide from it."""
    found: dict[int, Held] = {}
    known = {id(module) for module in root.modules()}
    for path, module in root.named_modules():
        _collect(found, module, path, "")
    for path, module in list(root.named_modules()):
        for name, value in list(vars(module).items()):
            if name.startswith("_") or not isinstance(value, (list, tuple, dict)):
                continue
            place = readable(f"{path}.{name}" if path else name)
            for index, item in _inside(value):
                if isinstance(item, nn.Module) and id(item) not in known:
                    for inner, part in item.named_modules():
                        _collect(found, part, f"{place}{index}" + (f".{inner}" if inner else ""), place)
                elif isinstance(item, nn.Parameter) and id(item) not in found and not is_lazy(item):
                    found[id(item)] = Held(f"{place}{index}", item, module, readable(path), place)
    return list(found.values())


def _collect(found: dict[int, Held], module: nn.Module, path: str, held_in: str) -> None:
    for name, parameter in vars(module).get("_parameters", {}).items():
        if parameter is not None and id(parameter) not in found and not is_lazy(parameter):
            place = readable(path)
            found[id(parameter)] = Held(f"{place}.{name}" if place else name, parameter, module, place, held_in)


def _inside(value: Any, depth: int = DEPTH, index: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, (nn.Module, nn.Parameter)):
        yield index, value
    elif depth and isinstance(value, (list, tuple)):
        for place, item in enumerate(value[:256]):
            yield from _inside(item, depth - 1, f"{index}[{place}]")
    elif depth and isinstance(value, dict):
        for key, item in list(value.items())[:256]:
            yield from _inside(item, depth - 1, f"{index}[{key!r}]")


def own_optimizers(root: nn.Module) -> list[Any]:
    """Optimizers that a model keeps as attributes, whether the Trainer knows them or not."""
    found = []
    for module in root.modules():
        for name, value in list(vars(module).items()):
            if name in ("_modules", "_parameters", "_buffers", "_trainer"):
                continue
            items = (
                value if isinstance(value, (list, tuple)) else value.values() if isinstance(value, dict) else [value]
            )
            found += [item for item in list(items)[:64] if isinstance(item, torch.optim.Optimizer)]
    return found


def optimized(optimizers: Iterable[Any]) -> dict[int, Tensor]:
    """The tensors in the groups of optimizers, by identity."""
    found = {}
    for optimizer in optimizers:
        for group in getattr(optimizer, "param_groups", ()):
            found.update({id(item): item for item in group.get("params", ()) if isinstance(item, Tensor)})
    return found


@torch.no_grad()
def untrained(parameter: Tensor) -> bool | None:
    """Whether values look as an initialisation leaves them: constant, or independent draws. Reads on the host.

    Training gives the rows and columns of a matrix different norms; draws of one distribution have equal ones but
    for chance.

    >>> _ = torch.manual_seed(0)
    >>> layer = nn.Linear(32, 16)
    >>> untrained(layer.weight), untrained(layer.weight * torch.linspace(0.3, 6.0, 32)), untrained(torch.zeros(3))
    (True, False, True)
    """
    values = parameter.detach()
    if hasattr(values, "to_local") or values.is_meta or not values.is_floating_point() or not values.numel():
        return None
    values = values.double()
    if bool((values == values.reshape(-1)[0]).all()):
        return True
    if not bool(torch.isfinite(values).all()):
        return None
    if _fills_default_range(values) or _standard(values):
        return True
    if values.numel() < SMALLEST:
        return None
    root = values.square().mean().sqrt()
    centred = bool(values.mean().abs() <= 5.0 * root / math.sqrt(values.numel()))
    if values.ndim < 2 or min(values.shape[0], values[0].numel()) < 4:
        return True if centred and bool(values.abs().max() <= 1.95 * root) else None
    energy = values.reshape(values.shape[0], -1).square()
    even = all(_even(part) for part in (energy, energy.T))
    return centred and even and bool(energy.square().mean() <= 4.0 * energy.mean().square())


def _fills_default_range(values: Tensor) -> bool:
    """Whether a matrix fills, and does not leave, the range from which torch draws initial weights."""
    if values.ndim < 2 or values.numel() < 6:
        return False
    incoming, outgoing = values[0].numel(), values.shape[0]
    largest, root = float(values.abs().max()), float(values.square().mean().sqrt())
    for bound in (1.0 / math.sqrt(incoming), math.sqrt(6.0 / (incoming + outgoing)), math.sqrt(6.0 / incoming)):
        if 0.75 * bound <= largest <= bound * 1.00001 and 0.6 <= root * math.sqrt(3.0) / bound <= 1.4:
            return True
    return False


def _standard(values: Tensor) -> bool:
    """Whether values look drawn from the standard normal distribution, as ``randn`` and embeddings are."""
    count = values.numel()
    spread = min(0.35, 3.0 / math.sqrt(2 * count))
    root, mean = float(values.square().mean().sqrt()), float(values.mean())
    return count >= 16 and abs(root - 1.0) <= spread and abs(mean) <= 3.0 / math.sqrt(count)


def _even(energy: Tensor) -> bool:
    """Whether the rows' means differ by no more than chance."""
    rows, columns = energy.shape
    expected = energy.var() / columns
    return bool(energy.mean(dim=1).var() <= expected * (1.0 + 6.0 * math.sqrt(2.0 / (rows - 1))))


def part_untrained(parameters: Iterable[Tensor]) -> bool | None:
    """As :func:`untrained`, for the parameters of one part together: one that was trained tells of all."""
    told = [untrained(item) for item in parameters]
    if False in told:
        return False
    return True if True in told else None


def in_library(root: nn.Module, path: str) -> bool:
    """Whether the class that put a module together is one of an installed library other than torch."""
    parts = path.split(".") if path else []
    for end in range(len(parts) - 1, -1, -1):
        try:
            parent = root.get_submodule(".".join(parts[:end]))
        except AttributeError:
            continue
        top = type(parent).__module__.partition(".")[0]
        if top == "torch":
            continue
        file = getattr(sys.modules.get(type(parent).__module__), "__file__", None) or ""
        return is_installed(file)
    return False


def made_like(one: nn.Module, other: nn.Module) -> bool:
    """Whether two modules are of one class and have parameters of the same shapes."""
    shapes = [[(name, tuple(item.shape)) for name, item in part.named_parameters()] for part in (one, other)]
    return one is not other and type(one) is type(other) and bool(shapes[0]) and shapes[0] == shapes[1]


def is_spare_end(name: str, reached: Mapping[str, bool]) -> bool:
    """Whether a parameter is what the last block of a row has to spare: what it hands on, and nobody takes.

    The same part of an earlier block is reached by a gradient, and other parts of its own block are: in its own row,
    or in rows of as many blocks beside it (``self.edges[i]``, ``self.nodes[i]``).

    Args:
        name: Its path.
        reached: Whether a gradient reached each parameter, by path.

    >>> reached = {"row.0.on.weight": True, "row.0.skip.weight": True, "row.1.skip.weight": True}
    >>> is_spare_end("row.1.on.weight", reached | {"row.1.on.weight": False})
    True
    >>> is_spare_end("row.1.on.weight", reached | {"row.1.on.weight": False, "row.2.skip.weight": True})
    False
    >>> beside = {"net.on.0.weight": True, "net.on.1.weight": False, "net.off.0.bias": True, "net.off.1.bias": True}
    >>> is_spare_end("net.on.1.weight", beside), is_spare_end("net.on.1.weight", beside | {"net.off.2.bias": True})
    (True, False)
    """
    parts = name.split(".")
    for place, part in enumerate(parts[:-1]):
        number = _NUMBER.search(part)
        if number is None:
            continue
        row = ".".join([*parts[:place], part[: number.start()]])
        blocks = _blocks(row, reached)
        own, tail = int(number[0]), "." + ".".join(parts[place + 1 :])
        earlier = any(block.get(tail) for index, block in blocks.items() if index < own)
        if not earlier or own != max(blocks):
            continue
        if any(blocks[own].values()):
            return True
        if row.endswith(".") and place:
            around = "".join(f"{one}." for one in parts[: place - 1])
            if any(_ends_alike(beside, own, len(blocks), reached) for beside in _rows(around, reached)):
                return True
    return False


def _blocks(row: str, reached: Mapping[str, bool]) -> dict[int, dict[str, bool]]:
    """The parameters of each block of a row, by what is left of their paths."""
    blocks: dict[int, dict[str, bool]] = {}
    for other, told in reached.items():
        index, dot, rest = other[len(row) :].partition(".")
        if other.startswith(row) and index.isdecimal():
            blocks.setdefault(int(index), {})[dot + rest] = told
    return blocks


def _rows(around: str, reached: Mapping[str, bool]) -> set[str]:
    """The rows of blocks that a module holds."""
    split = [other[len(around) :].split(".") for other in reached if other.startswith(around)]
    return {f"{around}{parts[0]}." for parts in split if len(parts) > 2 and parts[1].isdecimal()}


def _ends_alike(row: str, own: int, count: int, reached: Mapping[str, bool]) -> bool:
    """Whether a row has as many blocks, all of which a gradient reaches."""
    blocks = _blocks(row, reached)
    return len(blocks) == count and max(blocks) == own and all(any(block.values()) for block in blocks.values())


def is_metric(root: nn.Module, path: str) -> bool:
    """Whether a module is a metric of torchmetrics or a part of one."""
    parts = path.split(".") if path else []
    for end in range(len(parts), 0, -1):
        try:
            module = root.get_submodule(".".join(parts[:end]))
        except AttributeError:
            continue
        if any(kind.__module__.startswith("torchmetrics") for kind in type(module).__mro__):
            return True
    return False


@torch.no_grad()
def is_twin(parameter: Tensor, others: Iterable[Tensor]) -> bool:
    """Whether values equal those of another tensor bit for bit, and not because both are constant.

    Args:
        parameter: The values.
        others: What trained parameters held when training began.
    """
    values = parameter.detach()
    if values.numel() < 2 or bool((values == values.reshape(-1)[0]).all()):
        return False
    return any(
        item.shape == values.shape and item.dtype == values.dtype and torch.equal(item, values) for item in others
    )
