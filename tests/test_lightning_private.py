"""What we read of Lightning's private parts exists in this version, in both of its packages; and what we make of it.

A failure here names the attribute that a version of Lightning has moved.
"""

import contextlib
import importlib
import inspect
import sys

import lightning.pytorch
import pytest
import pytorch_lightning
import torch
import torchmetrics
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lightning_debug.callbacks import _lightning
from lightning_debug.callbacks._lightning import moment, run_context
from lightning_debug.callbacks._lightning_loader import NotDrawable
from tests.helpers import QUIET
from tests.house import PACKAGE, _attributes

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Lightning has advice for runs as odd as these

FILES = sorted(PACKAGE.glob("callbacks/_lightning*.py"))
PACKAGES = {"pytorch_lightning": pytorch_lightning, "lightning.pytorch": lightning.pytorch}


def make_model(package):
    class Tiny(package.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(4, 2)

        def training_step(self, batch, batch_idx):
            return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", self.training_step(batch, batch_idx))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    return Tiny()


def loader(count=8):
    return DataLoader(TensorDataset(torch.randn(count, 4), torch.arange(count) % 2), batch_size=4)


def during(package, look, model=None, hook="on_train_batch_start", **options):
    """What ``look(trainer, module)`` returns in the first call of a hook."""
    seen = []

    def call(self, trainer, pl_module, *arguments, **named):
        if not seen:
            seen.append(look(trainer, pl_module))

    watcher = type("Watcher", (package.Callback,), {hook: call})()
    trainer = package.Trainer(**{**QUIET, "accelerator": "cpu", "max_epochs": 1, **options}, callbacks=[watcher])
    trainer.fit(model or make_model(package), loader(), loader())
    return seen[0]


def owners(trainer, pl_module):
    """The objects behind the names that those files use; a new name wants a line here."""
    result = importlib.import_module(
        f"{type(trainer).__module__.rpartition('.')[0]}.connectors.logger_connector.result"
    )
    metric = torchmetrics.MeanMetric()
    metric(1.0)
    ranks = nn.parallel.distributed.dist
    distributed = importlib.import_module("lightning_fabric.utilities.distributed")
    return {
        "trainer": trainer,
        "pl_module": pl_module,
        "module": pl_module,
        "strategy": trainer.strategy,
        "epoch_loop": trainer.fit_loop.epoch_loop,
        "fit_loop": trainer.fit_loop,
        "importlib.import_module": result,
        "value": metric,
        "model.reducer": ranks.Reducer,
        "sampler.dataset": distributed._DatasetSamplerWrapper(torch.utils.data.RandomSampler(range(4))),
    }


@pytest.mark.parametrize("name", PACKAGES)
def test_every_private_attribute_exists(name):
    read = {
        (path.name, owner, attribute)
        for path in FILES
        for owner, attribute in _attributes(path.read_text(encoding="utf-8"))
        if owner not in ("self", "cls")
    }
    assert len(read) > 2

    def look(trainer, pl_module):
        known = owners(trainer, pl_module)
        ddp = PACKAGES[name].strategies.DDPStrategy()
        missing, unknown = [], []
        for file, owner, attribute in sorted(read):
            root = next((item for item in sorted(known, key=len, reverse=True) if within(owner, item)), None)
            if root is None:
                unknown.append(f"{file}: {owner}.{attribute}")
                continue
            place = known[root]
            for part in filter(None, owner[len(root) :].split(".")):
                place = getattr(place, part)
            places = [place, ddp] if place is trainer.strategy else [place]
            if not any(hasattr(item, attribute) for item in places):
                missing.append(f"{file}: {owner}.{attribute}")
        return missing, unknown

    missing, unknown = during(PACKAGES[name], look)
    assert not missing, "this version of Lightning has moved what is read here"
    assert not unknown, "owners() does not know what these names hold"


def within(owner, root):
    return owner == root or owner.startswith(f"{root}.")


@pytest.mark.parametrize("hook", ["setup", "on_fit_start", "on_train_start", "on_train_batch_end", "on_validation_end"])
@pytest.mark.parametrize("name", PACKAGES)
def test_every_function_runs_under_a_trainer(name, hook):
    def look(trainer, pl_module):
        called = []
        for path in FILES:
            module = importlib.import_module(f"lightning_debug.callbacks.{path.stem}")
            for function_name, function in inspect.getmembers(module, inspect.isfunction):
                given = {"trainer": trainer, "pl_module": pl_module}
                parameters = inspect.signature(function).parameters.values()
                required = {item.name for item in parameters if item.default is item.empty}
                if function.__module__ == module.__name__ and required and required <= set(given):
                    if hook == "setup" and not function_name.startswith(EARLY):
                        continue
                    with contextlib.suppress(NotDrawable):  # hooks before there are loaders
                        function(**{key: given[key] for key in required})
                    called.append(function_name)
        return called

    called = during(PACKAGES[name], look, hook=hook)
    assert set(called) >= {"moment", "batches_seen", "is_fast_dev_run", "report_folder", "summary_writers"}
    assert hook == "setup" or {"run_context", "is_compiled", "callbacks_of"} <= set(called)


EARLY = ("moment", "batches_seen", "is_", "report_folder", "summary_writers", "callbacks_of")
"""What must run before the loops and the strategy are set up."""


def test_the_base_serves_both_packages():
    assert issubclass(_lightning.CallbackBase, pytorch_lightning.Callback)
    assert issubclass(_lightning.CallbackBase, lightning.pytorch.Callback)
    assert {"setup", "teardown", "on_train_batch_end", "on_exception"} <= set(_lightning.HOOKS)
    for package in PACKAGES.values():
        hooks = {name for name in dir(package.Callback) if name.startswith("on_")}
        assert hooks <= set(_lightning.HOOKS)


def test_without_lightning_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(_lightning.importlib.util, "find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "pytorch_lightning")
    monkeypatch.delitem(sys.modules, "lightning.pytorch")
    with pytest.raises(ImportError, match="pip install pytorch-lightning"):
        _lightning._bases()


def test_the_moment_of_each_stage():
    told = []

    class Watcher(pytorch_lightning.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            told.append(str(moment(trainer, batch_idx)))

        def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
            told.append(str(moment(trainer, batch_idx)))

    trainer = pytorch_lightning.Trainer(**QUIET, accelerator="cpu", max_epochs=1, callbacks=[Watcher()])
    trainer.fit(make_model(pytorch_lightning), loader(), loader())
    assert told == [
        "sanity check, batch 0", "sanity check, batch 1", "epoch 0, step 0", "epoch 0, step 1",
        "validation of epoch 0, batch 0", "validation of epoch 0, batch 1"]  # fmt: skip


def context(model=None, val=None, **options):
    seen = []

    class Watcher(pytorch_lightning.Callback):
        def on_train_start(self, trainer, pl_module):
            seen.append(run_context(trainer, pl_module))

    trainer = pytorch_lightning.Trainer(
        **{**QUIET, "accelerator": "cpu", "max_epochs": 2, **options}, callbacks=[Watcher()]
    )
    trainer.fit(model or make_model(pytorch_lightning), loader(), val)
    return seen[0]


class Stream(IterableDataset):
    def __iter__(self):
        yield from [(torch.randn(4), torch.tensor(1))] * 4


def test_the_context_of_a_plain_run():
    told = context(val=loader())
    assert told.model.endswith("Tiny")
    assert (told.parameters, told.strategy, told.precision, told.world_size) == (
        10,
        "SingleDeviceStrategy",
        "32-true",
        1,
    )
    assert (told.optimizers, told.automatic_optimization, told.accumulate_grad_batches) == (("SGD",), True, 1)
    assert (told.has_validation, told.max_epochs, told.planned_steps, told.resumed) == (True, 2, 4, False)
    assert told.versions["torch"] == torch.__version__
    assert not told.compiled


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, False),
        ({"val": []}, False),
        ({"val": loader(), "limit_val_batches": 0}, False),
        ({"val": loader(), "check_val_every_n_epoch": 2}, True),
        ({"val": loader(), "check_val_every_n_epoch": sys.maxsize}, False),
        ({"val": DataLoader(Stream(), batch_size=4), "check_val_every_n_epoch": 2}, True),
        ({"val": loader(), "check_val_every_n_epoch": None, "val_check_interval": 3}, True),
    ],
    ids=["none", "empty", "limited to 0", "later", "never", "without a length", "by steps"],
)
def test_whether_there_is_validation(options, expected):
    assert context(**options).has_validation is expected


@pytest.mark.parametrize(
    ("options", "planned"),
    [
        ({"max_epochs": -1, "max_steps": 3}, 3),
        ({"max_steps": 3}, 3),
        ({"max_steps": 1, "accumulate_grad_batches": 2}, 2),
        ({"max_epochs": 3, "limit_train_batches": 1}, 3),
        ({"max_epochs": -1, "max_time": {"seconds": 0.01}}, None),
    ],
)
def test_how_many_steps_are_planned(options, planned):
    assert context(**options).planned_steps == planned


def test_a_model_whose_shapes_are_not_known_yet():
    model = make_model(pytorch_lightning)
    model.net = nn.LazyLinear(2)
    assert context(model).parameters in (0, 10)


def test_a_compiled_part_is_seen():
    model = make_model(pytorch_lightning)
    assert not _lightning.is_compiled(model)
    model.net = torch.compile(model.net, backend="eager")
    assert _lightning.is_compiled(model)
    inner = make_model(pytorch_lightning)
    inner.net.compile(backend="eager")
    assert _lightning.is_compiled(inner)
