"""What happens to runs: interrupted in any hook, ended by a signal, left without batches, without a disk, inside another."""

import copy
import errno
import gc
import os
import signal
import subprocess
import sys
import textwrap
import weakref

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug import CurveDiagnoser, Debugger
from lightning_debug.evidence import Unavailable
from lightning_debug.experiments.isolation import in_sandbox
from lightning_debug.reports import _files
from tests.healthy import assert_same, instruments, make_loaders, make_model, make_trainer, seed
from tests.helpers import alarms

HOOKS = (
    "setup configure_optimizers on_fit_start on_train_start on_train_epoch_start "
    "on_train_batch_start training_step on_before_zero_grad on_before_backward on_after_backward "
    "on_before_optimizer_step on_train_batch_end on_validation_start on_validation_batch_end "
    "on_validation_epoch_end on_train_epoch_end on_train_end on_fit_end teardown"
).split()


def quiet(**options):
    return Debugger(console=False, strict=True, experiment_seconds=0, **options)


def interrupted(hook, *callbacks):
    """Ctrl+C in a hook of the model's; returns how the fit ended and what it left."""
    model, before = make_model(), None
    original = getattr(model, hook)

    def pressed(*args, **kwargs):
        original(*args, **kwargs)
        raise KeyboardInterrupt

    setattr(model, hook, pressed)
    seed()
    trainer = make_trainer(*callbacks, max_epochs=1, num_sanity_val_steps=1)
    try:
        trainer.fit(model, *make_loaders())
    except BaseException as error:  # Lightning turns it into SystemExit, or lets it through
        before = type(error).__name__
    delattr(model, hook)
    left = {**instruments(trainer, model), "callbacks": 0}
    return before, copy.deepcopy(model.state_dict()), left


def some(items):
    """Every fourth by default."""
    return [pytest.param(item, marks=pytest.mark.slow) if place % 4 else item for place, item in enumerate(items)]


@pytest.mark.parametrize("hook", some(HOOKS))
def test_interrupted_in_any_hook(hook):
    debugger = quiet()
    (ended, weights, left), (with_us, other, ours) = interrupted(hook), interrupted(hook, debugger)
    assert (ended, left) == (with_us, ours)
    if hook != "training_step":  # the first interrupted call of it may be one of ours
        assert_same(weights, other)
    assert debugger.report.status in ("interrupted", "finished" if hook in ("on_fit_end", "teardown") else "")
    assert not alarms(debugger.report)


SHORT = [
    {"max_steps": 0},
    {"max_epochs": 0},
    {"limit_train_batches": 0},
    {"limit_val_batches": 0},
    {"limit_train_batches": 0, "limit_val_batches": 1, "num_sanity_val_steps": 2},
    {"max_steps": 1, "num_sanity_val_steps": -1},
    {"max_time": {"seconds": 0}},
]


@pytest.mark.parametrize("options", some(SHORT), ids=str)
@pytest.mark.filterwarnings("ignore:.*is 0")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_runs_without_batches(options, tmp_path):
    def fitted(*callbacks):
        model = make_model()
        seed()
        make_trainer(*callbacks, default_root_dir=tmp_path, **{"max_epochs": 1, **options}).fit(model, *make_loaders())
        return model.state_dict(), torch.get_rng_state()

    debugger = quiet()
    assert_same(fitted(), fitted(debugger))
    assert debugger.report.status == "finished"
    assert not alarms(debugger.report)


class Late(pl.LightningModule):
    """Builds its net in ``configure_model``, and trains another model in the middle of its own training."""

    inside = 0

    def __init__(self, *callbacks):
        super().__init__()
        self.net = None
        self.callbacks = callbacks

    def configure_model(self):
        if self.net is None:
            torch.manual_seed(2)
            self.net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def on_train_epoch_end(self):
        inner = make_model()
        make_trainer(*self.callbacks, max_epochs=1).fit(inner, *make_loaders())
        Late.inside += 1

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def test_a_trainer_inside_a_trainer_and_a_late_model():
    states, debuggers = [], (quiet(), quiet())
    for callbacks in ((), debuggers):
        model = Late(*callbacks[1:])
        seed()
        make_trainer(*callbacks[:1], max_epochs=2).fit(model, make_loaders()[0])
        states.append((model.state_dict(), torch.get_rng_state()))
    assert Late.inside == 4
    assert_same(*states)
    assert [item.report.status for item in debuggers] == ["finished"] * 2
    assert not [alarm for item in debuggers for alarm in alarms(item.report)]
    assert debuggers[0].report.context.model.endswith("Late")
    assert debuggers[1].report.context.model.endswith("Healthy")


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("replace", OSError(errno.ENOSPC, "No space left on device")),
        ("makedirs", PermissionError(errno.EACCES, "Permission denied")),
        ("makedirs", OSError(errno.EROFS, "Read-only file system")),
    ],
    ids=str,
)
def test_a_disk_that_takes_nothing(place, error, monkeypatch, tmp_path):
    def refuse(*args, **kwargs):
        raise error

    plain, model = make_model(), make_model()
    seed()
    make_trainer(max_epochs=1).fit(plain, *make_loaders())
    seed()
    debugger = Debugger(console=False, experiment_seconds=0, report_dir=str(tmp_path / "report"))
    with monkeypatch.context() as patched:
        patched.setattr(_files.os, place, refuse)
        make_trainer(debugger, max_epochs=1).fit(model, *make_loaders())
    assert_same(plain.state_dict(), model.state_dict())
    assert {item.code for item in debugger.report} <= {"LD001", "LD714", "LD715"}
    assert any(error.strerror in item.message for item in debugger.report)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()], "no half of a file"


class Once(Late):
    """Its step takes a batch once, as environments do that are played to their end."""

    def training_step(self, batch, batch_idx):
        assert not (in_sandbox() and self.current_epoch), "all environments are done"
        return super().training_step(batch, batch_idx)

    def on_train_epoch_end(self):
        pass


def test_a_step_that_takes_a_batch_once_is_not_judged():
    watch = CurveDiagnoser()
    make_trainer(watch, max_epochs=2).fit(Once(), make_loaders()[0])
    assert not watch.report.findings, "no LD001 either"
    told = [item.reason for item in watch.session.record.of(Unavailable)]
    assert any("given a batch again" in item for item in told), told


class Deadly(torch.utils.data.Dataset):
    def __len__(self):
        return 32

    def __getitem__(self, index):
        if index == 20:
            os._exit(1)
        return torch.randn(8), 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_worker_that_dies():
    debugger = quiet()
    with pytest.raises(RuntimeError, match="exited unexpectedly"):
        make_trainer(debugger).fit(make_model(), DataLoader(Deadly(), batch_size=8, num_workers=1))
    assert debugger.report.status.startswith("failed: RuntimeError")


def test_a_class_made_for_one_fit_is_let_go_of():
    model = make_model()
    kind = type("Fresh", (type(model),), {})
    model.__class__ = kind
    loader = DataLoader(TensorDataset(torch.randn(8, 8), torch.arange(8) % 2), 4)
    make_trainer(quiet(), max_epochs=1).fit(model, loader, loader)
    gone = weakref.ref(kind)
    del model, kind
    gc.collect()
    assert gone() is None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_many_fits_leave_nothing():
    inputs = torch.randn(32, 8)
    loader = DataLoader(TensorDataset(inputs, (inputs[:, 0] > 0).long()), batch_size=16, shuffle=True)
    debugger, counts, kind = quiet(), [], type(make_model())
    for number in range(16):
        model = kind()
        trainer = make_trainer(debugger if number % 2 else quiet(), max_epochs=1)
        trainer.fit(model, loader)
        left = instruments(trainer, model)
        if number in (7, 15):
            del trainer, model
            gc.collect()
            counts.append(
                (len(gc.get_objects()), sum(issubclass(type(item), torch.Tensor) for item in gc.get_objects()))
            )
    (objects, tensors), (later, more) = counts
    assert left["callbacks"]
    assert more <= tensors + 4, counts
    assert later - objects < 800, f"{(later - objects) / 8:.0f} objects are kept by each fit"


KILLED = """
import hashlib, os, signal, sys
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset

torch.set_num_threads(1)


class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(4, 2)

    def training_step(self, batch, batch_idx):
        if self.global_step == 5 and sys.argv[1] != "resume":
            os.kill(os.getpid(), getattr(signal, sys.argv[1]))
        return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-2)


pl.seed_everything(1)
inputs = torch.randn(64, 4)
loader = DataLoader(TensorDataset(inputs, (inputs[:, 0] > 0).long()), 8)
model = Model()
trainer = pl.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
                     callbacks=[ModelCheckpoint("kept", every_n_train_steps=1, save_last=True)])
trainer.fit(model, loader, ckpt_path="kept/last.ckpt" if sys.argv[1] == "resume" else None)
print(hashlib.sha256(b"".join(item.numpy().tobytes() for item in model.state_dict().values())).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
def test_ended_by_a_signal_and_resumed(name, tmp_path):
    if not hasattr(signal, name):
        pytest.skip(f"no {name} here")
    (tmp_path / "train.py").write_text(textwrap.dedent(KILLED), encoding="utf-8")
    outcomes = []
    for switch in ("0", "1"):
        folder = tmp_path / switch
        folder.mkdir()
        environment = {**os.environ, "LIGHTNING_DEBUG": switch, "CUDA_VISIBLE_DEVICES": ""}
        told = [
            subprocess.run([sys.executable, "../train.py", word], cwd=folder, env=environment, capture_output=True,
                           text=True, check=False, timeout=300)
            for word in (name, "resume")
        ]  # fmt: skip
        assert told[1].returncode == 0, told[1].stderr[-2000:]
        outcomes.append((told[0].returncode, told[1].stdout.splitlines()[-1]))
    assert outcomes[0] == outcomes[1]
