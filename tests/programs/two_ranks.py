"""Fits on two ranks without us, with Debugger, and with every part as a callback of its own; all must be the same."""

import os
import sys
from pathlib import Path

import torch

from lightning_debug import Debugger
from lightning_debug.debugger import PARTS
from tests.healthy import assert_same, fit
from tests.helpers import alarms
from tests.programs.farewell import part


def main(folder: Path, rank: int) -> None:
    """Leaves a file ``passed <rank>``."""
    ranks = {"strategy": "ddp", "devices": 2}
    bare = fit(**ranks)
    debugger = Debugger(console=False, report_dir=str(folder / f"of rank {rank}"))
    assert_same(bare, fit(debugger, **ranks))
    assert debugger.report.status == "finished", debugger.report
    assert debugger.report.context.world_size == 2
    assert not alarms(debugger.report), alarms(debugger.report)
    assert (folder / f"of rank {rank}" / "report.json").is_file() == (rank == 0)

    parts = [part() for part in PARTS]
    assert_same(bare, fit(*parts, **ranks))
    assert all(part.report.status == "finished" for part in parts)
    (folder / f"passed {rank}").touch()


if __name__ == "__main__":
    torch.set_num_threads(1)
    os.environ["LIGHTNING_DEBUG_STRICT"] = "1"
    main(Path(sys.argv[1]), int(os.environ["RANK"]))
    part()
