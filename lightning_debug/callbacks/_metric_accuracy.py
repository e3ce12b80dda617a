"""Runs a few validation batches again in isolation, and computes the accuracy that they log from what the loss gets.

What a hook logs at the epoch's end is compared, too: after a validation's first batch it is called as if that batch
were the whole validation, where nothing in it reaches beyond the module.
"""

from __future__ import annotations

import contextlib
import math
import re
from dataclasses import dataclass, field
from typing import Any

import torch
from torchmetrics import Metric

from lightning_debug.callbacks._lightning import LightningModule, Trainer, moment, summed_names
from lightning_debug.evidence.metrics import AccuracyComparison
from lightning_debug.experiments.isolation import Unrepeatable, in_eager, isolated
from lightning_debug.experiments.loss_experiments import BrokenOff, NotJudged
from lightning_debug.probes.batch_slicing import Uncuttable, batch_size
from lightning_debug.probes.bytecode import plain_function
from lightning_debug.probes.loss_tap import HeardLoss, LossTap
from lightning_debug.probes.metric_arguments import EXCHANGED, MetricArguments, Use, swapped
from lightning_debug.probes.metric_overlap import AT_HALF, FORM, OBJECTS, OVERLAP, overlap, was_seen
from lightning_debug.probes.metric_ranking import RANKED, ranking
from lightning_debug.probes.metric_state import stays_inside
from lightning_debug.probes.metric_values import (
    HALF,
    INVERTED,
    Answers,
    Comparisons,
    mistaken_answers,
    right_answers,
    same,
)
from lightning_debug.probes.source import is_library

BATCHES = 3
"""Batches of a validation that are run again."""
VALIDATIONS = 3
"""Validations in which that is done, until it is clear."""

ACCURACY = re.compile(r"(?i:(^|[^a-z])(acc|accuracy)([^a-z]|$))|[a-z]Acc(uracy)?([^a-z]|$)")
"""Also as a collection of metrics names it: ``BinaryAccuracy``."""
_FUNCTIONS = ("cross_entropy", "nll_loss", "binary_cross_entropy_with_logits", "binary_cross_entropy")
_OTHERWISE = re.compile(r"err|drop|gap|loss|miss|diff|attack|fool|inv|not|1-", re.IGNORECASE)
"""Names that may well hold what is not right."""
_CLEAR = 2
"""Batches at least in which a mistake's value is not also a right one."""
_CHANCE = math.log(300)
"""One in how many other accuracies may agree with a mistake by chance in all of these batches."""
_END = "on_validation_epoch_end"
_BY_ALL = frozenset({"divided by all", "divided by all, per cent"})
"""Mistakes that are none where an epoch's values are added up."""


@dataclass
class _Key:
    """What one logged name came to, batch by batch.

    Args:
        logged: The values.
        computed: The right values of the same batches, by what they are; the first is the usual one.
        mistakes: Mistakes that give all of the values.
        clear: In how many batches a mistake's value is not also a right one.
        chance: How unlikely it is that another share of as many answers is that value: sum of logarithms.
        right: Whether a right value was logged where the mistakes give another.
        samples: Rows of the batches.
    """

    logged: list[float] = field(default_factory=list)
    computed: list[dict[str, float]] = field(default_factory=list)
    mistakes: set[str] | None = None
    clear: dict[str, int] = field(default_factory=dict)
    chance: dict[str, float] = field(default_factory=dict)
    right: bool = False
    samples: list[int] = field(default_factory=list)


class AccuracyReplay:
    """Gathers comparisons over batches; ``done`` when it is clear what is logged."""

    def __init__(self) -> None:
        self._keys: dict[str, _Key] = {}
        self._validations = 0
        self._source = ("", "")
        self.done = False

    def begin(self) -> None:
        """A validation begins."""
        self._validations += 1
        self.done = self.done or self._validations > VALIDATIONS

    def wants(self, batch_idx: int) -> bool:
        """Whether that batch is to be run again."""
        return not self.done and batch_idx < BATCHES

    def run(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> list[AccuracyComparison]:
        """Runs one batch again.

        Returns:
            What has become clear.

        Raises:
            NotJudged: If the step cannot be run again.
        """
        try:
            rows = batch_size(batch)
        except Uncuttable:
            rows = 0
        asked, given = Comparisons(), MetricArguments(pl_module)
        tap = LossTap(pl_module, {**asked.handlers, "*": given.heard})
        added = summed_names(trainer)
        try:
            ends = batch_idx == 0 and _can_end(pl_module)
            isolation = isolated(trainer, pl_module, hooks=[_END] if ends else [])
            with torch.inference_mode(False), in_eager(pl_module), isolation as sandbox:
                metrics = [item for item in pl_module.modules() if isinstance(item, Metric)]
                for metric in metrics:  # put back behind this block, as all else is
                    metric.reset()
                with tap:
                    try:
                        sandbox.validation_step(batch, batch_idx)
                    except Exception as error:
                        raise BrokenOff(f"validation_step raises {type(error).__name__} when run again") from error
                    if ends:
                        stepwise = set(sandbox.logged)
                        with contextlib.suppress(Exception):  # it may need what a whole validation leaves
                            sandbox.hook(_END)
                        added |= set(sandbox.logged) - stepwise  # totals of an epoch, here of one batch
                logged = {name: value for name, value in sandbox.logged.items() if _is_judged(name)}
                values = {
                    name: _number(_of_batch(metrics, name) if value is None else value)
                    for name, value in logged.items()
                }
                exchanged = list(swapped(given.uses, [(item.scores, item.target) for item in tap.heard]))
        except Unrepeatable as refused:
            raise NotJudged(str(refused)) from refused
        if exchanged:
            self.done = True
            return _exchanged(trainer, exchanged, rows)
        heard = [item for item in tap.heard if item.function in _FUNCTIONS]
        if (not values and batch_idx and heard) or (not (values and heard) and given.uses):
            return []  # the order of a metric's arguments may matter in another batch
        if not values or not heard:
            raise NotJudged("validation logs no accuracy beside a classification loss")
        if len(heard) != 1 or _is_weighted(heard[0]):
            raise NotJudged("validation has more than one loss, so that the scores behind an accuracy are not known")
        return self._add(trainer, values, _answers(heard[0], frozenset(asked.asked)), rows, added)

    def _add(
        self, trainer: Trainer, values: dict[str, float], seen: Answers, rows: int, added: frozenset[str]
    ) -> list[AccuracyComparison]:
        self._source = seen.function, seen.line
        answers, areas = (right_answers(seen), dict(mistaken_answers(seen))), ranking(seen)
        _divide_by_all(answers[1], _size(trainer))
        if not answers[0] and not areas[0]:
            raise NotJudged("the targets are no classes")
        found = []
        for name, value in values.items():
            overlaps = None if _is_plain(name) else overlap(seen, name)
            right, wrong = overlaps or (areas if RANKED.search(name) else answers)
            if not math.isfinite(value) or not right:
                continue
            key = self._keys.setdefault(name, _Key())
            is_right = any(same(value, item) for item in right.values())
            share = value / 100 if value > 1 and wrong.get("count", math.nan) != value else value
            fitting = {mistake for mistake, item in wrong.items() if same(share, item)}
            if name in added:
                fitting -= _BY_ALL
            if _OTHERWISE.search(name):
                fitting.discard(INVERTED)
            key.logged.append(value)
            key.computed.append(right)
            key.samples.append(rows)
            key.mistakes = fitting if key.mistakes is None else key.mistakes & fitting
            key.right = key.right or (is_right and not fitting)
            telling = not is_right and not (overlaps and value in (0, 1))  # either follows from taking none or all
            for mistake in fitting if telling else ():
                key.clear[mistake] = key.clear.get(mistake, 0) + 1
                odds = 0.5 * math.log(max(1.0, math.pi / 2 * seen.target.numel()))
                odds -= math.log(len(right)) if overlaps and not was_seen(seen) else 0.0
                key.chance[mistake] = key.chance.get(mistake, 0.0) + odds
            sure = [
                item
                for item in sorted(key.mistakes, key=lambda item: (item == INVERTED, item != HALF, item))
                if key.clear.get(item, 0) >= _CLEAR and key.chance[item] >= _CHANCE
            ]
            if sure and not key.right:
                found.append(self._comparison(trainer, name, key, sure[0]))
        if any(item.mistake == HALF for item in found):  # one cause is told once
            found = [item for item in found if item.mistake != AT_HALF]
        if found or all(key.right or not key.mistakes for key in self._keys.values()):
            self.done = True
        return found

    def _comparison(self, trainer: Trainer, name: str, key: _Key, mistake: str) -> AccuracyComparison:
        mistake, _, form = mistake.partition(FORM)
        return AccuracyComparison(
            key=name,
            logged=tuple(key.logged),
            computed=tuple(right.get(form, next(iter(right.values()))) for right in key.computed),
            mistake=mistake,
            function=self._source[0],
            line=self._source[1],
            samples=tuple(key.samples),
            at=moment(trainer),
        )


def _exchanged(trainer: Trainer, found: list[tuple[Use, float, float]], rows: int) -> list[AccuracyComparison]:
    """Metrics that were given their arguments the other way round, together where they stand in one line."""
    lines: dict[str, dict[str, tuple[float, float]]] = {}
    for use, value, right in found:
        lines.setdefault(use.line, {}).setdefault(use.name, (value, right))
    return [
        AccuracyComparison(
            key=", ".join(names),
            logged=tuple(value for value, _ in names.values()),
            computed=tuple(right for _, right in names.values()),
            mistake=EXCHANGED,
            line=line,
            samples=(rows,) * len(names),
            at=moment(trainer),
        )
        for line, names in lines.items()
    ]


def _size(trainer: Trainer) -> int:
    """Samples of the only validation dataset; 0 where that is not known."""
    given = trainer.val_dataloaders
    loaders = list(given) if isinstance(given, (list, tuple)) else [given]
    dataset = getattr(loaders[0], "dataset", None) if len(loaders) == 1 else None
    try:
        return len(dataset) if dataset is not None else 0
    except TypeError:
        return 0


def _divide_by_all(wrong: dict[str, float], samples: int) -> None:
    """Adds what hits come to that are divided by all samples."""
    if samples and "count" in wrong:
        wrong["divided by all"] = wrong["count"] / samples
        wrong["divided by all, per cent"] = 100 * wrong["count"] / samples


def _can_end(pl_module: LightningModule) -> bool:
    """Whether the module has a hook of its own at a validation's end that nothing outside would notice."""
    function = plain_function(getattr(pl_module, _END))
    if function is None or is_library(function.__code__.co_filename):
        return False
    return stays_inside(function, type(pl_module))


def _answers(heard: HeardLoss, asked: frozenset[str]) -> Answers:
    ignored = heard.options.get("ignore_index", -100)
    return Answers(heard.function, heard.scores, heard.target, int(ignored), heard.op.line, asked)


def _is_weighted(heard: HeardLoss) -> bool:
    return heard.scores.numel() == 0 or heard.scores.is_sparse


def _is_judged(name: str) -> bool:
    return bool(_is_plain(name) or OVERLAP.search(name))


def _is_plain(name: str) -> bool:
    """Whether a name is that of an accuracy or an area."""
    return bool(ACCURACY.search(name) or RANKED.search(name))


def _of_batch(metrics: list[Metric], name: str) -> Any:
    """What a metric that was updated and logged as an object holds of this batch; ``None`` for none or several."""
    kinds = ("AUROC",) if RANKED.search(name) else ("Accuracy",) if ACCURACY.search(name) else OBJECTS
    fitting = [item for item in metrics if any(kind in type(item).__name__ for kind in kinds)]
    updated = [item for item in fitting if item.update_count == 1]
    return updated[0].compute() if len(updated) == 1 else None


def _number(value: Any) -> float:
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        return float(value.detach().to(torch.float64))
    return float(value) if isinstance(value, (int, float)) else math.nan
