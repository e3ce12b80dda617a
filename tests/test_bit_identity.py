"""Promise 1: a run with us is bit for bit the run without us."""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path

import pytest
import torch

from lightning_debug import DebugCallback, Debugger
from lightning_debug.evidence.overfit import OverfitCheck
from tests import identity

CALLBACKS = {
    "experiments": lambda: [identity.Experiments()],
    "debugger": lambda: [Debugger(console=False, strict=True)],
    "searches": identity.searches,
    "searches later": lambda: identity.searches(at_step=7),
}

QUICK = {
    "experiments": ("manual",),
    "debugger": ("stateful", "two workers", "manual", "accumulated and clipped", "scaled", "transformer", "resumed"),
    "searches": ("accumulated and clipped",),
    "searches later": ("stateful",),
}
"""What the default run tries; the slow one tries every program with all of them."""


@functools.cache
def alone(name: str) -> identity.Outcome:
    """What comes of a program without us; twice, so that one that does not repeat itself proves nothing."""
    found = []
    for _ in range(2):
        folder = Path(tempfile.mkdtemp())
        found.append(identity.PROGRAMS[name](folder, []))
        shutil.rmtree(folder)
    assert identity.differing(*found) == [], "the program does not repeat itself"
    return found[0]


def _cases():
    for name in identity.PROGRAMS:
        for callbacks in CALLBACKS:
            quick = name in QUICK[callbacks]
            yield pytest.param(name, callbacks, marks=() if quick else pytest.mark.slow, id=f"{name}-{callbacks}")


@pytest.mark.parametrize(("name", "callbacks"), _cases())
def test_identical(name, callbacks, tmp_path):
    ours = CALLBACKS[callbacks]()
    changed = identity.PROGRAMS[name](tmp_path, ours)
    assert identity.differing(alone(name), changed) == []
    if isinstance(ours[0], DebugCallback):
        assert [str(item.message) for item in ours[0].report.findings if item.code in ("LD001", "LD002")] == []
    if "searches" in callbacks:
        assert ours[0].results
        assert ours[1].session.record.seen(OverfitCheck) or "manual" in name


def test_the_comparison_can_fail(tmp_path):
    class Draws(identity.Watch):
        def on_train_start(self, trainer, pl_module):
            torch.rand(1)

    assert "torch generator" in identity.differing(alone("plain"), identity.PROGRAMS["plain"](tmp_path, [Draws()]))
