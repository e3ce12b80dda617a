"""Steps in isolation that tell what a net makes of its inputs: what each output sees, and what it knows of labels."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_debug.callbacks._lightning import LightningModule, Trainer
from lightning_debug.evidence.data_relations import TargetOffset
from lightning_debug.experiments.clock import working_time
from lightning_debug.experiments.isolation import Sandbox, Unrepeatable, in_eager, isolated, offload_of
from lightning_debug.experiments.label_exchange import layer_outputs, loss_by_labels, require_target
from lightning_debug.experiments.loss_experiments import BrokenOff, NotJudged
from lightning_debug.experiments.steps_by_hand import is_by_hand, step_again
from lightning_debug.probes.batch_fields import batch_fields
from lightning_debug.probes.loss_tap import HeardLoss, LossTap
from lightning_debug.probes.relation_fingerprints import spread
from lightning_debug.probes.relation_targets import FEWEST, Seen, first_counted, offset_of, seen_through

HUGE = 2**33
"""Bytes of parameters from which on nothing is run."""

MOST_UNITS = 256
"""Of targets of several numbers each, so many are compared."""

FEWEST_TOKENS = 5
"""Shorter rows of whole numbers may be the columns of a table."""

SECONDS, SHARE = 3.0, 0.03
"""Seconds after which no more batches are run than this share of the steps that were trained."""


class NothingCompared(NotJudged):
    """No known loss function compares what the net gives with labels."""


@contextlib.contextmanager
def _sandbox(trainer: Trainer, pl_module: LightningModule) -> Iterator[Sandbox]:
    size = sum(item.numel() * item.element_size() for item in pl_module.parameters())
    if size > HUGE:
        raise NotJudged("the model is too large to run a step again")
    try:
        with (
            torch.inference_mode(False),
            in_eager(pl_module),
            isolated(trainer, pl_module, offload=offload_of(pl_module)) as sandbox,
            sandbox.mode(training=False),
        ):
            yield sandbox
    except Unrepeatable as error:
        raise NotJudged(str(error)) from error


def _heard(sandbox: Sandbox, pl_module: LightningModule, trainer: Trainer, step: str, batch: Any) -> list[HeardLoss]:
    """The loss calls of one step, on a batch as the loader gave it."""
    if is_by_hand(pl_module, step):
        sandbox.rewind()
    sandbox.reseed()
    sandbox.logged.clear()
    tap = LossTap(pl_module)
    losses: list[Tensor] = []
    try:
        moved = trainer.strategy.batch_to_device(copy.deepcopy(batch), dataloader_idx=0)
        with tap, sandbox.mode(training=False):
            if is_by_hand(pl_module, step):
                output, losses = step_again(sandbox, pl_module, moved, evaluating=True)
            else:
                output = getattr(sandbox, step)(moved)
    except Unrepeatable:
        raise
    except Exception as error:
        raise BrokenOff(f"{step} raises {type(error).__name__} when run again: {error}") from error
    returned = sandbox.loss(output)
    losses += [] if returned is None else [returned]
    return [item for loss in losses for item in tap.reaching(loss)] or tap.heard


def target_offset(trainer: Trainer, pl_module: LightningModule, batch: Any) -> TargetOffset | None:
    """Which token each output is trained to predict; ``None`` where the net is no causal language model.

    Each field of tokens is changed in the middle, and the step run again: the first output that changes tells from
    where on outputs see that token. Then the targets that reach the loss are compared with the tokens.

    Args:
        trainer: The Trainer, in fit.
        pl_module: Its module.
        batch: A few samples of a batch, on the CPU, before the transfer.

    Raises:
        NotJudged: If the step cannot be run again.
    """
    fields = [(index, name, item) for index, (name, item) in enumerate(batch_fields(batch)) if is_tokens(item)]
    if not fields:
        return None
    with _sandbox(trainer, pl_module) as sandbox:
        calm = [item for item in _heard(sandbox, pl_module, trainer, "training_step", batch) if item.is_classes]
        for index, name, tokens in fields:
            calls = [place for place, item in enumerate(calm) if _fits(item, tokens)]
            if not calls:
                continue
            start = _start(calm[calls[0]], tokens)
            length = tokens.shape[1] - start
            seen: list[Seen | None] = []
            first = first_counted(calm[calls[0]], len(tokens), length)
            for eighths in (4, 6, 5, 3):
                place = first + eighths * (length - first) // 8
                changed = copy.deepcopy(batch)
                field = batch_fields(changed)[index][1]
                field[:, start + place] = _others(field, start + place)
                sandbox.rewind()  # a state that the module carries from batch to batch would tell of all tokens
                with sandbox.mode(training=False):
                    heard = _heard(sandbox, pl_module, trainer, "training_step", changed)
                again = [item for item in heard if item.is_classes]
                if len(again) != len(calm):
                    return None
                seen.append(seen_through(calm[calls[0]], again[calls[0]], len(tokens), place))
                if len(seen) - seen.count(None) == 2:
                    break  # a decoder that is given its own words now and then does not see each token
            found = offset_of(calm[calls[0]], tokens[:, start:], seen)
            if found is not None:
                offset, moved, through, matched, positions = found
                call = calm[calls[0]]
                return TargetOffset(
                    function=call.function,
                    line=call.op.line,
                    field=name,
                    offset=offset,
                    target_offset=moved,
                    seen_offset=through,
                    matched=matched,
                    positions=positions,
                    length=length,
                )
    return None


def scores_and_labels(
    trainer: Trainer, pl_module: LightningModule, batches: Sequence[Any], step: str
) -> list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """What the net gives to the loss, and the targets, for each batch: ``(samples, outputs)`` and ``(samples,)``.

    Targets of several numbers each that are compared one by one are ``(samples, outputs)``, thinned out.

    After ``SECONDS`` no more batches are run than ``SHARE`` of the steps that were trained.

    Raises:
        NotJudged: If the step cannot be run again, or calls no loss on one target a sample, or as many as outputs.
    """
    found = []
    with _sandbox(trainer, pl_module) as sandbox, torch.no_grad():
        begun = working_time()
        for index, batch in enumerate(batches):
            if working_time() - begun > SECONDS and index >= max(1.0, SHARE * trainer.global_step):
                break
            heard = _heard(sandbox, pl_module, trainer, step, batch)
            pair = next(filter(None, (*map(_pair, heard), *map(_pair_of_several, heard))), None)
            if pair is None:
                raise NothingCompared("no loss compares one target a sample with the net's outputs")
            found.append(pair)
    return found


def looks_at_column(
    trainer: Trainer, pl_module: LightningModule, batch: Any, path: str, column: tuple[int, ...]
) -> bool:
    """Whether what the net gives to the loss changes when one value of a field changes places among the samples.

    Where no known loss function is given anything, the outputs of all layers are compared.

    Raises:
        NotJudged: If the step cannot be run again, or gives something else each time.
    """
    changed = copy.deepcopy(batch)
    place: tuple[slice | int, ...] = (slice(None), *column)
    values = dict(batch_fields(changed))[path][place]
    values.copy_(values.sort().values.roll(len(values) // 2))
    with _sandbox(trainer, pl_module) as sandbox, torch.no_grad():
        one, again, other = (
            [call.scores.detach().clone() for call in _heard(sandbox, pl_module, trainer, "training_step", item)]
            for item in (batch, batch, changed)
        )
        if not one:
            one, again, other = (layer_outputs(trainer, pl_module, sandbox, item) for item in (batch, batch, changed))
    if len(one) != len(again) or not all(map(torch.equal, one, again)):
        raise NotJudged("the step gives something else each time it runs")
    return len(one) != len(other) or not all(map(torch.equal, one, other))


def told_by_loss(
    trainer: Trainer, pl_module: LightningModule, batches: Sequence[Any], step: str, path: str, trained: Any
) -> tuple[int, float, float, float]:
    """The same asked of the loss, which may be computed by whatever (see :mod:`.label_exchange`).

    Args:
        trainer: The Trainer, in fit.
        pl_module: Its module.
        batches: What to ask about.
        step: The step that takes them.
        path: Name of the labels' field.
        trained: A batch of training.

    Raises:
        NotJudged: If that cannot be asked.
    """
    with _sandbox(trainer, pl_module) as sandbox:
        require_target(trainer, pl_module, sandbox, trained, path)
        with torch.no_grad():
            return loss_by_labels(trainer, sandbox, batches, step, path)


def _pair(call: HeardLoss) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]] | None:
    scores, target = call.scores.detach().float().cpu(), call.target.detach().float().cpu()
    if call.is_classes:
        if target.ndim != 1 or scores.ndim != 2:
            return None
        return scores.numpy(), target.numpy()
    if target.numel() != len(target) or scores.numel() != target.numel():
        if target.shape == scores.shape and target.ndim == 2 and bool((target.sum(1) == 1).all()):
            return scores.numpy(), target.argmax(1).float().numpy()
        return None
    return scores.reshape(-1, 1).numpy(), target.reshape(-1).numpy()


def _pair_of_several(call: HeardLoss) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]] | None:
    if call.is_classes or call.target.shape != call.scores.shape or call.target.ndim < 2 or not len(call.target):
        return None
    scores, target = (spread(item.detach().float().cpu(), MOST_UNITS).numpy() for item in (call.scores, call.target))
    return scores, target


def is_tokens(tensor: Tensor) -> bool:
    """Whether a tensor may hold sequences of tokens, samples in front."""
    whole = not tensor.is_floating_point() and not tensor.is_complex() and tensor.dtype != torch.bool
    return (
        whole
        and tensor.ndim == 2
        and tensor.shape[1] >= FEWEST_TOKENS
        and tensor.shape[0] >= 1
        and bool(tensor.max() > 1)
    )


def _fits(call: HeardLoss, tokens: Tensor) -> bool:
    """Whether the targets may be these tokens, moved: a few less or more a sequence, or the last of them alone."""
    samples, length = tokens.shape
    count = call.target.numel()
    each = count // samples
    return count % samples == 0 and (abs(each - length) <= 3 or FEWEST <= each <= length)


def _start(call: HeardLoss, tokens: Tensor) -> int:
    """The token that belongs to the first target, where the last tokens alone are answered."""
    samples, length = tokens.shape
    missing = length - call.target.numel() // samples
    return missing if missing > 3 else 0


def _others(field: Tensor, place: int) -> Tensor:
    """For each sequence, a token of its batch that is not the one at this place."""
    values = torch.unique(field)
    if len(values) < 2:
        return field[:, place]
    at = torch.searchsorted(values, field[:, place].contiguous())
    other: Tensor = values[(at + 1 + len(values) // 2 * (len(values) > 3)) % len(values)]
    return other
