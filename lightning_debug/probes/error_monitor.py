"""Names of logged values: which one may have been meant, and whether a function has a name in its code."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

_LOADER = re.compile(r"/dataloader_idx_\d+$")
_ALIKE = {"valid": "val", "validation": "val", "eval": "val", "dev": "val", "training": "train", "acc": "accuracy"}


def nearest(name: str, there: Iterable[str]) -> str:
    """The name that may have been meant; ``""`` for none.

    >>> nearest("val_loss", ["train_loss", "valid/loss"]), nearest("val_loss", ["val_loss/dataloader_idx_1", "val_acc"])
    ('valid/loss', 'val_loss/dataloader_idx_1')
    >>> nearest("val_loss", ["train_loss", "val_acc"])
    ''
    """
    names = sorted(there)
    words = _words(name)
    same = [other for other in names if _words(_LOADER.sub("", other)) == words]
    if same:
        return same[0]
    sides = {word for word in words if word in ("val", "train", "test")}
    close = [other for other in names if {word for word in _words(other) if word in ("val", "train", "test")} == sides]
    found = difflib.get_close_matches(name.lower(), [other.lower() for other in close], n=1, cutoff=0.8)
    return next((other for other in close if found and other.lower() == found[0]), "")


def _words(name: str) -> list[str]:
    parts = [word for word in re.split(r"[/_.\- ]+|(?<=[a-z])(?=[A-Z])", name) if word]
    return sorted(_ALIKE.get(word.lower(), word.lower()) for word in parts)


def names_it(function: Any, name: str) -> bool:
    """Whether a function's code holds the name as a constant.

    >>> names_it(lambda: print("val_loss"), "val_loss"), names_it(print, "val_loss")
    (True, False)
    """
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    return code is not None and _holds(code, name)


def _holds(code: Any, name: str) -> bool:
    constants = [item for one in code.co_consts for item in (one if isinstance(one, tuple) else (one,))]
    return any(item == name for item in constants if isinstance(item, str)) or any(
        _holds(item, name) for item in constants if hasattr(item, "co_consts")
    )
