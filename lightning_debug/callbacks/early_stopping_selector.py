"""EarlyStoppingSelector: stops when validation is at rest, and keeps the epoch that noise does not choose."""

from __future__ import annotations

import math
import os
import warnings
from typing import Any, Literal

from lightning_debug.callbacks import _arguments
from lightning_debug.callbacks._base import DebugCallback
from lightning_debug.callbacks._kept_weights import KeptWeights
from lightning_debug.callbacks._lightning import LightningModule, Trainer, callbacks_of, moment
from lightning_debug.callbacks._ranks import is_sharded, mean
from lightning_debug.callbacks._score_watch import ScoreWatch
from lightning_debug.curves.names import mode_of, recognised
from lightning_debug.curves.stopping import Kept, keep_epoch, should_stop
from lightning_debug.evidence.selection import EpochSelection

STATE = "lightning_debug.EarlyStoppingSelector"
"""Where a checkpoint holds what it knows: a state of its own would not let a Trainer have two of them."""
FEWEST = 4
"""Copies of the weights at least: the two best choices so far, the lowest loss, and the latest."""
BUDGET = 2**26
"""Bytes of copies up to which more of them are held, the best first: a later choice may be any earlier epoch."""


class EarlyStoppingSelector(DebugCallback):
    """Stops training when neither the validation metric nor the loss gets better, and picks the epoch to keep.

    It watches the validation metric and the validation loss together. Of the epochs at which the (smoothed) loss has
    not degraded beyond its noise, the one with the best (smoothed) metric is chosen; where that is a share such as
    accuracy, a loss that is a hundredth above its lowest costs a fifth of a point. Where ``cross_entropy`` (or its kin)
    is called in each ``validation_step``, that loss is computed once more from scores divided by the temperature that
    suits them, so that confidence in wrong answers does not count (not where a model that is watched would compute
    otherwise: compiled ones, attention in PyTorch's fused path). Training stops when the choice
    and the lowest loss have not moved for ``patience`` validations and for a quarter as many as there were before.
    The weights of the chosen epoch are put back when training ends. It can run beside ``ModelCheckpoint``.

    Validations count as epochs: with ``val_check_interval`` there may be several in one.

    Args:
        monitor: Name of the validation metric, such as ``"val_acc"``. Default: recognised among the logged names. A
            name that the first validation does not log is warned of.
        mode: Whether a larger metric is better (``max``) or a smaller (``min``). Default: by its name.
        loss: Name of the validation loss. Default: recognised among the logged names.
        patience: How many validations must pass without a change before training stops, at least (see above).
        min_epochs: How many epochs training takes before it may stop.
        stop: Whether to stop training at all, or only to choose.
        restore: Whether to put the chosen epoch's weights back when training ends.
        keep: Where copies of the weights wait (four, or as many as fit into 64 MiB): in the host's ``memory`` or on
            ``disk``, in ``lightning_debug/weights`` below the Trainer's ``default_root_dir``.
        nan_patience: Validations in a row without a finite value before training stops.

    Raises:
        ValueError: If an argument is not accepted.

    Afterwards ``best_epoch`` is the epoch chosen, ``best_path`` a checkpoint that a ``ModelCheckpoint`` has of it,
    and ``stopped_epoch`` the epoch in which it stopped training (``None`` if it did not).
    """

    produces = (EpochSelection,)

    _scores: ScoreWatch
    _metrics: list[float]
    _refined: list[float]
    _losses: list[float]
    _epochs: list[int]
    _names: tuple[str, str]
    _paths: dict[int, list[str]]
    _weights: KeptWeights
    _kept: Kept | None
    _final: int | None
    _unusable: int
    stopped_epoch: int | None

    def __init__(
        self,
        monitor: str | None = None,
        mode: Literal["min", "max"] | None = None,
        loss: str | None = None,
        patience: int = 13,
        min_epochs: int = 1,
        stop: bool = True,
        restore: bool = True,
        keep: Literal["memory", "disk"] = "memory",
        nan_patience: int = 3,
    ) -> None:
        _arguments.words(monitor=monitor, loss=loss)
        _arguments.chosen(("min", "max"), ", or leave it out", mode=mode)
        _arguments.whole(1, patience=patience, min_epochs=min_epochs, nan_patience=nan_patience)
        _arguments.flags(stop=stop, restore=restore)
        _arguments.chosen(("memory", "disk"), keep=keep)
        self.monitor, self.mode, self.loss = monitor, mode, loss
        self.patience, self.min_epochs, self.nan_patience = patience, min_epochs, nan_patience
        self.stop, self.restore, self.keep = stop, restore, keep
        self._clear()

    @property
    def best_epoch(self) -> int | None:
        """The epoch chosen so far, from 0."""
        index = self._index()
        return None if index is None else self._epochs[index]

    @property
    def best_path(self) -> str:
        """A checkpoint of that epoch, where a ``ModelCheckpoint`` has written one."""
        index = self._index()
        return "" if index is None else next((path for path in self._paths.get(index, ()) if os.path.exists(path)), "")

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begins anew; a checkpoint's state is loaded afterwards."""
        if stage == "fit":
            self._clear()
            folder = os.path.join(trainer.default_root_dir, "lightning_debug", "weights")
            self._weights = KeptWeights(os.path.join(folder, str(trainer.global_rank)) if self.keep == "disk" else None)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Watches what the loss receives."""
        if not trainer.sanity_checking and getattr(trainer.state.fn, "value", "") == "fit":
            self._scores.begin_batch(pl_module, batch_idx, dataloader_idx)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the watch off."""
        self._scores.end()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Likewise."""
        self._scores.release()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the values of this validation, and decides."""
        if trainer.sanity_checking or getattr(trainer.state.fn, "value", "") != "fit":
            return
        self._note_paths(trainer)
        metric, loss, refined = self._read(trainer)
        self._metrics.append(metric)
        self._refined.append(refined)
        self._losses.append(loss)
        self._epochs.append(trainer.current_epoch)
        self._unusable = self._unusable + 1 if not (math.isfinite(metric) or math.isfinite(loss)) else 0
        if self._unusable >= self.nan_patience:
            self._stop(trainer)
            return
        if not self._choose():
            return
        if self.restore and not is_sharded(trainer):
            self._hold(pl_module)
        assert self._kept is not None
        long_enough = trainer.current_epoch + 1 >= self.min_epochs
        if self.stop and long_enough and should_stop(self._kept, len(self._losses), patience=self.patience):
            self._stop(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Puts the chosen weights back, and says what was chosen and why."""
        self._note_paths(trainer)
        index = self._index()
        if index is None or self._kept is None:
            names = ", ".join(sorted(trainer.callback_metrics)) or "nothing"
            wanted = " and ".join(repr(name) for name in (self.monitor, self.loss) if name)
            reason = f"{wanted or 'a validation metric or loss'} was not logged with finite values (logged: {names})"
            self.unavailable(EpochSelection, reason, trainer)
            if trainer.global_rank == 0 and trainer.global_step:
                warnings.warn(f"EarlyStoppingSelector has chosen no epoch: {reason}", stacklevel=2)
            return
        restored, reason = False, ""
        if self.restore and is_sharded(trainer):
            reason = "the weights are sharded over ranks; load the checkpoint of that epoch"
        elif self.restore:
            with self.attempt("restoring the chosen weights", trainer):
                self._weights.restore(index, pl_module)
                restored = True
        self._final = index
        self._record(trainer, index, restored, reason)
        self._weights.clear()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lets go of the copies."""
        self._scores.release()
        if stage == "fit":
            self._weights.clear()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Saves the curves, and the copies that wait."""
        checkpoint[STATE] = {
            "metrics": list(self._metrics),
            "losses": list(self._losses),
            "refined": list(self._refined),
            "epochs": list(self._epochs),
            "names": list(self._names),
            "unusable": self._unusable,
            "paths": {index: list(paths) for index, paths in self._paths.items()},
            "weights": self._weights.state(),
        }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Goes on where a checkpoint was written."""
        state_dict = checkpoint.get(STATE)
        if state_dict is None:
            return
        self._metrics, self._losses = list(state_dict["metrics"]), list(state_dict["losses"])
        self._refined = list(state_dict.get("refined", [math.nan] * len(self._losses)))
        self._epochs, self._unusable = list(state_dict["epochs"]), int(state_dict["unusable"])
        self._names = (str(state_dict["names"][0]), str(state_dict["names"][1]))
        self._paths = {int(index): list(paths) for index, paths in state_dict["paths"].items()}
        self._weights.load(state_dict["weights"])
        self._choose()

    def _clear(self) -> None:
        self._scores = ScoreWatch()
        self._metrics, self._losses, self._refined, self._epochs = [], [], [], []
        self._names = ("", "")
        self._paths = {}
        self._weights = KeptWeights()
        self._kept = None
        self._final = None
        self._unusable = 0
        self.stopped_epoch = None

    def _read(self, trainer: Trainer) -> tuple[float, float, float]:
        """Metric, loss and loss of tempered scores, the same on every rank. A collective where there are several."""
        logged = trainer.callback_metrics
        if not any(self._names):
            found = recognised(logged, val=self.loss or "", metric=self.monitor or "")
            self._names = found.metric, found.val
            if trainer.global_rank == 0 and not self._epochs:
                _arguments.missing(type(self).__name__, logged, "logged value", monitor=self.monitor, loss=self.loss)
        values = [float(logged[name]) if name and name in logged else math.nan for name in self._names]
        metric, loss, *tempered = mean([*values, *self._scores.losses()], trainer)
        return metric, loss, math.nan if any(map(math.isnan, tempered)) else min(tempered)

    def _mode(self) -> Literal["min", "max"]:
        return self.mode or mode_of(self._names[0])

    def _choose(self) -> bool:
        metrics = self._metrics if any(map(math.isfinite, self._metrics)) else None
        losses = self._losses if any(map(math.isfinite, self._losses)) else None
        if metrics is None and losses is None:
            return False
        self._kept = keep_epoch(losses, metrics, mode=self._mode(), refined=self._refined)
        return True

    def _index(self) -> int | None:
        """The chosen validation: of those whose weights are held, where weights are held."""
        if self._kept is None or self._final is not None:
            return self._final
        held = [index for index in self._weights.indices if index < len(self._kept.scores)]
        scores = self._kept.scores
        return max(held, key=lambda index: (scores[index], index)) if held else self._kept.index

    def _hold(self, pl_module: LightningModule) -> None:
        assert self._kept is not None
        latest, scores = len(self._losses) - 1, self._kept.scores
        ranked = sorted((*self._weights.indices, latest), key=lambda index: scores[index], reverse=True)
        most = max(FEWEST, BUDGET // max(1, self._weights.size(pl_module)))
        wanted = {*ranked[: most - 2], self._kept.lowest, latest}
        for index in set(self._weights.indices) - wanted:
            self._weights.drop(index)
        self._weights.keep(latest, pl_module)

    def _stop(self, trainer: Trainer) -> None:
        self.stopped_epoch = trainer.current_epoch
        trainer.should_stop = True

    def _note_paths(self, trainer: Trainer) -> None:
        """Which checkpoints have appeared: those of the validation before, as others' hooks run after this one."""
        known = {path for paths in self._paths.values() for path in paths}
        for item in callbacks_of(trainer):
            for path in (getattr(item, "best_model_path", ""), *getattr(item, "best_k_models", ())):
                if isinstance(path, str) and path and path not in known and self._epochs:
                    self._paths.setdefault(len(self._epochs) - 1, []).append(path)
                    known.add(path)

    def _record(self, trainer: Trainer, index: int, restored: bool, reason: str) -> None:
        assert self._kept is not None
        metrics = [value for value in self._metrics if math.isfinite(value)]
        losses = [value for value in self._losses if math.isfinite(value)]
        best = max if self._mode() == "max" else min
        self.session.observe(
            EpochSelection(
                epoch=self._epochs[index],
                validations=len(self._epochs),
                metric=self._names[0] if metrics else "",
                mode=self._mode(),
                metric_value=self._metrics[index] if metrics else None,
                best_metric=best(metrics) if metrics else None,
                loss=self._names[1] if losses else "",
                loss_value=self._losses[index] if losses else None,
                lowest_loss=min(losses) if losses else None,
                tolerance=self._kept.tolerance,
                tempered=bool(metrics and losses and math.isnan(self._kept.tolerance)),
                stopped=self.stopped_epoch is not None,
                restored=restored,
                path=self.best_path,
                reason=reason,
                at=moment(trainer),
            )
        )
