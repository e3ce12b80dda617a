"""Checks an installation without extras: every module imports, every public name is there, the command answers."""

import importlib
import importlib.util
import pkgutil
import subprocess
from pathlib import Path

import lightning_debug

assert importlib.util.find_spec("sklearn") is None, "scikit-learn is an extra, and is installed"
assert Path(lightning_debug.__file__).parents[1] != Path(__file__).parents[1], "the checkout was imported"
modules = [info.name for info in pkgutil.walk_packages(lightning_debug.__path__, "lightning_debug.")]
for name in modules:
    if not name.endswith("__main__"):
        importlib.import_module(name)
for name in lightning_debug.__all__:
    getattr(lightning_debug, name)
listed = subprocess.run(["lightning-debug", "rules"], capture_output=True, text=True, check=True).stdout
assert "LD001" in listed, listed
print(f"{len(modules)} modules and {len(lightning_debug.__all__)} public names; the command answers")
