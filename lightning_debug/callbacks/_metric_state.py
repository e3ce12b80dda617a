"""Follows what metrics and hand-kept totals hold when an epoch begins, and whether its value is made of it."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_debug.callbacks._lightning import LightningModule, Trainer, module_attributes, moment
from lightning_debug.callbacks._taps import Shadow
from lightning_debug.curves.names import better
from lightning_debug.evidence import Evidence
from lightning_debug.evidence.metrics import CarriedOver, MetricStates
from lightning_debug.experiments.isolation import Unrepeatable, isolated
from lightning_debug.probes.bytecode import plain_function, reached, reads_own
from lightning_debug.probes.metric_state import Ledger, Store, Stores, collection_of, metrics_of, stays_inside, updates

AUDITED = 4
"""Epochs of each stage that are followed."""
STEP = {"train": "training_step", "validate": "validation_step"}
EPOCH_END = {"train": "on_train_epoch_end", "validate": "on_validation_epoch_end"}

_MEASURE = re.compile(
    r"acc|loss|f1|auc|auroc|precision|recall|iou|dice|error|mae|mse|perplexity|ppl|score|c_?index|ndcg|mrr", re.I
)
_LASTING = re.compile(r"best|running|total|cumul|ema|seen|smooth|average|history|so_?far", re.I)
_MAY_LAST = re.compile(r"best|running|cumul|ema|smooth|average|history|so_?far", re.I)
"""The same of attributes: a total, or how much was seen, is what an accuracy is divided by."""
_MEANT = re.compile(r"best|running|cumul|smooth|so_?far|(^|[^a-z])(ema|history)([^a-z]|$)", re.I)
"""The same of a logged value of a metric: an average may be an average precision."""


@dataclass(frozen=True)
class _Carry:
    earlier_train: int
    earlier_validate: int


class StateWatch:
    """Called by a callback's hooks; counts on the host, and installs nothing but at an epoch's first batch and end.

    Args:
        observe: Receives the evidence.
    """

    def __init__(self, observe: Callable[[Evidence], None]) -> None:
        self._observe = observe
        self._ledger = Ledger()
        self._last, self._unsettled = "sanity", False
        self._epochs = {"train": 0, "validate": 0}
        self._before: dict[str, int] = {}
        self._carried: dict[str, dict[str, _Carry]] = {"train": {}, "validate": {}}
        self._keys: dict[str, dict[int, str]] = {"train": {}, "validate": {}}
        self._shadows: list[Shadow] = []
        self._found: list[CarriedOver] = []
        self._counted: tuple[str, int] | None = None
        self._computed: set[str] = set()
        self._values: dict[str, Any] = {}
        self._stores: dict[str, Stores] = {}

    def begin_batch(self, pl_module: LightningModule, stage: str) -> None:
        """The first batch of an epoch begins."""
        self.release()
        self._carried[stage] = {}
        if self._epochs[stage] >= AUDITED:
            return
        self._epochs[stage] += 1
        metrics = metrics_of(pl_module)
        self._ledger.mark(metrics, self._last)
        self._last = stage
        self._before = {path: updates(metric) for path, metric in metrics.items()}
        self._stores[stage] = Stores(pl_module, module_attributes())
        self._stores[stage].begin()
        keys = self._keys[stage]

        def log(original: Any, name: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
            self._is_named(name, value)
            epoch = kwargs.get("on_epoch", args[3] if len(args) > 3 else None)
            if epoch or (epoch is None and stage == "validate"):
                keys[id(value)] = str(name)
            return original(name, value, *args, **kwargs)

        def log_dict(original: Any, dictionary: Any, *args: Any, **kwargs: Any) -> Any:
            epoch = kwargs.get("on_epoch", args[3] if len(args) > 3 else None)
            for name, value in dictionary.items():
                self._is_named(name, value)
            if epoch or (epoch is None and stage == "validate"):
                keys.update({id(value): str(name) for name, value in dictionary.items()})
            return original(dictionary, *args, **kwargs)

        self._shadows = [Shadow(pl_module, "log", log), Shadow(pl_module, "log_dict", log_dict)]
        self._computed, self._values = set(), {}
        for path, metric in metrics.items():
            if self._before[path] > 0 and not _LASTING.search(path):
                self._shadows.append(Shadow(metric, "compute", self._in_step(path, metric)))

    def _in_step(self, path: str, metric: Any) -> Callable[..., Any]:
        """Notes a value of everything so far that is taken in a step (``forward`` takes that of the batch alone)."""

        def compute(original: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            if updates(metric) > self._before[path]:
                self._computed.add(path)
                self._values[path] = result
            return result

        return compute

    def _is_named(self, name: Any, value: Any) -> None:
        """A value is logged: where its name says that earlier epochs are meant, its metric is left alone."""
        if _MEANT.search(str(name)):
            meant = {path for path, one in self._values.items() if one is value}
            self._computed -= meant
            self._found = [one for one in self._found if one.source not in meant]

    def end_batch(self, pl_module: LightningModule, stage: str) -> None:
        """That batch is over."""
        self._unsettled = bool(self._shadows)
        self.settle(pl_module, stage, again=stage == "validate")

    def settle(self, pl_module: LightningModule, stage: str, again: bool = False) -> None:
        """What the first batch added; asked again when the next begins, as the module's own hooks run after ours."""
        if not again:
            self.release()
        metrics, self._unsettled = metrics_of(pl_module) if self._unsettled else {}, self._unsettled and again
        for path, metric in metrics.items():
            before = self._before.get(path, 0)
            past = self._ledger.of(path)
            known = past.get("train", 0) + past.get("validate", 0)  # the sanity check's few are not worth a word
            if before > 0 and known and updates(metric) > before:
                self._carried[stage][path] = _Carry(past.get("train", 0), past.get("validate", 0))

    def begin_end(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> str:
        """The epoch's values are about to be taken; returns why hand-kept totals cannot be judged, or nothing."""
        self.settle(pl_module, stage)
        if not 0 < self._epochs[stage] <= AUDITED:
            return ""
        metrics = metrics_of(pl_module)
        self._counted = stage, len(metrics)
        if stage == "train":
            self._add_validation(metrics)
        for path, carry in self._carried[stage].items():
            metric = metrics.get(path)
            if metric is None:
                continue
            key = self._keys[stage].get(id(metric), "")
            found = CarriedOver(
                source=path,
                kind="metric",
                key=key,
                logged=bool(key),
                earlier_train=carry.earlier_train,
                earlier_validate=carry.earlier_validate,
                held=float(updates(metric)),
                collection=collection_of(pl_module, path),
            )
            if key or path in self._computed:
                self._found.append(found)
            else:
                self._shadows.append(Shadow(metric, "compute", self._on_compute(metric, found)))
        stores, told = self._stores.pop(stage, None), ""
        if stores is not None and self._epochs[stage] >= 2:  # the first may hold what the sanity check left
            told = self._judge_stores(trainer, pl_module, stage, stores)
        if self._shadows:
            self._shadows += [Shadow(pl_module, "log", self._on_log), Shadow(pl_module, "log_dict", self._on_log_dict)]
        return told

    def _add_validation(self, metrics: Mapping[str, Any]) -> None:
        """Validation runs inside a training epoch, and may have put its updates into the same objects."""
        self._ledger.mark(metrics, self._last)
        for path in metrics:
            past = self._ledger.of(path)
            if past.get("train") and past.get("validate") and path not in self._carried["train"]:
                self._carried["train"][path] = _Carry(0, past["validate"])

    def _on_compute(self, metric: Any, carried: CarriedOver) -> Callable[..., Any]:
        def compute(original: Any, *args: Any, **kwargs: Any) -> Any:
            holds_past = updates(metric) >= carried.held  # forward takes the value of what it is given alone
            if holds_past and carried not in self._found:
                self._found.append(carried)
            self._values[carried.source] = result = original(*args, **kwargs)
            return result

        return compute

    def _on_log(self, original: Any, name: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        self._is_named(name, value)
        return original(name, value, *args, **kwargs)

    def _on_log_dict(self, original: Any, dictionary: Any, *args: Any, **kwargs: Any) -> Any:
        for name, value in dictionary.items():
            self._is_named(name, value)
        return original(dictionary, *args, **kwargs)

    def end(self, trainer: Trainer) -> None:
        """The hooks of the epoch's end have run."""
        self.release()
        if self._counted is not None:
            stage, metrics = self._counted
            self._observe(MetricStates(stage=stage, metrics=metrics, carried=tuple(self._found), at=moment(trainer)))
        self._counted, self._found = None, []

    def book(self, pl_module: LightningModule) -> None:
        """A validation is over: its updates are booked."""
        self.release()
        if max(self._epochs.values()) <= AUDITED:
            self._ledger.mark(metrics_of(pl_module), self._last)
        self._last = "train"  # which goes on after a validation

    def release(self) -> None:
        """Takes every watch off."""
        for shadow in reversed(self._shadows):
            shadow.remove()
        self._shadows = []

    def _judge_stores(self, trainer: Trainer, pl_module: LightningModule, stage: str, stores: Stores) -> str:
        hook = EPOCH_END[stage]
        function = plain_function(getattr(pl_module, hook))
        if function is None:
            return ""
        carried = [item for item in self._grown(pl_module, stage, stores) if reads_own(function, item.name)]
        if all(_MAY_LAST.search(item.name) for item in carried):
            return ""
        if not stays_inside(function, type(pl_module)):
            return f"{hook} may write files or send values, so that it is not run a second time"
        try:
            self._compare(trainer, pl_module, stage, stores, carried)
        except Unrepeatable as refused:
            return str(refused)
        return ""

    def _grown(self, pl_module: LightningModule, stage: str, stores: Stores) -> list[Store]:
        """What outlasts its epoch: lists, and numbers that the step adds to (others it sets, and they hold no past)."""
        step = plain_function(getattr(pl_module, STEP[stage]))
        functions = list(reached(step, type(pl_module))) if step is not None else []
        return [
            store
            for store in stores.carried()
            if any(reads_own(function, store.name) for function in functions)
            or (store.is_list and not _MAY_LAST.search(store.name))
        ]

    def _compare(
        self, trainer: Trainer, pl_module: LightningModule, stage: str, stores: Stores, carried: list[Store]
    ) -> None:
        hook, step = EPOCH_END[stage], STEP[stage]
        sure = [store for store in carried if not _MAY_LAST.search(store.name)]
        logged: list[dict[str, float]] = []
        with torch.inference_mode(False), isolated(trainer, pl_module, hooks=[hook]) as sandbox:
            try:
                for emptied in ([], sure, carried):  # the last gives the figures: what may last counts in them, too
                    for store in emptied:
                        setattr(pl_module, store.name, stores.alone(store))
                    sandbox.hook(hook, step)
                    logged.append({name: _number(value) for name, value in sandbox.logged.items()})
                    sandbox.rewind()
                    sandbox.logged.clear()
                    if emptied == carried:
                        break
            except Exception:  # the run's own call will raise it where the user can see it
                return
        whole, alone = logged[0], logged[-1]
        found = _changed(whole, logged[1])
        if found is None or not math.isfinite(alone.get(found, math.nan)):
            return
        store, now = sure[0], getattr(pl_module, sure[0].name)
        self._found.append(
            CarriedOver(
                source=store.name,
                kind="list" if store.is_list else "number",
                key=found,
                earlier=store.held_before(),
                held=store.held_in(now),
                hook=hook,
                also=tuple(item.name for item in sure[1:] if item.is_list == store.is_list),
                value=whole[found],
                alone=alone[found],
            )
        )


def _changed(whole: dict[str, float], alone: dict[str, float]) -> str | None:
    for name, value in whole.items():
        other = alone.get(name, math.nan)
        told = (_MEASURE.search(name) or better(name)) and not _LASTING.search(name)
        if told and math.isfinite(value) and math.isfinite(other) and not math.isclose(value, other, rel_tol=1e-4):
            return name
    return None


def _number(value: Any) -> float:
    if isinstance(value, Tensor) and value.numel() == 1:
        return float(value.detach())
    return float(value) if isinstance(value, numbers.Real) else math.nan
