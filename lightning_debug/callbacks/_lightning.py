"""The one file that touches Lightning's private parts, and the base class for both of its packages.

Every attribute with a leading underscore that we read on a Trainer, loop or module is read here, so that
``tests/test_lightning_private.py`` can say what broke when a version of Lightning moves one.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import sys
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.parameter import is_lazy

from lightning_debug.evidence import Moment, RunContext

if TYPE_CHECKING:
    from pytorch_lightning import Callback
    from pytorch_lightning import LightningModule as LightningModule
    from pytorch_lightning import Trainer as Trainer
else:
    Trainer = LightningModule = Any


def _bases() -> tuple[type, ...]:
    """The Callback classes to derive from: of the packages already imported, else of those installed.

    A Trainer takes any object with the hooks, but LightningCLI and ``isinstance`` checks want their own
    package's class; deriving from both serves both.
    """
    packages = {"lightning.pytorch": "lightning", "pytorch_lightning": "pytorch_lightning"}
    loaded = [name for name in packages if name in sys.modules]
    wanted = loaded or [name for name, top in packages.items() if importlib.util.find_spec(top) is not None]
    if not wanted:
        raise ImportError("lightning_debug needs pytorch-lightning (or lightning): pip install pytorch-lightning")
    return tuple(importlib.import_module(name).Callback for name in wanted)


if TYPE_CHECKING:

    class CallbackBase(Callback):
        """What type checkers see: the two packages' classes have the same hooks."""

else:
    CallbackBase = type("CallbackBase", _bases(), {"__module__": __name__})

HOOKS: tuple[str, ...] = tuple(
    sorted(name for name in dir(CallbackBase) if name.startswith("on_") or name in ("setup", "teardown"))
)
"""Every hook a Lightning callback has."""

_STAGES = {"sanity_check": "sanity", "train": "train", "validate": "validate", "test": "test", "predict": "predict"}


def batches_seen(trainer: Trainer) -> int:
    """Batches trained on so far in the fit, from 0: the step axis of Lightning's own logs."""
    seen = getattr(trainer.fit_loop.epoch_loop, "_batches_that_stepped", None)
    return int(trainer.global_step if seen is None else seen)  # asked many times a step: no more than is needed


def moment(trainer: Trainer, batch: int | None = None) -> Moment:
    """Now, as a :class:`Moment`."""
    state = getattr(trainer.state.stage, "value", None)
    stage = _STAGES.get(str(state), "setup")
    step = batches_seen(trainer)
    return Moment(stage=stage, epoch=_epoch(trainer), step=step, batch=batch, rank=trainer.global_rank)


def _epoch(trainer: Trainer) -> int:
    """The epoch that runs, or has run last: after the last one ``current_epoch`` is one more."""
    loop, epoch = trainer.fit_loop, int(trainer.current_epoch)
    between = 0 < loop.epoch_progress.current.ready == epoch
    stops = trainer.should_stop or epoch == trainer.max_epochs or trainer.global_step == trainer.max_steps
    return epoch - 1 if between and stops else epoch


def is_compiled(pl_module: LightningModule) -> bool:
    """Whether the module or any part of it runs through ``torch.compile``."""
    if getattr(pl_module, "_compiler_ctx", None) is not None:
        return True
    for module in pl_module.modules():
        if getattr(module, "_compiled_call_impl", None) is not None or type(module).__name__ == "OptimizedModule":
            return True
    return False


def steps_are_compiled(pl_module: LightningModule) -> bool:
    """Whether ``torch.compile`` was given the LightningModule itself, so that its steps run compiled."""
    return getattr(pl_module, "_compiler_ctx", None) is not None


def captured_modes(trainer: Trainer) -> dict[str, bool] | None:
    """The mode of each module, by name, that Lightning noted when the evaluation in progress or the last began.

    ``None`` where it does not put modes back afterwards (before version 2.2).
    """
    try:
        return dict(trainer._evaluation_loop._module_mode.mode)
    except AttributeError:
        return None


def evaluated_names(trainer: Trainer) -> frozenset[str] | None:
    """What the evaluation that ends just now has logged for its epoch; ``None`` where Lightning does not tell."""
    results = getattr(trainer, "_results", None)
    try:
        return None if results is None else frozenset(item.meta.name for item in results.values() if item.meta.on_epoch)
    except AttributeError:
        return None


def logged_names(trainer: Trainer) -> frozenset[str]:
    """What the loop at hand has logged so far in its epoch, for steps or for the epoch."""
    results = getattr(trainer, "_results", None) or {}
    try:
        return frozenset(item.meta.name for item in results.values())
    except AttributeError:
        return frozenset()


def logged_by_step(trainer: Trainer) -> dict[str, Any]:
    """What the batch at hand, or the last one that did, has logged by itself (``on_step``), by name."""
    results = getattr(trainer, "_results", None) or {}
    try:
        return {value.meta.name: value._forward_cache for value in results.values() if value.meta.on_step}
    except AttributeError:
        return {}


def summed_names(trainer: Trainer) -> frozenset[str]:
    """Names under which ``self.log`` adds the values of an epoch's batches up, by ``reduce_fx``."""
    results = getattr(trainer, "_results", None) or {}
    try:
        return frozenset(item.meta.name for item in results.values() if item.meta.is_sum_reduction)
    except AttributeError:
        return frozenset()


def metric_directions(trainer: Trainer) -> dict[str, tuple[bool, str]]:
    """By name whether a metric object that stands logged is better when larger, and its class, where it says so."""
    results = getattr(trainer, "_results", None) or {}
    try:
        logged = {item.meta.name: item.value for item in results.values() if not item.is_tensor}
    except AttributeError:
        return {}
    known = {name: (getattr(value, "higher_is_better", None), type(value).__name__) for name, value in logged.items()}
    return {name: (side, kind) for name, (side, kind) in known.items() if side is not None}


def averages_models(trainer: Trainer) -> bool:
    """Whether ranks train apart and their weights are averaged now and then (local SGD)."""
    return getattr(trainer.strategy, "_model_averaging_period", None) is not None


def run_context(trainer: Trainer, pl_module: LightningModule) -> RunContext:
    """How the run is set up; call in ``on_train_start``, when it is settled."""
    batches, epochs = trainer.num_training_batches, trainer.max_epochs
    bounded = epochs is not None and epochs >= 0
    planned = batches * int(epochs or 0) if bounded and isinstance(batches, int) else None
    every, loaders = trainer.check_val_every_n_epoch or 1, trainer.val_dataloaders
    empty = isinstance(loaders, (list, tuple, dict)) and not loaders  # a loader's own length may be unknown
    if trainer.max_steps >= 0:
        steps = trainer.max_steps * trainer.accumulate_grad_batches
        planned = steps if planned is None else min(planned, steps)
    return RunContext(
        at=moment(trainer),
        model=f"{type(pl_module).__module__}.{type(pl_module).__qualname__}",
        parameters=sum(item.numel() for item in pl_module.parameters() if item.requires_grad and not is_lazy(item)),
        strategy=type(trainer.strategy).__name__,
        precision=str(trainer.precision),
        world_size=trainer.world_size,
        device=str(trainer.strategy.root_device),
        automatic_optimization=pl_module.automatic_optimization,
        accumulate_grad_batches=trainer.accumulate_grad_batches,
        optimizers=tuple(type(item).__name__ for item in trainer.optimizers),
        compiled=is_compiled(pl_module),
        has_validation=bool(trainer.enable_validation) and not empty and not (bounded and (epochs or 0) < every),
        max_epochs=epochs,
        planned_steps=planned,
        resumed=bool(trainer.ckpt_path) or batches_seen(trainer) > 0,
        versions=versions(),
    )


def versions() -> dict[str, str]:
    """Versions of what matters to a finding."""
    found = {"python": ".".join(map(str, sys.version_info[:3])), "torch": torch.__version__}
    for name in ("pytorch-lightning", "lightning", "torchmetrics", "lightning-debug"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def report_folder(trainer: Trainer) -> str:
    """Where the run's logger writes, or its default root. A collective: call it on every rank."""
    return str(trainer.log_dir or trainer.default_root_dir)


def is_fast_dev_run(trainer: Trainer) -> bool:
    """Whether the Trainer only tries the code out."""
    return bool(getattr(trainer, "fast_dev_run", False))


def callbacks_of(trainer: Trainer) -> list[Any]:
    """The Trainer's callbacks."""
    return list(getattr(trainer, "callbacks", []))


def batch_hook_owner(trainer: Trainer, hook: str) -> Any:
    """The module or datamodule whose ``hook`` (``on_before_batch_transfer``) Lightning calls."""
    selector = trainer._data_connector._datahook_selector
    return trainer.lightning_module if selector is None else selector.get_instance(hook)


def summary_writers(trainer: Trainer) -> list[Any]:
    """The TensorBoard writers of the Trainer's loggers; none under ``fast_dev_run`` or off rank 0."""
    if is_fast_dev_run(trainer) or trainer.global_rank != 0:
        return []
    found = [getattr(logger, "experiment", None) for logger in trainer.loggers if _is_tensorboard(logger)]
    return [writer for writer in found if hasattr(writer, "add_text")]


def _is_tensorboard(logger: Any) -> bool:
    return any(kind.__name__ == "TensorBoardLogger" for kind in type(logger).__mro__)


@functools.lru_cache(maxsize=1)
def module_attributes() -> frozenset[str]:
    """The attributes that a LightningModule has before the user adds any; read in the first module that is seen."""
    kinds = [kind for base in CallbackBase.__mro__ if (kind := _module_beside(base)) is not None]
    return frozenset(name for kind in kinds for name in vars(kind()))


def _module_beside(callback: type) -> Any:
    package = sys.modules.get(callback.__module__.partition(".callbacks")[0])
    return getattr(package, "LightningModule", None)
