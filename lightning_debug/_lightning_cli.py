"""LightningCLI with a Debugger of its own: the options ``--debug.*``, in either of Lightning's packages."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

PACKAGES = {"lightning": "lightning.pytorch", "pytorch_lightning": "pytorch_lightning"}
"""Where each of Lightning's packages holds the Trainer."""


def add_debug_arguments(parser: Any, key: str = "debug") -> None:
    """Gives a LightningCLI's parser the options of a Debugger, which every run of it then has.

    Call it in ``add_arguments_to_parser`` of your own LightningCLI. ``--debug.enabled=false`` leaves the
    Debugger out; the options are saved with the configuration and read back from it.

    Args:
        parser: Lightning's ``LightningArgumentParser``, of either package.
        key: What the options begin with.
    """
    from lightning_debug.debugger import Debugger  # after Lightning: it derives from the packages that are loaded

    parser.add_lightning_class_args(Debugger, key)


if TYPE_CHECKING:
    from pytorch_lightning.cli import LightningCLI as _Base
else:
    _Base = object


class DebugCLI(_Base):
    """LightningCLI with the options of a Debugger under ``--debug``.

    It takes what LightningCLI takes. The package follows from the model's or data module's class, else from what
    the program has imported, so that one class serves both.

    >>> from lightning_debug.cli import DebugCLI
    >>> issubclass(DebugCLI, DebugCLI)
    True
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> DebugCLI:
        """Joins the class to the LightningCLI of the package that the program uses."""
        kind = cls
        if not any(item.__name__ == "LightningCLI" for item in cls.__mro__):
            base = importlib.import_module(f"{_package((*args, *kwargs.values()))}.cli").LightningCLI
            kind = type(cls.__name__, (cls, base), {"__module__": cls.__module__, "__doc__": cls.__doc__})
        made: DebugCLI = object.__new__(kind)
        return made

    def add_arguments_to_parser(self, parser: Any) -> None:
        """Adds ``--debug``; a subclass that overrides this calls ``super()``."""
        super().add_arguments_to_parser(parser)
        add_debug_arguments(parser)


def _package(given: tuple[Any, ...]) -> str:
    """The package of the first class of Lightning's among arguments; else one that is loaded; else one installed."""
    for item in given:
        for kind in getattr(item, "__mro__", ()):
            top = kind.__module__.partition(".")[0]
            if top in PACKAGES:
                return PACKAGES[top]
    loaded = [name for name in PACKAGES.values() if name in sys.modules]
    return loaded[0] if loaded else "pytorch_lightning"
