"""The programs of benchmarks/detection say what is planted in them, and how to leave it out."""

import re
from pathlib import Path

import pytest

from lightning_debug.registry import all_rules

PROGRAMS = sorted((Path(__file__).parent.parent / "benchmarks" / "detection").glob("*.py"))


@pytest.mark.skipif(not PROGRAMS, reason="an installation without the benchmarks")
def test_programs_are_labelled():
    codes = {one.code for one in all_rules()}
    wrong = []
    for path in PROGRAMS:
        text = path.read_text(encoding="utf-8")
        label = re.match(r"# expect: (LD\d{3}|none)\n\"\"\".+\"\"\"\n", text)
        planted = label.group(1) if label else "?"
        healthy = planted == "none" and "FAULT" not in text and path.stem.startswith("healthy_")
        faulty = planted in codes and 'FAULT = "--repaired" not in sys.argv\n' in text and text.count("FAULT") > 1
        if not (healthy or faulty):
            wrong.append(path.name)
    assert not wrong
