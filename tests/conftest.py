"""What every test has: one thread, fixed seeds, no stray settings from the environment."""

import os
import signal
import warnings

import lightning.pytorch  # noqa: F401 - before lightning_debug, whose callbacks serve the packages already imported
import pytest
import pytorch_lightning  # noqa: F401
import torch

from lightning_debug.callbacks import _experiment_budget

os.environ.setdefault("HF_HUB_OFFLINE", "1")
torch.set_num_threads(1)
torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL = 0.5  # how long a loader that broke off waits for each worker: 5 s


@pytest.fixture(autouse=True)
def _steady(monkeypatch, tmp_path, request):
    if not request.node.path.name.startswith(("test_lr_", "test_overfit")):  # the others need not wait for experiments
        monkeypatch.setattr(_experiment_budget, "FLOOR", 0.0)
    for name in list(os.environ):
        if name.startswith("LIGHTNING_DEBUG"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)  # default_root_dir and reports stay out of the working tree
    torch.manual_seed(0)
    # a background job starts with SIGINT ignored, and Lightning ignores it after an interrupted fit
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with warnings.catch_warnings():
        yield
    signal.signal(signal.SIGINT, before)
