"""What the documents say of the rules is what the rules say; a new rule needs one new file and no other edit."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lightning_debug
from lightning_debug import DebugCallback
from lightning_debug.registry import all_rules, get
from lightning_debug.reports.catalogue import BEGIN, END, insert, markdown_table
from tests.house import PACKAGE, ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRACT = ROOT.parent / "shared" / "RULES.md"
"""The contract of codes, where this checkout stands beside it."""


def test_the_readme_holds_the_catalogue():
    fresh = insert(README, markdown_table(all_rules()))
    assert fresh == README, "python -m lightning_debug.reports.catalogue README.md"


@pytest.mark.parametrize("document", ["", BEGIN, f"{END}\n{BEGIN}", f"{BEGIN}{END}{END}"])
def test_a_document_without_its_markers_is_refused(document):
    with pytest.raises(ValueError, match="must hold the markers once each"):
        insert(document, "")


def test_the_module_writes_the_file(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(f"before\n{BEGIN}\n{END}\nafter\n", encoding="utf-8")
    subprocess.run([sys.executable, "-m", "lightning_debug.reports.catalogue", str(path)], check=True)
    assert path.read_text(encoding="utf-8") == f"before\n{BEGIN}\n{markdown_table(all_rules())}\n{END}\nafter\n"


@pytest.mark.skipif(not CONTRACT.is_file(), reason="the contract of codes is not beside this checkout")
def test_codes_keep_the_contract():
    rows = re.findall(r"^\| (LD\d{3}) \| ([a-z0-9-]+) \| (error|warning|info) \|", CONTRACT.read_text("utf-8"), re.M)
    contract = {code: (name, severity) for code, name, severity in rows}
    assert len(contract) > 100
    differing = {
        one.code: (one.name, str(one.severity))
        for one in all_rules()
        if contract.get(one.code, (one.name, str(one.severity))) != (one.name, str(one.severity))
    }
    assert not differing
    names = {name: code for code, (name, _) in contract.items()}
    taken = {one.code: one.name for one in all_rules() if names.get(one.name, one.code) != one.code}
    assert not taken, "a name of the contract under another code"


def test_every_rule_has_a_callback_that_can_feed_it():
    fed = {
        one.code
        for name in lightning_debug.__all__
        if isinstance(kind := getattr(lightning_debug, name), type) and issubclass(kind, DebugCallback)
        for one in kind.rules()
    }
    assert fed == {one.code for one in all_rules()}


def test_the_readme_names_every_callback_and_no_other():
    table = README.partition("## The callbacks")[2].partition("\n## ")[0]
    named = set(re.findall(r"^\| `([A-Za-z]+)`", table, flags=re.MULTILINE))
    public = {
        name
        for name in lightning_debug.__all__
        if isinstance(kind := getattr(lightning_debug, name), type) and issubclass(kind, DebugCallback)
    }
    assert named == public - {"DebugCallback"}


def test_both_readmes_name_every_module_that_exists():
    text = (PACKAGE / "README.md").read_text(encoding="utf-8")
    homes = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    homes |= {path.name for path in PACKAGE.glob("*.py") if not path.name.startswith("_")}
    assert {name for name in homes if name not in text} == set()
    told = set(re.findall(r"^([a-z_]+(?:\.py|/))", text, flags=re.MULTILINE))
    assert told, "the map lists modules at the beginning of its lines"
    assert {name for name in told if not (PACKAGE / name.rstrip("/")).exists()} == set()


def test_codes_in_the_readme_exist():
    prose = README.partition(BEGIN)[0] + README.partition(END)[2]
    known = {one.code for one in all_rules()}
    assert set(re.findall(r"\bLD\d{3}\b", prose)) <= known


NEW_RULE = '''"""The run has an odd number of parameters.

What it sees: the number of trainable parameters.
Why it hurts: it does not.
How to fix: add one.
When to ignore: always.
Broken:
    x = 1
Repaired:
    x = 2
Example:
    >>> 1 + 1
    2
"""

from lightning_debug.evidence import RunContext
from lightning_debug.finding import INFO, Claim
from lightning_debug.rule import rule


@rule("LD099", severity=INFO, needs=RunContext)
def odd_parameters(record):
    """Claims it."""
    context = record.last(RunContext)
    if context.parameters % 2:
        yield Claim(f"The model has {context.parameters} parameters.", context.model, {"n": context.parameters}, "Add one.")
'''

ADDED = """
import sys
import lightning_debug.rules
lightning_debug.rules.__path__.append(sys.argv[1])
from lightning_debug.registry import all_rules, get, Selection
from lightning_debug.reports.catalogue import markdown_table
row = "| LD099 | odd-parameters | info | The run has an odd number of parameters. |"
assert row in markdown_table(all_rules())
assert get("odd-parameters").page["How to fix"] == "add one."
assert [one.code for one in Selection(select=("LD09",)).rules()] == ["LD099"]

from lightning_debug import cli
for arguments, expected in (
    (["rules"], "odd-parameters"), (["rules", "--markdown"], row), (["explain", "LD099"], "Add one."),
    (["explain", "odd-parameters"], "LD099"),
):
    import contextlib, io
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        try:
            code = cli.main(arguments)
        except SystemExit as end:
            code = end.code
    assert not code, (arguments, code)
    assert expected in told.getvalue(), (arguments, told.getvalue())

import tests.test_pages, tests.test_house_pages
assert "LD099" in {one.code for one in tests.test_pages.RULES}, "the pages' programs are not tested"
assert "LD099" in {one.code for one in tests.test_house_pages.all_rules()}

import torch
from torch import nn
import pytorch_lightning as pl
from lightning_debug import Debugger
from tests.helpers import debugged
class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(2, 1)
    def training_step(self, batch, batch_idx):
        return self.net(batch).pow(2).mean()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)
report = debugged(Model(), torch.utils.data.DataLoader(torch.randn(4, 2)), debugger=Debugger(select=["odd-parameters"], console=False))
assert [(item.code, item.measured) for item in report] == [("LD099", {"n": 3})], report
"""


def test_a_new_rule_is_one_new_file(tmp_path):
    folder = tmp_path / "more_rules"
    folder.mkdir()
    (folder / "ld099_odd_parameters.py").write_text(NEW_RULE, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    outcome = subprocess.run(
        [sys.executable, "-c", ADDED, str(folder)], capture_output=True, text=True, check=False, env=environment
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def test_no_rule_of_that_test_is_left():
    assert "LD099" not in {one.code for one in all_rules()}
    assert get("LD001").page.title


MACHINE = re.compile(
    r"(?<![\w.$}])/(?:home|mnt|opt|root|srv|Users|work)/(?!\W)"  # a path that only one machine has
    r"|(?<![\w.$}])/tmp/\w"
    r"|https?://(?:localhost|127\.|10\.|192\.168\.)"
    r"|(?:index-url|find-links|trusted-host)"
    r"|pythonhosted\.org|download\.pytorch\.org",
)
"""What must not stand in the code: paths of one machine, registries."""


def offending(text):
    return [line.strip() for line in text.splitlines() if MACHINE.search(line) and "MACHINE" not in line]


def tracked():
    """The files of this checkout (or of an unpacked sdist), not what runs have left in it."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0 and listed.stdout:
        return [ROOT / name for name in listed.stdout.splitlines()]
    tops = ("*.md", "*.toml", ".*.yaml", ".ci/*", "lightning_debug/**/*", "tests/**/*")
    return [path for pattern in tops for path in ROOT.glob(pattern) if "__pycache__" not in path.parts]


def test_nothing_names_a_machine():
    found = {}
    for path in tracked():
        if path.is_file() and path.suffix != ".png" and path.resolve() != Path(__file__).resolve():
            lines = offending(path.read_text(encoding="utf-8", errors="replace"))
            found.update({str(path.relative_to(ROOT)): lines} if lines else {})
    assert not found


@pytest.mark.parametrize(
    "line", ["cd /home/someone/x", "open('/tmp/x.txt')", "pip install --index-url x", "/opt/venv/"]
)
def test_the_machine_check_can_fail(line):
    assert offending(line)


@pytest.mark.parametrize(
    "line", ["#!/usr/bin/env bash", "a/home/b", "$scratch/tmp/x", "2>/dev/null", "/tmp", "1/work/2"]
)
def test_the_machine_check_lets_pass(line):
    assert not offending(line)


def test_the_top_level_is_fixed():
    tops = {path.relative_to(ROOT).parts[0] for path in tracked()}
    allowed = {"pyproject.toml", "README.md", "LICENSE", "lightning_debug", "tests", "notebooks", "benchmarks"}
    assert {name for name in tops if not name.startswith(".")} - {"PKG-INFO"} <= allowed


def test_the_two_commands_are_in_the_readme():
    demo = README.partition("<!-- demo")[2].partition("<!-- end of demo")[0]
    assert {"LD201", "LD401"} <= set(re.findall(r"LD\d{3}", demo)), "the console text of the demo"
    for number, words in (
        ("1", ["pip install -c .ci/constraints.txt", "lightning-debug demo"]),
        ("2", ["pytest -n 2"]),
    ):
        told = subprocess.run(
            [sys.executable, ROOT / ".ci" / "readme_command.py", number], capture_output=True, text=True, check=True
        ).stdout.strip()
        assert told in README
        assert "\n" not in told
        assert all(word in told for word in words), told


def test_ci_runs_the_commands_of_the_readme():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for number, variable in (("1", "first"), ("2", "second")):
        assert re.search(rf"^{variable}=\$\(.*readme_command\.py {number}\)$", script, flags=re.MULTILINE)
        assert f'bash -euo pipefail -c "${variable}"' in script
    assert script.rstrip().endswith('bash -euo pipefail -c "$second"'), "pytest's summary must come last"
    assert script.splitlines()[0] == "#!/usr/bin/env bash"
    assert "set -euo pipefail" in script
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
