"""Imports a script for its data, as far as the line where it begins to train."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NoReturn
from unittest import mock

from lightning_debug._lightning_cli import PACKAGES

METHODS = ("fit", "validate", "test", "predict")


class TrainingBegins(BaseException):
    """Raised in place of a fit; no ``Exception``, so that a script's own handlers let it through."""


class CannotImport(Exception):
    """There is no such module or file; the message says why."""


def imported(path: str) -> tuple[ModuleType, int | None]:
    """A module with what its code defines before it trains.

    A fit, a test or a LightningCLI that is not behind ``if __name__ == "__main__":`` ends the import where it stands;
    nothing is trained. ``sys.argv`` holds the path alone meanwhile: our own arguments are not the script's.

    Args:
        path: A file that ends in ``.py``, or the name of a module.

    Returns:
        The module, and the line at which it would have begun to train, or ``None`` if it does not.

    Raises:
        CannotImport: If there is nothing of that name.
    """
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)) if path.endswith(".py") else os.getcwd())
    with _halted(), mock.patch.object(sys, "argv", [path]):
        spec = _spec(path)
        known = sys.modules.get(spec.name)
        if known is not None and not path.endswith(".py"):
            return known, None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # worker processes and pickles look classes up there
        try:
            spec.loader.exec_module(module)
        except TrainingBegins as halt:
            frames = traceback.extract_tb(halt.__traceback__)
            lines = [frame.lineno for frame in frames if frame.filename == spec.origin and frame.name == "<module>"]
            return module, lines[-1] if lines else 0
        except ModuleNotFoundError as error:
            raise CannotImport(f"{path} cannot be imported: no module named {error.name!r}") from error
    return module, None


def _spec(path: str) -> Any:
    if path.endswith(".py"):
        if not os.path.exists(path):
            raise CannotImport(f"can't open {path!r}: there is no such file")
        name = os.path.splitext(os.path.basename(path))[0]
        return importlib.util.spec_from_file_location(name, os.path.abspath(path))
    try:
        spec = importlib.util.find_spec(path)
    except TrainingBegins:
        raise CannotImport(f"the package of {path!r} begins to train as it is imported") from None
    except (ModuleNotFoundError, ValueError) as error:
        raise CannotImport(f"no module named {getattr(error, 'name', None) or path!r}") from error
    if spec is None or spec.loader is None:
        raise CannotImport(f"no module named {path!r}")
    return spec


def _halt(*_: Any, **__: Any) -> NoReturn:
    raise TrainingBegins


@contextlib.contextmanager
def _halted() -> Iterator[None]:
    with contextlib.ExitStack() as patches:
        for top, name in PACKAGES.items():
            if importlib.util.find_spec(top) is None:
                continue
            trainer = importlib.import_module(name).Trainer
            for method in METHODS:
                patches.enter_context(mock.patch.object(trainer, method, _halt))
            cli = importlib.import_module(f"{name}.cli").LightningCLI
            patches.enter_context(mock.patch.object(cli, "__init__", _halt))
        yield
