"""StepCode: what the code of a step uses beside objects: global variables, services, files.

A step reaches more than attributes: ``COUNT += 1`` on a global, a list in the function around the class,
``wandb.log``. The bytecode of the user's own classes and functions tells which names are used; where it
cannot tell which method of which class is called, all that bear the name count.
"""

from __future__ import annotations

import builtins
import dis
import functools
import sys
import types
from collections.abc import Iterable, Iterator
from typing import Any

from lightning_debug.experiments._kinds import REMEMBERING, is_user_code

SERVICES = frozenset(
    {"wandb", "mlflow", "comet_ml", "neptune", "clearml", "swanlab", "trackio", "subprocess", "requests", "socket"}
)
"""Modules through which a step would tell the world of an experiment."""

WRITERS = frozenset(
    {
        *("open", "savefig", "to_csv", "to_pickle", "to_parquet", "write_text", "write_bytes", "save_image", "imwrite"),
        *("imsave", "savetxt", "savez", "savez_compressed", "save_checkpoint", "save_pretrained", "unlink", "rmtree"),
    }
)
"""Names of functions that write files; ``torch.save`` and ``numpy.save`` besides."""

_MAKING = frozenset({"__init__", "__new__", "__post_init__"})
_SELDOM = frozenset(
    {
        *(
            "__del__",
            "__repr__",
            "__str__",
            "__format__",
            "__reduce__",
            "__reduce_ex__",
            "__getstate__",
            "__setstate__",
        ),
        *("__copy__", "__deepcopy__", "__init_subclass__", "__class_getitem__", "__sizeof__", "__dir__"),
    }
)
_GLOBAL = frozenset({"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME"})


class StepCode:
    """The code that runs when methods of some names are called.

    Args:
        entries: Those names. Special methods (``__call__``) are always taken for called, except those that
            make, copy and print objects: ``__init__`` counts for classes that the code itself names.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self.reasons: list[str] = []
        self._called = set(entries)
        self._classes: dict[type, None] = {}
        self._made: set[type] = set()
        self._scanned: dict[types.CodeType, None] = {}
        self._functions: list[types.FunctionType] = []
        self._variables: dict[tuple[int, str], tuple[dict[str, Any], str, str]] = {}
        self._fresh: list[tuple[dict[str, Any], str, str]] = []

    def grow(self, classes: Iterable[type], functions: Iterable[types.FunctionType] = ()) -> bool:
        """Takes in more classes, and functions that are called by themselves; whether that showed anything new."""
        self._classes.update(dict.fromkeys(classes))
        before = len(self._scanned)
        for function in list(functions):
            self._scan(function)
        more = True
        while more:
            known = (len(self._scanned), len(self._called))
            for kind in list(self._classes):
                for name, method in _methods(kind):
                    if name in self._called or self._special(kind, name):
                        self._scan(method)
            more = known != (len(self._scanned), len(self._called))
        return len(self._scanned) > before

    def kinds(self) -> list[type]:
        """The classes that were taken in, and those that code names."""
        return list(self._classes)

    def new_functions(self) -> list[types.FunctionType]:
        """Functions found since the last call."""
        found, self._functions = self._functions, []
        return found

    def new_variables(self) -> list[tuple[dict[str, Any], str, str]]:
        """Variables of modules found since the last call: the module's namespace, the name, a label."""
        found, self._fresh = self._fresh, []
        return found

    def _special(self, kind: type, name: str) -> bool:
        if not (name.startswith("__") and name.endswith("__")) or name in _SELDOM:
            return False
        return kind in self._made or name not in _MAKING

    def _scan(self, function: types.FunctionType) -> None:
        if function.__code__ in self._scanned:
            return
        self._scanned[function.__code__] = None
        self._functions.append(function)
        # torch.compile puts a function of its own, with its own globals, around the user's.
        own = is_user_code(str(function.__globals__.get("__name__", "")))
        for code in _nested(function.__code__) if own else ():
            self._called.update(code.co_names)
            loaded, imported = _names(code)
            for name in sorted(loaded):
                self._global(function, name, code)
            for module in filter(None, map(sys.modules.get, sorted(imported))):
                self._attributes(module, code)
            self._effects(function, code, loaded, imported)
        wrapped = getattr(function, "__wrapped__", None)
        if isinstance(wrapped, types.FunctionType):
            self._scan(wrapped)

    def _global(self, function: types.FunctionType, name: str, code: types.CodeType) -> None:
        namespace = function.__globals__
        value = namespace.get(name)
        if isinstance(value, types.ModuleType):
            self._attributes(value, code)
        else:
            self._value(namespace, name, name)

    def _attributes(self, module: types.ModuleType, code: types.CodeType, depth: int = 3) -> None:
        if not is_user_code(module.__name__):
            return
        for attribute in vars(module).keys() & set(code.co_names):
            value = vars(module)[attribute]
            if isinstance(value, types.ModuleType) and depth:
                self._attributes(value, code, depth - 1)
            else:
                self._value(vars(module), attribute, f"{module.__name__}.{attribute}")

    def _value(self, namespace: dict[str, Any], name: str, label: str) -> None:
        value = namespace.get(name)
        if isinstance(value, type):
            if is_user_code(value.__module__):
                self._classes[value] = None
                self._made.update(value.__mro__)
        elif isinstance(value, types.FunctionType):
            if is_user_code(value.__module__):
                self._scan(value)
        elif not isinstance(value, types.ModuleType) and name != "__builtins__":
            key = (id(namespace), name)
            if isinstance(value, REMEMBERING) and is_user_code(value.__module__):
                self._scan(value.__wrapped__)
            if key not in self._variables and (name in namespace or not hasattr(builtins, name)):
                self._variables[key] = (namespace, name, label)
                self._fresh.append(self._variables[key])

    def _effects(
        self, function: types.FunctionType, code: types.CodeType, loaded: frozenset[str], imported: frozenset[str]
    ) -> None:
        where = f"{function.__qualname__} (line {code.co_firstlineno})"
        modules = {name for name in loaded if isinstance(function.__globals__.get(name), types.ModuleType)}
        tops = {function.__globals__[name].__name__.partition(".")[0] for name in modules}
        tops |= {name.partition(".")[0] for name in imported}
        for name in sorted(tops & SERVICES):
            self.reasons.append(f"{where} uses {name} directly")
        writers = WRITERS & set(code.co_names)
        if "save" in code.co_names and tops & {"torch", "numpy"}:
            writers |= {"save"}
        for name in sorted(writers):
            self.reasons.append(f"{where} calls {name}, and files cannot be put back")


def _methods(kind: type) -> Iterator[tuple[str, types.FunctionType]]:
    for name, value in list(vars(kind).items()):
        held = [value]
        if isinstance(value, (classmethod, staticmethod)):
            held = [value.__func__]
        elif isinstance(value, property):
            held = [value.fget, value.fset, value.fdel]
        elif isinstance(value, functools.cached_property):
            held = [value.func]
        elif isinstance(value, REMEMBERING):
            held = [value.__wrapped__]
        for function in held:
            if isinstance(function, types.FunctionType):
                yield name, function


@functools.lru_cache(maxsize=65536)
def _names(code: types.CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """The global variables a piece of code uses, and the modules it imports."""
    used = list(dis.get_instructions(code))
    loaded = frozenset(item.argval for item in used if item.opname in _GLOBAL)
    return loaded, frozenset(item.argval for item in used if item.opname == "IMPORT_NAME")


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _nested(constant)
