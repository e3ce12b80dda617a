"""What a Trainer keeps about a run in progress, and how to call a step as it would.

Like ``_lightning.py`` this file may touch Lightning's private parts; the experiments come here for them.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from lightning_debug.callbacks._lightning import LightningModule, Trainer, is_compiled
from lightning_debug.callbacks._lightning_threads import has_company

ENTRIES = frozenset(
    {
        *("training_step", "validation_step", "forward", "backward", "manual_backward", "optimizer_step"),
        *("on_before_backward", "on_after_backward", "on_before_zero_grad", "on_before_optimizer_step"),
        *("configure_gradient_clipping", "clip_gradients", "optimizer_zero_grad", "lr_scheduler_step", "update"),
        *("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer"),
        *("step", "zero_grad", "get_lr"),
    }
)
"""Methods of a user's classes that steps call, directly or through hooks."""

_STRATEGIES = ("SingleDeviceStrategy", "DDPStrategy", "ModelParallelStrategy")
_OTHER_STRATEGIES = ("xla", "tpu", "hpu", "deepspeed", "fsdpstrategy", "hivemind", "colossal", "bagua", "horovod")
_OTHER_PRECISIONS = ("transformerengine", "deepspeed", "xla", "fsdp")
_OURS = ("lightning_debug",)
_LIGHTNING = ("pytorch_lightning", "lightning.pytorch", "lightning", "lightning_fabric")
_OUTSIDE = ("Trainer", "Strategy", "Accelerator", "_Loop", "Profiler", "CheckpointIO", "_LoggerConnector", "Fabric")
_LOADING = ("_BaseDataLoaderIter", "_StatefulDataLoaderIter", "_DataFetcher", "CombinedLoader")


def obstacles(trainer: Trainer, pl_module: LightningModule) -> list[str]:
    """Why steps cannot be run and undone under this Trainer; empty if they can."""
    found = ["another Trainer runs in another thread of this process"] if has_company() else []
    strategy = trainer.strategy
    names = [kind.__name__ for kind in type(strategy).__mro__]
    known = any(name in _STRATEGIES for name in names)
    if not known or any(word in name.lower() for name in names for word in _OTHER_STRATEGIES):
        found.append(f"strategy {names[0]} keeps state of its own that cannot be put back")
    precision = type(trainer.precision_plugin).__name__
    if any(precision.lower().startswith(word) for word in _OTHER_PRECISIONS):
        found.append(f"precision plugin {precision} keeps state of its own that cannot be put back")
    model = strategy.model
    if isinstance(model, DistributedDataParallel):
        if getattr(model, "static_graph", False):
            found.append("DistributedDataParallel(static_graph=True) counts the first backward pass")
        if model.find_unused_parameters and (not hasattr(model.reducer, "_reset_state") or _is_accumulating(trainer)):
            found.append("DistributedDataParallel(find_unused_parameters=True) remembers the parameters used so far")
    elif model is not None and model is not pl_module and type(model).__name__ != "OptimizedModule":
        found.append(f"the strategy wraps the module in {type(model).__name__}, which is not known here")
    if takes_iterator(pl_module):
        found.append("training_step takes dataloader_iter and draws its batches itself")
    if is_compiled(pl_module) and not hasattr(torch.compiler, "set_stance"):
        found.append("the module is compiled, and this version of torch cannot run it uncompiled (2.6 can)")
    return found


def bond(trainer: Trainer) -> str:
    """Why no rank can take a step by itself; empty if it can."""
    kinds = [kind.__name__ for kind in type(trainer.strategy).__mro__]
    if "ModelParallelStrategy" in kinds or "FSDPStrategy" in kinds:
        return f"the model is sharded over ranks, so that under {kinds[0]} no rank can take steps by itself"
    return ""


def _is_accumulating(trainer: Trainer) -> bool:
    """Whether the batch at hand is not the first of its accumulation window."""
    return max(trainer.fit_loop.epoch_loop.batch_idx, 0) % trainer.accumulate_grad_batches != 0


def takes_iterator(pl_module: LightningModule) -> bool:
    """Whether ``training_step`` asks for the loader's iterator instead of a batch."""
    return "dataloader_iter" in _parameters(pl_module.training_step)


def _parameters(function: Callable[..., Any]) -> list[str]:
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return []


def step_arguments(function: Callable[..., Any], *values: Any) -> tuple[Any, ...]:
    """As many of ``values`` as a user's step takes: batch only, with the batch's index, with the loader's too."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return values
    if any(item.kind is item.VAR_POSITIONAL for item in parameters):
        return values
    taken = [item for item in parameters if item.kind in (item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD)]
    return values[: len(taken)]


def call_step(trainer: Trainer, pl_module: LightningModule, name: str, *values: Any) -> Any:
    """Runs ``training_step`` or ``validation_step`` as the strategy does, past DistributedDataParallel.

    DistributedDataParallel's forward would rebuild the reducer's buckets at another moment than without
    us, which changes the order of summation later on.
    """
    arguments = step_arguments(getattr(pl_module, name), *values)
    if isinstance(trainer.strategy.model, DistributedDataParallel):
        plugin = trainer.precision_plugin
        with plugin.train_step_context() if name == "training_step" else plugin.val_step_context():
            return getattr(pl_module, name)(*arguments)
    return getattr(trainer.strategy, name)(*arguments)


def backward(trainer: Trainer, loss: torch.Tensor, optimizer: Any = None) -> None:
    """Backward as the training loop does it: loss scaling and the module's hooks included."""
    trainer.strategy.backward(loss, optimizer)


def prepare(trainer: Trainer, pl_module: LightningModule, batch: Any) -> Any:
    """Takes a batch from the loader to where ``training_step`` gets it, as the training loop does."""
    batch = trainer.precision_plugin.convert_input(batch)
    batch = pl_module._on_before_batch_transfer(batch, dataloader_idx=0)
    return trainer.strategy.batch_to_device(batch, dataloader_idx=0)


def optimizer_step(trainer: Trainer, optimizer: Any, closure: Callable[[], Any]) -> Any:
    """An optimizer step as the training loop does it: unscaling, the module's hooks and clipping included."""
    return trainer.strategy.optimizer_step(optimizer, closure)


def state_roots(trainer: Trainer) -> dict[str, Any]:
    """The objects beside the module whose state steps may change, by name; optimizers first."""
    epoch_loop = trainer.fit_loop.epoch_loop
    roots: dict[str, Any] = {}
    for index, optimizer in enumerate(trainer.strategy.optimizers):
        roots[f"optimizers[{index}].param_groups"] = getattr(optimizer, "param_groups", None)
        roots[f"optimizers[{index}]"] = optimizer
    roots |= {
        "lightning_optimizers": trainer.strategy._lightning_optimizers,
        "lr_schedulers": list(trainer.strategy.lr_scheduler_configs),
        "precision_plugin": trainer.precision_plugin,
        "trainer.state": trainer.state,
        "optim_progress": epoch_loop.automatic_optimization.optim_progress,
        "optim_step_progress": epoch_loop.manual_optimization.optim_step_progress,
        "batch_progress": epoch_loop.batch_progress,
        "scheduler_progress": epoch_loop.scheduler_progress,
        "epoch_progress": trainer.fit_loop.epoch_progress,
        "callback_metrics": trainer._logger_connector._callback_metrics,
        "logged_metrics": trainer._logger_connector._logged_metrics,
        "progress_bar_metrics": trainer._logger_connector._progress_bar_metrics,
        "model_averager": getattr(trainer.strategy, "_model_averager", None),
    }
    if isinstance(trainer.strategy.model, DistributedDataParallel):
        roots["DistributedDataParallel"] = trainer.strategy.model
    return roots


def shallow_roots(trainer: Trainer) -> list[dict[str, Any]]:
    """Attribute dictionaries whose entries are put back without looking into them."""
    epoch_loop = trainer.fit_loop.epoch_loop
    owners: list[Any] = [trainer, trainer.strategy, trainer.fit_loop, epoch_loop, trainer._logger_connector]
    owners += [epoch_loop.automatic_optimization, epoch_loop.manual_optimization, epoch_loop.val_loop]
    return [vars(owner) for owner in owners]


def data_module(trainer: Trainer) -> Any:
    """The user's LightningDataModule, whose transfer hooks and attributes a step may use; or None."""
    return getattr(trainer, "datamodule", None)


@contextlib.contextmanager
def muted(trainer: Trainer) -> Iterator[None]:
    """Has nothing reach callbacks, loggers, results, the profiler and other ranks.

    What it replaces on the trainer is put back by the caller (see :func:`shallow_roots`).
    """
    package = type(trainer).__module__.split(".trainer")[0]
    package = package if f"{package}.loggers.logger" in sys.modules else _package_of(trainer)
    dummy = importlib.import_module(f"{package}.loggers.logger").DummyLogger
    quiet = importlib.import_module(f"{package}.profilers").PassThroughProfiler
    results = importlib.import_module(f"{package}.trainer.connectors.logger_connector.result")._ResultCollection
    trainer.callbacks = []  # type: ignore[attr-defined]
    trainer._loggers = [dummy() for _ in trainer.loggers]
    trainer.profiler = quiet()  # type: ignore[attr-defined]
    trainer.fit_loop.epoch_loop._results = results(training=True)
    trainer.fit_loop.epoch_loop.val_loop._results = results(training=False)

    model = trainer.strategy.model
    sync = model.no_sync() if isinstance(model, DistributedDataParallel) else contextlib.nullcontext()
    with sync:
        yield


def recorders(logged: dict[str, Any]) -> dict[str, Callable[..., None]]:
    """Stand-ins for a module's ``log`` and ``log_dict`` that put the values into ``logged``."""

    def log(name: str, value: Any, *_: Any, **__: Any) -> None:
        logged[name] = _plain(value)

    def log_dict(dictionary: Any, *_: Any, **__: Any) -> None:
        for name, value in dictionary.items():
            logged[name] = _plain(value)

    return {"log": log, "log_dict": log_dict}


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach()
    if "torchmetrics" in {kind.__module__.split(".")[0] for kind in type(value).__mro__}:
        return getattr(value, "_forward_cache", None)
    return value


def _package_of(trainer: Trainer) -> str:
    for kind in type(trainer).__mro__:
        if kind.__name__ == "Trainer" and kind.__module__.endswith(".trainer.trainer"):
            return kind.__module__.removesuffix(".trainer.trainer")
    return "pytorch_lightning"


@contextlib.contextmanager
def stage(trainer: Trainer, pl_module: LightningModule, name: str) -> Iterator[None]:
    """Has the Trainer say that it trains (or validates) while ``training_step`` (``validation_step``) runs."""
    before, hook = trainer.state.stage, pl_module._current_fx_name
    setattr(trainer, "training" if name == "training_step" else "validating", True)
    pl_module._current_fx_name = name
    try:
        yield
    finally:
        trainer.state.stage, pl_module._current_fx_name = before, hook


def settle(trainer: Trainer, pl_module: LightningModule) -> None:
    """Ends what a step may have left open in wrappers: gathered shards, parameters marked as used."""
    model = trainer.strategy.model
    if isinstance(model, DistributedDataParallel):
        if model.find_unused_parameters:
            model.reducer._reset_state()
        return
    for module in pl_module.modules():
        if any(kind.__name__ == "FSDPModule" for kind in type(module).__mro__):
            module.reshard()  # type: ignore[operator]


@functools.lru_cache(maxsize=8192)
def role(of: Any) -> str | None:
    """What objects of a type are to Lightning, or None.

    "outside": no state of a step. "logger". "data": a data set, a sampler. "loader": a DataLoader, and
    "loading": what is halfway through one, which must never be touched.
    """
    for kind in of.__mro__:
        top, name = kind.__module__.split(".")[0], kind.__name__
        if top in _OURS:
            return "outside"
        if name in _LOADING or name.endswith("DataLoaderIter"):
            return "loading"
        if name == "DataLoader" and top == "torch":
            return "loader"
        if name in ("Dataset", "Sampler", "LightningDataModule") and top in ("torch", *_LIGHTNING):
            return "data"
        if top not in _LIGHTNING:
            continue
        if name in _OUTSIDE:
            return "outside"
        if name == "Logger":
            return "logger"
    return None
