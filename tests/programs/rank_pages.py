"""The pages' programs of the rules on ranks, on the ranks they ask for: Broken gives the code, Repaired nothing.

``FOLDER SELECT CODE ...``: the rules to judge (``all``, or the beginning of codes), and whose pages to run.
"""

import json
import os
import sys
import warnings
from pathlib import Path

import torch

from lightning_debug import Debugger
from lightning_debug.registry import get
from tests.helpers import alarms, run_program
from tests.programs.farewell import part


def main(folder: Path, rank: int, select: str, codes: list[str]) -> None:
    """Leaves a file ``told <rank>``: by code, what each program gave."""
    told = {}
    for code in codes:
        for section in ("Broken", "Repaired"):
            place = folder / f"{code} {section} {rank}"
            place.mkdir()
            watch = Debugger(
                select=None if select == "all" else [select],
                strict=True,
                console=False,
                report_dir=str(place / "report"),
            )
            report, raised = run_program(get(code).page[section], place, debugger=watch)
            told[f"{code} {section}"] = {
                "raised": repr(raised) if raised else None,
                "status": report.status,
                "headlines": [item.code for item in report.headlines if item.severity >= "warning"],
                "alarms": alarms(report),
                "skips": {item.code: item.reason for item in report.skips if item.code.startswith("LD9")},
            }
    (folder / f"told {rank}").write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]), int(os.environ["RANK"]), sys.argv[2], sys.argv[3:])
    part()
