"""Which source lines are the user's."""

from __future__ import annotations

import functools
import os
import re
import sys
from typing import Any

import torch

_OWN = tuple(
    os.path.dirname(os.path.abspath(module.__file__)) + os.sep
    for module in (torch, sys.modules[__name__.partition(".")[0]])
    if module.__file__
)
_OLD_CELL = re.compile(r"<ipython-input-(\d+)-\w+>")
_FRAMEWORKS = ("pytorch_lightning", "lightning", "lightning_fabric", "torchmetrics", "lightning_utilities")


@functools.lru_cache(maxsize=4096)
def is_library(filename: str) -> bool:
    """Whether a source file belongs to torch, Lightning or this package rather than to the user."""
    if filename.startswith(("<frozen", "<string>", "<eval_with_key>", "<__array_function__", *_OWN)):
        return True
    parts = filename.replace(os.sep, "/").split("/")
    return "site-packages" in parts and any(name in parts for name in _FRAMEWORKS)


def is_installed(filename: str) -> bool:
    """Whether a source file belongs to an installed package.

    >>> is_installed("/venv/lib/python3.11/site-packages/timm/layers.py"), is_installed("train.py")
    (True, False)
    """
    return "site-packages" in filename or "dist-packages" in filename


def display_path(filename: str) -> str:
    """The path as a user would write it: relative below the working directory, else as it is.

    A cell of a notebook is named as the notebook numbers it.

    >>> display_path("<ipython-input-12-0a1b2c3d>")
    'In[12]'
    """
    old = _OLD_CELL.match(filename)
    if old:
        return f"In[{old[1]}]"
    if "ipykernel_" in filename and "IPython" in sys.modules:
        shell: Any = sys.modules["IPython"].get_ipython()
        cells = getattr(getattr(shell, "compile", None), "_filename_map", {})
        if filename in cells:
            return f"In[{cells[filename]}]"
    return _below(filename, os.getcwd()) if os.path.isabs(filename) else filename


@functools.lru_cache(maxsize=1024)
def _below(filename: str, folder: str) -> str:
    relative = os.path.relpath(filename, folder)
    return filename if relative.startswith("..") else relative
