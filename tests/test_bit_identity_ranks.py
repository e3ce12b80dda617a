"""Promise 1 on several ranks: DistributedDataParallel and FSDP2 over gloo."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without ranks")]


@pytest.mark.parametrize(
    ("name", "ranks"),
    [
        ("ddp", 2),
        ("ddp", 3),  # where the order of summation shows
        ("ddp views", 2),
        ("ddp unused", 2),
        ("ddp manual", 2),
        ("ddp accumulated", 3),
        ("fsdp2", 2),
    ],
)
def test_identical(name, ranks, tmp_path):
    launcher = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*launcher, f"--nproc_per_node={ranks}", "-m", "tests.ranks", name, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    told = [line for line in done.stdout.splitlines() if f" on {ranks}: " in line]
    assert done.returncode == 0, "\n".join([*told, done.stderr[-3000:]])
    assert all("identical" in line for line in told)
    assert any("experiments: identical" in line for line in told)
    for label in ("searches", "searches later"):
        suggested = re.findall(rf"{name} {label} suggests (\[.*?\])", done.stdout)
        assert len(suggested) == ranks
        assert len(set(suggested)) == 1, suggested  # every rank has the same result, or the same reason
        assert ("trials" in suggested[0]) == (name != "fsdp2"), suggested
