"""The notebooks run, find what they say they find, and are kept small."""

import json
import os
import re
import subprocess
import sys

import pytest

from tests.house import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
QUICK = ("8_your_own_rule",)

RUN = """
import json, linecache, sys
import matplotlib
matplotlib.use("Agg")
space = {"__name__": "__main__"}
for number, cell in enumerate(json.load(sys.stdin)):
    name = f"In[{number + 1}]"
    linecache.cache[name] = (len(cell), None, cell.splitlines(keepends=True), name)
    exec(compile(cell, name, "exec"), space)
"""


def cells(path):
    found = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in found if cell["cell_type"] == "code"]


def told(text):
    """Codes of the errors and warnings in what was printed."""
    return sorted(set(re.findall(r"^lightning_debug: (?:error|warning) (LD\d{3})", text, re.MULTILINE)))


def printed(path):
    outputs = [output for cell in cells(path) for output in cell["outputs"]]
    return "".join("".join(output.get("text", "")) for output in outputs)


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=() if path.stem in QUICK else pytest.mark.slow, id=path.stem) for path in NOTEBOOKS],
)
def test_it_runs_and_finds_what_it_says(path, tmp_path):
    outcome = subprocess.run(
        [sys.executable, "-c", RUN],
        input=json.dumps(["".join(cell["source"]) for cell in cells(path)]),
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert outcome.returncode == 0, outcome.stderr[-3000:]
    assert told(outcome.stderr) == told(printed(path))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_its_outputs_are_there_and_small(path):
    assert path.stat().st_size < 200_000
    assert all(output["output_type"] != "error" for cell in cells(path) for output in cell["outputs"])
    assert any(cell["outputs"] for cell in cells(path))
    assert "ipykernel" not in path.read_text(encoding="utf-8")
    assert path.stem in (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")


def test_there_are_all_eight():
    assert [path.stem[0] for path in NOTEBOOKS] == list("12345678")
