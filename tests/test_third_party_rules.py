"""Rules of other packages: found through their entry points, judged like ours, and unable to keep ours from working."""

import os
import subprocess
import sys
import textwrap

import pytest

from tests.house import ROOT

RULE = '''
"""The run is longer than the team's budget.

What it sees: the steps that are planned, beyond ``most``.
"""
from lightning_debug.evidence import RunContext
from lightning_debug.finding import Claim, Severity
from lightning_debug.rule import rule

@rule("ACME101", severity=Severity.WARNING, needs=RunContext)
def too_long_a_run(record, *, most: int = 3):
    planned = record.last(RunContext).planned_steps
    if planned and planned > most:
        yield Claim(subject="trainer", message=f"{planned} steps are planned, and {most} are paid for.", fix="Plan fewer.")
'''

PROGRAM = """
import contextlib, io
import pytorch_lightning as pl
import torch
from lightning_debug import Debugger, cli
from tests.helpers import trainer

class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(2, 1)
    def training_step(self, batch, batch_idx):
        return self.net(batch).pow(2).mean()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)

def fit(**settings):
    watch = Debugger(console=False, **settings)
    trainer(watch, max_epochs=2).fit(Model(), torch.utils.data.DataLoader(torch.randn(8, 2), 4, shuffle=True))
    return [item.code for item in watch.report.findings]

assert "ACME101" in fit()
assert fit(select=["ACME"]) == ["ACME101"]
assert fit(select=["too-long-a-run"], thresholds={"ACME101": {"most": 4}}) == []
assert "ACME101" not in fit(ignore=["acme101"])
told = io.StringIO()
with contextlib.redirect_stdout(told), contextlib.suppress(SystemExit):
    cli.main(["explain", "ACME101"])
assert "longer than the team" in told.getvalue()
"""


def installed(folder, modules, entry):
    """What an installed distribution leaves on the path."""
    for name, text in modules.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
    info = folder / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[lightning_debug.rules]\nacme = {entry}\n", encoding="utf-8")


def python(folder, code):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    return subprocess.run(
        [sys.executable, "-W", "always::UserWarning:lightning_debug", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=folder,
    )


@pytest.mark.slow
def test_a_package_of_rules_is_found_and_judged(tmp_path):
    modules = {"acme/__init__.py": "", "acme/rules/__init__.py": "", "acme/rules/long_run.py": RULE}
    installed(tmp_path, {**modules, "acme/rules/_shared.py": ""}, "acme.rules")
    outcome = python(tmp_path, PROGRAM)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import a_package_that_is_not_there", "No module named"),
        ("x = 1", "must define one rule, and defines 0"),
        (RULE.replace("ACME101", "LD777"), "is a code of lightning_debug"),
        (RULE.replace("too_long_a_run", "probe_failed"), "clash"),
    ],
    ids=["unimportable", "no rule", "our code", "our name"],
)
def test_a_package_that_cannot_be_used_is_left_out_and_named(tmp_path, text, reason):
    installed(tmp_path, {"acme.py": text}, "acme")
    code = "from lightning_debug.registry import all_rules; assert {one.code[:2] for one in all_rules()} == {'LD'}"
    outcome = python(tmp_path, code)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert "the entry point acme = acme are left out" in outcome.stderr
    assert reason in outcome.stderr
