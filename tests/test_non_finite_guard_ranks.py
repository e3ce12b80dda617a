"""NonFiniteGuard on two processes over gloo, under DistributedDataParallel and FSDP2."""

import os
import subprocess
import sys

import pytest

from tests.house import ROOT


@pytest.mark.slow
def test_two_ranks_of_which_one_gets_a_bad_batch(tmp_path):
    program = ROOT / "tests" / "programs" / "guard_two_ranks.py"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    outcome = subprocess.run(
        [*command, str(program), str(tmp_path)],
        capture_output=True, text=True, check=False, env=environment, timeout=240, cwd=tmp_path,
    )  # fmt: skip
    assert outcome.returncode == 0, outcome.stdout[-2000:] + outcome.stderr[-4000:]
    assert sorted(path.name for path in tmp_path.glob("passed *")) == ["passed 0", "passed 1"]
