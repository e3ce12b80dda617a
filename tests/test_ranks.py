"""Two processes over gloo: no hang, no change, and one report."""

import os
import subprocess
import sys

import pytest

from tests.house import ROOT


@pytest.mark.slow
def test_two_ranks(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
               str(ROOT / "tests" / "programs" / "two_ranks.py"), str(tmp_path)]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    outcome = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, timeout=240, cwd=tmp_path
    )
    assert outcome.returncode == 0, outcome.stdout[-4000:] + outcome.stderr[-8000:]
    assert sorted(path.name for path in tmp_path.glob("passed *")) == ["passed 0", "passed 1"]
    assert [path.parent.name for path in tmp_path.rglob("report.html")][:1] == ["of rank 0"]
