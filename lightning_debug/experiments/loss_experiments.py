"""Experiments on the loss, in isolation: a batch whole and in parts; a batch in training and in validation."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Callable, Iterator
from statistics import fmean, stdev
from typing import Any

import torch

from lightning_debug.callbacks._lightning import LightningModule, Trainer, callbacks_of
from lightning_debug.evidence import Hindrance
from lightning_debug.evidence.loss_checks import BatchScaling, ValidationLossComparison
from lightning_debug.experiments._surroundings import uncollected
from lightning_debug.experiments.clock import working_time
from lightning_debug.experiments.isolation import Sandbox, Unrepeatable, in_eager, isolated, offload_of
from lightning_debug.probes.batch_slicing import Uncuttable, batch_size, cut_batch
from lightning_debug.probes.bytecode import plain_function, scales_gradients
from lightning_debug.probes.loss_tap import LossTap, scalar_terms
from lightning_debug.probes.source import is_library
from lightning_debug.probes.validation_loss_comparison import StepRun, sizes, validation_loss_comparison

MOST_SAMPLES = 16
"""How many samples of a batch an experiment uses at most: what it looks for shows in a few."""
FEWEST_DRAWS, MOST_DRAWS, SURE = 8, 32, 0.05
"""How often a loss that draws random numbers is computed, whole and in parts: until its mean is known this well."""

AFTER_BACKWARD = (
    *("backward", "on_after_backward", "on_before_optimizer_step", "configure_gradient_clipping"),
    "optimizer_step",
)
"""Hooks in which gradients are there and not used yet."""


class NotJudged(Exception):
    """The experiment cannot be made.

    Args:
        reason: Half a sentence that can follow "not judged, because".
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class BrokenOff(NotJudged):
    """The step that was run again raised."""

    def __init__(self, reason: str) -> None:
        super().__init__(Hindrance(reason))


def batch_scaling(
    trainer: Trainer,
    pl_module: LightningModule,
    batch: Any,
    batch_idx: int = 0,
    *,
    goes_on: Callable[[float], bool] = lambda _: True,
) -> BatchScaling:
    """The loss of up to 16 samples of a batch, together and in two parts, cut in the middle.

    Where the parts add up to the whole, they are cut at a quarter as well, so that chance is no explanation.

    Args:
        trainer: The Trainer, in fit.
        pl_module: Its module.
        batch: The batch.
        batch_idx: Its index.
        goes_on: Whether the parts may be run, told how many seconds the whole has taken.

    Raises:
        NotJudged: If the batch cannot be cut, the step cannot be run again, or it returns no finite loss.
    """
    samples = min(_samples(batch), MOST_SAMPLES)
    if samples < 4:
        raise NotJudged(f"a batch of {samples} samples is too small to be cut in parts")
    cuts = (samples // 2, samples // 4)
    with _sandbox(trainer, pl_module) as sandbox:
        begun = working_time()
        whole = _run(sandbox, pl_module, sandbox.training_step, cut_batch(batch, 0, samples), batch_idx)
        taken, value = working_time() - begun, _finite(whole)
        if not goes_on(taken):
            raise NotJudged(f"a step on {samples} samples takes {taken:.1f} s, too long for a run of this length")
        assert whole.loss is not None
        source = whole.tap.source(whole.loss)
        terms = list(scalar_terms(source))
        call = next((item for item in whole.tap.heard if item.op in terms and item.reduction == "sum"), None)
        op = call.op if call is not None else next((item for item in terms if item.name == "sum"), source)
        draws, many = whole.tap.draws(), len(terms)
        del whole
        parts = []
        for cut in cuts:
            runs = (cut_batch(batch, 0, cut), cut_batch(batch, cut, samples))
            one, two = (_finite(_run(sandbox, pl_module, sandbox.training_step, part, batch_idx)) for part in runs)
            parts.append((one, two))
            if not math.isclose(one + two, value, rel_tol=0.01):
                break
        drawn: list[tuple[float, ...]] = []
        sums = op is not None and "sum" in (op.name, call.reduction if call is not None else "")
        near = len(parts) > 1 and all(math.isclose(sum(pair), value, rel_tol=1e-3) for pair in parts)
        if draws and many == 1 and sums and not near and goes_on(2 * MOST_DRAWS * taken):
            halves = [cut_batch(batch, *ends) for ends in ((0, samples), (0, cuts[0]), (cuts[0], samples))]
            while len(drawn) < FEWEST_DRAWS or (len(drawn) < MOST_DRAWS and _error_of_first(drawn) > SURE):
                steps = (_run(sandbox, pl_module, sandbox.training_step, x, batch_idx, alike=False) for x in halves)
                drawn.append((*map(_finite, steps),))
    batches = trainer.num_training_batches
    return BatchScaling(
        samples=samples,
        whole=value,
        cuts=cuts[: len(parts)],
        parts=tuple(parts),
        function=op.name if op is not None else "",
        line=op.line if op is not None else "",
        reduction=call.reduction if call is not None else "",
        terms=many,
        draws=draws,
        drawn=tuple(drawn),
        batches=int(batches) if math.isfinite(batches) else None,
        rescaled=_scales_gradients(trainer, pl_module),
    )


def _error_of_first(drawn: list[tuple[float, ...]]) -> float:
    """Standard error of the first losses' mean, as a share of it."""
    losses = [item[0] for item in drawn]
    return stdev(losses) / math.sqrt(len(losses)) / max(abs(fmean(losses)), 1e-30)


def _scales_gradients(trainer: Trainer, pl_module: LightningModule) -> bool:
    """Whether a hook of the user's puts other values into gradients, after backward."""
    for owner in {type(item) for item in (pl_module, *callbacks_of(trainer))}:
        for name in AFTER_BACKWARD:
            hook = plain_function(inspect.getattr_static(owner, name, None))
            if hook is None or is_library(hook.__code__.co_filename):
                continue
            if scales_gradients(hook, owner):
                return True
    return False


def compare_validation(
    trainer: Trainer,
    pl_module: LightningModule,
    batch: Any,
    batch_idx: int = 0,
    dataloader_idx: int = 0,
    *,
    whole: bool = False,
) -> ValidationLossComparison:
    """Runs ``training_step`` and ``validation_step`` on the first samples of one batch, and compares their losses.

    Args:
        trainer: The Trainer, in fit.
        pl_module: Its module.
        batch: The batch.
        batch_idx: Its index.
        dataloader_idx: Its validation loader's index.
        whole: Whether to take the batch as it is: one whose samples are not known, and that training would take.

    Raises:
        NotJudged: If the batch cannot be cut, a step cannot be run again, or one does not take such a batch.
    """
    most = None if whole else _samples(batch)
    samples = None if most is None else min(most, MOST_SAMPLES // 2)
    # Validation batches are made in inference mode, where no gradient starts.
    with torch.inference_mode(False), _sandbox(trainer, pl_module) as sandbox:
        try:
            part = batch if samples is None else cut_batch(batch, 0, samples)
            training = _run(sandbox, pl_module, sandbox.training_step, part, batch_idx)
        except NotJudged:  # a step that takes full batches only
            if most is None:
                raise
            samples, part = most, cut_batch(batch, 0, most)
            training = _run(sandbox, pl_module, sandbox.training_step, part, batch_idx)
        validation = _run(sandbox, pl_module, sandbox.validation_step, part, batch_idx, dataloader_idx)
        return validation_loss_comparison(training, validation, samples, sizes(part))


def _samples(batch: Any) -> int:
    try:
        return batch_size(batch)
    except Uncuttable as error:
        raise NotJudged(error.reason) from error


@contextlib.contextmanager
def _sandbox(trainer: Trainer, pl_module: LightningModule) -> Iterator[Sandbox]:
    """``isolated`` in eval mode, with its refusals turned into :class:`NotJudged`."""
    try:
        with (
            in_eager(pl_module),
            uncollected(),
            isolated(trainer, pl_module, offload=offload_of(pl_module)) as sandbox,
            sandbox.mode(training=False),
        ):
            yield sandbox
    except Unrepeatable as error:
        raise NotJudged(str(error)) from error


def _run(
    sandbox: Sandbox,
    pl_module: LightningModule,
    step: Callable[..., Any],
    batch: Any,
    *indices: int,
    alike: bool = True,
) -> StepRun:
    """Runs a step, ``alike`` with the random numbers that every other one draws."""
    if alike:
        sandbox.reseed()
    sandbox.logged.clear()
    tap = LossTap(pl_module)
    try:
        with tap:
            output = step(batch, *indices)
    except Unrepeatable:
        raise
    except Exception as error:
        raise BrokenOff(f"{step.__name__} raises {type(error).__name__} when run again: {error}") from error
    return StepRun(tap, sandbox.loss(output), dict(sandbox.logged))


def _finite(run: StepRun) -> float:
    if run.loss is None or run.loss.numel() != 1:
        raise NotJudged("training_step returns no loss")
    value = float(run.loss.detach())
    if not math.isfinite(value):
        raise NotJudged("the loss is not finite")
    return value
