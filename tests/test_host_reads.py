"""Promise 2: in steady state nothing of ours makes the host wait for the device.

Counted on the CPU, where reading is free but leaves the same marks: every operator that reads a value
(``aten::_local_scalar_dense`` under ``.item()``, ``float()``, ``bool()``, ``if``) or copies between devices,
over whole steps, all hooks included, with and without the Debugger; and every call of a reading method of a
tensor that comes from a file of ours.
"""

from __future__ import annotations

import collections
import sys

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

import lightning_debug
from lightning_debug import Debugger
from tests import identity_modules
from tests.helpers import trainer as make_trainer

READS = ("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "_to_copy", "unique", "masked_select", "_pin_memory")
METHODS = ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__", "__array__", "nonzero")
ARRIVED = "/probes/deferred.py"
"""The one file that may read in steady state: values that were copied to the host some steps before, and are there."""

DELIVERED = ("/probes/relation_", "/probes/batch_shelf.py", "/probes/held_batches.py", "/callbacks/_data_")
"""Files that read batches on the host: as a loader delivers them, or when their copy has arrived there."""

OURS = lightning_debug.__path__[0]


class Count(TorchDispatchMode):
    """Counts operators by name."""

    def __init__(self) -> None:
        super().__init__()
        self.found: collections.Counter[str] = collections.Counter()

    def __torch_dispatch__(self, function, kinds, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in READS and not (name == "_to_copy" and (kwargs or {}).get("device") is None):
            self.found[name] += 1
        return function(*args, **(kwargs or {}))


class Begin(pl.Callback):
    """First of the callbacks: counting starts before ours."""

    def __init__(self) -> None:
        self.steps: dict[int, collections.Counter[str]] = {}
        self.mode: Count | None = None

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.mode = Count()
        self.mode.__enter__()


class End(pl.Callback):
    """Last of the callbacks: counting ends after ours."""

    def __init__(self, begin: Begin) -> None:
        self.begin = begin

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.begin.mode.__exit__(None, None, None)
        self.begin.steps[len(self.begin.steps)] = self.begin.mode.found


def counted(module, callbacks, **options):
    """Counts per step of a fit of 60 steps."""
    pl.seed_everything(0, verbose=False)
    begin = Begin()
    options = {"max_epochs": 6, **options}
    loaders = DataLoader(identity_modules.Drawing(), 4, shuffle=True), DataLoader(identity_modules.Drawing(8), 4)
    make_trainer(begin, *callbacks, End(begin), **options).fit(module(), *loaders)
    return begin.steps


PROGRAMS = {
    "stateful": (identity_modules.Stateful, dict),
    "manual": (identity_modules.Manual, dict),
    "accumulated and clipped": (
        identity_modules.Stateful,
        lambda: {"accumulate_grad_batches": 2, "gradient_clip_val": 0.5},
    ),
    "bfloat16": (identity_modules.Stateful, lambda: {"precision": "bf16-mixed"}),
    "scaled": (
        identity_modules.Base,
        lambda: {"plugins": [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=16.0))]},
    ),
}


SLOW = ("accumulated and clipped", "bfloat16")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in PROGRAMS]
)
def test_steps_read_no_more_than_without_us(name):
    module, options = PROGRAMS[name]
    alone = counted(module, [], **options())
    ours = counted(module, [Debugger(console=False, strict=True)], **options())
    assert len(alone) == len(ours) == 60
    extra = {step: dict(ours[step] - alone[step]) for step in alone if ours[step] - alone[step]}
    assert {step: count for step, count in extra.items() if steady(step)} == {}


def steady(step: int) -> bool:
    """Whether a step is neither one of the first 32, which are looked at closely, nor near the end of an epoch of 10."""
    return step > 32 and step % 10 in range(2, 9)


def test_the_count_notices_a_read():
    class Reads(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            outputs["loss"].item()

    alone, reading = counted(identity_modules.Base, []), counted(identity_modules.Base, [Reads()])
    assert all(sum((reading[step] - alone[step]).values()) == 1 for step in alone)


def test_no_file_of_ours_reads_a_tensor_in_steady_state(monkeypatch):
    """By method rather than operator: also what reads a tensor without an operator (``tolist``, ``numpy``)."""
    calls: list[tuple[int, str, str]] = []
    step = [0]

    def watched(name):
        original = getattr(torch.Tensor, name)

        def method(self, *args, **kwargs):
            frame = sys._getframe(1)
            if frame.f_code.co_filename.startswith(OURS):
                calls.append((step[0], name, f"{frame.f_code.co_filename[len(OURS) :]}:{frame.f_lineno}"))
            return original(self, *args, **kwargs)

        return method

    class Steps(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            step[0] += 1

    for name in METHODS:
        monkeypatch.setattr(torch.Tensor, name, watched(name))
    module, options = PROGRAMS["stateful"]
    debugger = Debugger(console=False, strict=True)
    loaders = DataLoader(identity_modules.Drawing(), 4, shuffle=True), DataLoader(identity_modules.Drawing(8), 4)
    make_trainer(debugger, Steps(), max_epochs=6, **options()).fit(module(), *loaders)
    assert any(step == 0 for step, _, _ in calls)
    between = [call for call in calls if steady(call[0]) and call[0] % 10]  # no epoch's end
    assert [call for call in between if not call[2].startswith((ARRIVED, *DELIVERED))] == []
