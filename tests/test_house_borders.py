"""The borders between folders, read from the source; each check has a counter-test that it can fail."""

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

import lightning_debug
from lightning_debug import DebugCallback
from tests.house import (
    LIGHTNING,
    PACKAGE,
    ROOT,
    collectives,
    inside,
    module_name,
    outside,
    private_attributes,
    thresholds,
)

FILES = sorted(PACKAGE.rglob("*.py"))
JUDGEMENT = ("lightning_debug.evidence", "lightning_debug.finding", "lightning_debug.record", "lightning_debug.rule")
CORE = ("finding", "judge", "record", "registry", "rule", "schedule", "session", "settings")
OURS = "lightning_debug."
PUBLIC_CALLBACKS = tuple(
    f"{OURS}callbacks.{path.stem}" for path in PACKAGE.glob("callbacks/*.py") if not path.stem.startswith("_")
)

ONLY = {
    "evidence/*.py": ("lightning_debug.evidence",),
    "rules/*.py": (*JUDGEMENT, "lightning_debug.rules._"),
    "curves/*.py": (*JUDGEMENT, "lightning_debug.curves", "numpy", "scipy"),
    "reports/*.py": (
        *JUDGEMENT, "lightning_debug.registry", "lightning_debug.reports", "lightning_debug.session",
        "lightning_debug.settings", "lightning_debug.judge", "lightning_debug.__version__", "lightning_debug.curves",
        "google.protobuf", "jinja2", "markdown", "markupsafe", "matplotlib", "numpy", "rich", "tensorboard",
    ),
    **{
        f"{name}.py": (*JUDGEMENT, *(f"lightning_debug.{other}" for other in (*CORE, "rules")), "tomli")
        for name in CORE
    },
}  # fmt: skip
"""What a folder may import beyond the standard library."""

NEVER = {
    "probes/*.py": (
        *LIGHTNING, *(f"{OURS}{name}" for name in ("callbacks", "debugger", "judge", "registry", "reports", "rule",
                                                   "rules", "session", "settings")),
    ),
    "callbacks/*.py": (f"{OURS}debugger", f"{OURS}rules", f"{OURS}judge"),
    "experiments/*.py": (f"{OURS}debugger", f"{OURS}rules", f"{OURS}reports"),
}  # fmt: skip
"""What a folder must not import."""


def files(pattern):
    return [(path, path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.glob(pattern))]


@pytest.mark.parametrize("pattern", ONLY)
def test_a_folder_imports_only_what_it_may(pattern):
    assert files(pattern) or pattern.startswith("curves"), "the pattern fits no file"
    for path, source in files(pattern):
        package = path.stem == "__init__"
        found = outside(source, ONLY[pattern], name=module_name(path), package=package)
        assert not found, f"{path.relative_to(ROOT)} imports {found}"


@pytest.mark.parametrize("pattern", NEVER)
def test_a_folder_never_imports(pattern):
    for path, source in files(pattern):
        found = inside(source, NEVER[pattern], name=module_name(path), package=path.stem == "__init__")
        assert not found, f"{path.relative_to(ROOT)} imports {found}"


def test_no_callback_imports_another():
    for path, source in files("callbacks/*.py"):
        others = [name for name in PUBLIC_CALLBACKS if name != module_name(path)]
        found = inside(source, others, name=module_name(path), package=path.stem == "__init__")
        assert not found, f"{path.name} imports {found}"


def test_only_ranks_talks_to_other_ranks():
    allowed = {"callbacks/_ranks.py", "callbacks/_lightning.py"}
    for path in FILES:
        if str(path.relative_to(PACKAGE)) not in allowed:
            found = collectives(path.read_text(encoding="utf-8"))
            assert not found, f"{path.relative_to(ROOT)} calls {found}"
    told = collectives((PACKAGE / "callbacks/_lightning.py").read_text(encoding="utf-8"))
    assert told == ["trainer.log_dir (it broadcasts)"], "callbacks/_lightning.py may ask for log_dir, and no more"


def test_private_parts_of_lightning_are_in_one_place():
    for path in FILES:
        if not path.name.startswith("_lightning"):
            found = private_attributes(path.read_text(encoding="utf-8"))
            assert not found, f"{path.relative_to(ROOT)} touches {found}: move that to callbacks/_lightning.py"


def test_reports_decide_nothing():
    for path, source in files("reports/*.py"):
        assert not thresholds(source), f"{path.relative_to(ROOT)} compares {thresholds(source)}"


RULE = "lightning_debug.rules.ld999_x"


@pytest.mark.parametrize(
    ("bad", "good"),
    [
        ("import torch", "import math"),
        ("from torch import nn", "from collections import deque"),
        ("def f():\n    import pytorch_lightning", "import json.decoder"),
        ("from lightning_debug.rules.ld001_probe_failed import probe_failed", "from lightning_debug.rules._x import y"),
        ("from lightning_debug.rules import ld001_probe_failed", "from lightning_debug.rules import _x"),
        ("from .ld001_probe_failed import probe_failed", "from ._x import y"),
        ("from lightning_debug import Debugger", "from lightning_debug.evidence.run import RunContext"),
        ("from lightning_debug.callbacks import _base", "from lightning_debug import record"),
        ("from ..callbacks import _base", "from ..evidence import Moment"),
        ("import importlib\nimportlib.import_module('torch')", "import importlib"),
        ("from lightning_debug.rule_helpers import x", "from lightning_debug.rule import rule"),
    ],
)
def test_the_import_checks_can_fail(bad, good):
    assert outside(bad, ONLY["rules/*.py"], name=RULE)
    assert not outside(good, ONLY["rules/*.py"], name=RULE)


@pytest.mark.parametrize(
    ("checker", "bad", "good"),
    [
        (collectives, "torch.distributed.all_reduce(x)", "torch.broadcast_tensors(x)"),
        (collectives, "trainer.strategy.reduce(x)", "functools.reduce(add, x)"),
        (collectives, "trainer.strategy.barrier()", "np.add.reduce(x)"),
        (collectives, "dist.broadcast(x, 0)", "torch.gather(x, 0, i)"),
        (collectives, "pl_module.all_gather(x)", "index.gather(x)"),
        (collectives, "folder = trainer.log_dir", "folder = settings.log_dir"),
        (private_attributes, "trainer._callback_connector", "trainer.callbacks"),
        (private_attributes, "self.trainer.fit_loop._should_accumulate()", "self._trainer.fit_loop"),
        (private_attributes, "getattr(pl_module, '_compiler_ctx', None)", "getattr(trainer, 'fast_dev_run', 0)"),
        (private_attributes, "trainer.strategy._forward_redirection()", "module._parameters"),
        (thresholds, "finding.measured['ratio'] > limit", "finding.severity > WARNING"),
        (thresholds, "loss >= 2.5", "len(findings) > 20"),
    ],
)
def test_the_other_checks_can_fail(checker, bad, good):
    assert checker(bad)
    assert not checker(good)


def test_the_callback_check_can_fail():
    source = (
        "from lightning_debug.callbacks.mode_checker import ModeChecker\nfrom lightning_debug.callbacks import _base"
    )
    assert inside(source, (f"{OURS}callbacks.mode_checker",)) == [f"{OURS}callbacks.mode_checker.ModeChecker"]


def test_no_file_is_long():
    counted = [*FILES, *ROOT.glob("tests/**/*.py"), *ROOT.glob("benchmarks/**/*.py"), *ROOT.glob(".ci/*")]
    lengths = {path: len(path.read_bytes().splitlines()) for path in counted if path.is_file()}
    assert not {str(path.relative_to(ROOT)): lines for path, lines in lengths.items() if lines > 300}


def test_public_names_are_sorted_importable_and_documented():
    names = lightning_debug.__all__
    assert names == sorted(names)
    assert set(lightning_debug._HOME) == set(names), "__all__ and _HOME differ"
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    typed = {
        item.name: node.module
        for block in tree.body if isinstance(block, ast.If)
        for node in block.body if isinstance(node, ast.ImportFrom)
        for item in node.names
    }  # fmt: skip
    assert typed == {name: f"lightning_debug.{home}" for name, home in lightning_debug._HOME.items()}
    for name in names:
        assert getattr(lightning_debug, name).__doc__, name
        assert name in dir(lightning_debug)
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = lightning_debug.Nonsense


def test_every_all_is_sorted_and_importable():
    for info in pkgutil.walk_packages(lightning_debug.__path__, OURS):
        if info.name.endswith("__main__"):
            continue
        module = importlib.import_module(info.name)
        names = getattr(module, "__all__", [])
        assert list(names) == sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name)), (
            info.name
        )
        for name in names:
            getattr(module, name)


def test_one_public_callback_a_file():
    for name in PUBLIC_CALLBACKS:
        module = importlib.import_module(name)
        own = [
            item.__name__
            for item in vars(module).values()
            if inspect.isclass(item) and issubclass(item, DebugCallback) and item.__module__ == name
        ]
        assert len(own) == 1, f"{name} defines {own}"
        assert own[0] in lightning_debug.__all__, f"{own[0]} is not public"


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_what_judges_runs_without_torch():
    code = (
        "import sys\n"
        "import lightning_debug.judge, lightning_debug.session, lightning_debug.settings, lightning_debug.schedule\n"
        "from lightning_debug.registry import all_rules\n"
        "assert [one.page.title for one in all_rules()]\n"
        "heavy = {'torch', 'pytorch_lightning', 'lightning', 'matplotlib', 'rich', 'jinja2'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    outcome = run(code)
    assert outcome.returncode == 0, outcome.stderr


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys; before = set(sys.modules); import lightning_debug, lightning_debug._attach\n"
        "new = {name for name in set(sys.modules) - before if '.' not in name}\n"
        "heavy = new - {'lightning_debug'} - set(sys.stdlib_module_names)\n"
        "assert not heavy, heavy\n"
    )
    outcome = run(code)
    assert outcome.returncode == 0, outcome.stderr
