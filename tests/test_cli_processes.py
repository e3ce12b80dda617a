"""``lightning-debug run`` on scripts whose Trainer starts processes of its own."""

import os
import subprocess
import sys

import pytest

from tests import scripts


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "ddp_spawn"])
def test_each_rank_is_attached_and_one_tells(strategy, tmp_path):
    scripts.write(tmp_path, scripts.SEVERAL_PROCESSES, end=scripts.SOFTMAX)
    start = {"bare": [sys.executable], "ours": [sys.executable, "-m", "lightning_debug", "run", "--fail-on", "error"]}
    done = {
        name: subprocess.run(
            [*words, "train.py", strategy],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for name, words in start.items()
    }
    bare, ours = done["bare"], done["ours"]
    assert (bare.returncode, ours.returncode) == (0, 3), ours.stderr
    digests = [[line for line in one.stdout.splitlines() if len(line) == 64] for one in (bare, ours)]
    assert digests[0] == digests[1]
    assert len(digests[0]) == 1
    assert "lightning-debug: 1 run watched; 1 finding: LD201" in ours.stderr
    assert ours.stderr.count("lightning_debug: error LD201") == 1
