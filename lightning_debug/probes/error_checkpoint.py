"""What the frames of a failed ``load_state_dict`` tell: keys and shapes of the module, and of what it was given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import FrameType
from typing import Any

from torch import Tensor, nn

MOST_SHAPES = 6


def checkpoint_notes(frames: Iterable[FrameType]) -> dict[str, str]:
    """Facts about a state dict that a module refused, by name; empty where none was loaded.

    ``refused_by`` is the module's class, ``missing`` and ``unexpected`` count keys, with the first of each as
    ``first_missing`` and ``first_unexpected``; ``surplus`` is a prefix of the given keys without which the module's
    own keys are all there, ``lacking_prefix`` one with which they are; ``whole`` the entry that holds the state dict
    where a whole checkpoint was given; ``sizes`` the keys of unequal shape.

    >>> import sys
    >>> net = nn.Sequential(nn.Linear(2, 3))
    >>> try:
    ...     net.load_state_dict({f"model.{key}": value for key, value in net.state_dict().items()})
    ... except RuntimeError as error:
    ...     trace = error.__traceback__.tb_next
    >>> checkpoint_notes([trace.tb_frame])["surplus"]
    'model.'
    """
    for frame in frames:
        module, given = frame.f_locals.get("self"), frame.f_locals.get("state_dict")
        if frame.f_code.co_name == "load_state_dict" and isinstance(module, nn.Module) and isinstance(given, Mapping):
            return _compared(module, given)
    return {}


def _compared(module: nn.Module, given: Mapping[str, Any]) -> dict[str, str]:
    own = module.state_dict()
    missing = [key for key in own if key not in given]
    unexpected = [key for key in given if key not in own]
    unequal = [
        f"{key} {tuple(given[key].shape)} for {tuple(value.shape)}"
        for key, value in own.items()
        if isinstance(value, Tensor) and isinstance(given.get(key), Tensor) and given[key].shape != value.shape
    ]
    found = {"refused_by": type(module).__name__, "missing": str(len(missing)), "unexpected": str(len(unexpected))}
    found |= {"first_missing": missing[0]} if missing else {}
    found |= {"first_unexpected": str(unexpected[0])} if unexpected else {}
    found |= {"sizes": "; ".join(unequal[:MOST_SHAPES])} if unequal else {}
    whole = next(
        (str(key) for key in ("state_dict", "model_state_dict", "model") if isinstance(given.get(key), Mapping)), ""
    )
    if whole and len(missing) == len(own):
        return {**found, "whole": whole}
    if missing and unexpected:
        found |= _prefixes(list(own), list(map(str, given)))
    return found


def _prefixes(own: list[str], given: list[str]) -> dict[str, str]:
    """A prefix that all keys of one side have and those of the other lack."""
    there = set(given)
    ends = [key[: -len(own[0])] for key in given if key.endswith("." + own[0])]
    for prefix in sorted(ends, key=len):
        if all(prefix + key in there for key in own):
            return {"surplus": prefix}
    mine = set(own)
    for key in own:
        if given and key.endswith("." + given[0]):
            prefix = key[: -len(given[0])]
            if all(prefix + other in mine for other in given):
                return {"lacking_prefix": prefix}
    return {}
