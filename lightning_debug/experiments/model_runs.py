"""Forward passes of a training step in isolation, in eval mode, on a few samples that can be exchanged."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from lightning_debug.callbacks._lightning import LightningModule, Trainer
from lightning_debug.experiments._surroundings import uncollected
from lightning_debug.experiments.clock import working_time
from lightning_debug.experiments.isolation import Sandbox, Unrepeatable, in_eager, isolated, offload_of
from lightning_debug.experiments.loss_experiments import BrokenOff, NotJudged
from lightning_debug.probes.batch_slicing import Uncuttable, batch_size, take_samples
from lightning_debug.probes.model_trace import ModelTrace, changed

COUNTS = (13, 11, 7, 5, 3)
"""How many samples a pass takes: a prime, so that a dimension made of samples is not taken for one of features."""

HUGE = 2**33
"""Bytes of parameters from which on nothing is run."""


class Passes:
    """Runs a step on chosen samples of one batch, each time with the same random numbers.

    Attributes:
        samples: How many samples a pass has.
        draws: Whether the step draws random numbers in eval mode.
        writes: Whether it writes to buffers or frozen parameters in eval mode.
        switches: Whether the last pass, begun in eval mode, left a module in train mode.
        step: Which step is run.
        price: Seconds that the first pass has taken; 0 before.

    Args:
        limit: Seconds that all passes may take, told what the first has taken; ``None`` for any.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        limit: Callable[[float], float] | None = None,
    ) -> None:
        self.samples = usual_count(batch, fewest=1)
        self.draws = self.writes = self.switches = False
        self.step = "training_step"
        self._sandbox, self._module, self._index = sandbox, pl_module, batch_idx
        self._rewinds = not pl_module.automatic_optimization
        self._batch = take_samples(batch, range(self.samples))
        self._limit, self._spent, self.price = limit, 0.0, 0.0

    def batch(self, samples: Sequence[int] | None = None) -> Any:
        """The samples of these indices; all in order where ``None``."""
        return take_samples(self._batch, range(self.samples) if samples is None else samples)

    def run(self, batch: Any, *, every: bool = False) -> ModelTrace:
        """One pass.

        Raises:
            NotJudged: If the step raises, or changes weights, or passes have taken too long.
        """
        if self._limit is not None and self._spent + self.price > self._limit(self.price):
            raise NotJudged(f"passes take {self.price:.1f} s each, too long for a run of this length")
        begun = working_time()
        trace = self._run(batch, every=every)
        taken = working_time() - begun
        self._spent, self.price = self._spent + taken, self.price or taken
        return trace

    def _run(self, batch: Any, *, every: bool) -> ModelTrace:
        if self._rewinds:
            self._sandbox.rewind()
        self._sandbox.reseed()
        before, weights, others = _random_numbers(), _state(self._module, trained=True), _state(self._module)
        trace = ModelTrace(self._module, batch, every=every)
        try:
            with self._sandbox.mode(training=False), unstepped(self._module), trace:  # rewinding brings back modes
                getattr(self._sandbox, self.step)(batch, self._index)
                self.switches = any(item.training for item in self._module.modules())
        except Unrepeatable:
            raise
        except Exception as error:
            trace.release()
            raise BrokenOff(f"{self.step} raises {type(error).__name__} on {self.samples} samples: {error}") from error
        if _state(self._module, trained=True) != weights:  # as in sharpness-aware steps
            trace.release()
            raise NotJudged(f"{self.step} changes weights itself, and what it computes then depends on every sample")
        if _state(self._module) != others:  # as a moving average: the next pass begins where this one did
            self._rewinds = self.writes = True
        self.draws = self.draws or _random_numbers() != before
        return trace

    def base(self) -> ModelTrace:
        """The batch as it is, run twice.

        Raises:
            NotJudged: If the two differ.
        """
        one = self.run(self.batch())
        self.same(one)
        return one

    def same(self, one: ModelTrace) -> None:
        """Runs the batch as it is once more.

        Raises:
            NotJudged: If that is not what ``one`` is.
        """
        two = self.run(self.batch())
        alike = one.signature() == two.signature() and all(
            (difference := changed(first.scores, second.scores)) is not None and not bool(difference.any())
            for first, second in zip(one.predictions, two.predictions, strict=False)
        )
        two.release()
        if not alike:
            raise NotJudged("the step gives something else each time it runs, with equal random numbers")


def usual_count(batch: Any, fewest: int = COUNTS[-1]) -> int:
    """How many samples a pass takes of this batch.

    Args:
        batch: The batch.
        fewest: Of fewer nothing can be learnt.

    Raises:
        NotJudged: If its samples are not known, or too few.
    """
    try:
        size = batch_size(batch)
    except Uncuttable as error:
        raise NotJudged(error.reason) from error
    found = next((count for count in COUNTS if count <= size), None)
    if found is None and size < fewest:
        raise NotJudged(f"a batch of {size} samples is too small to exchange any")
    return found or size


def kept_samples(batch: Any, most: int) -> Any:
    """A copy of the first samples of a batch.

    Raises:
        NotJudged: If its samples are not known.
    """
    try:
        return take_samples(batch, range(min(most, batch_size(batch))))
    except Uncuttable as error:
        raise NotJudged(error.reason) from error


@contextlib.contextmanager
def sandbox_of(trainer: Trainer, pl_module: LightningModule) -> Iterator[Sandbox]:
    """``isolated``, with its refusals turned into :class:`NotJudged`."""
    size = sum(item.numel() * item.element_size() for item in pl_module.parameters())
    if size > HUGE:
        raise NotJudged(f"the model has {size / 2**30:.0f} GiB of parameters, which is too much to copy")
    try:
        with (
            torch.inference_mode(False),
            in_eager(pl_module),
            uncollected(),
            isolated(trainer, pl_module, offload=offload_of(pl_module)) as sandbox,
        ):
            yield sandbox
    except Unrepeatable as error:
        raise NotJudged(str(error)) from error


@contextlib.contextmanager
def passes(
    trainer: Trainer,
    pl_module: LightningModule,
    batch: Any,
    batch_idx: int,
    *,
    fewest: int = COUNTS[-1],
    limit: Callable[[float], float] | None = None,
) -> Iterator[Passes]:
    """Passes in eval mode on a few samples of ``batch``, at least ``fewest``; ``limit`` as for them.

    Raises:
        NotJudged: If the batch cannot be taken apart, or the step cannot be run again.
    """
    usual_count(batch, fewest)  # before anything is copied
    with sandbox_of(trainer, pl_module) as sandbox, sandbox.mode(training=False):
        yield Passes(sandbox, pl_module, batch, batch_idx, limit)


@contextlib.contextmanager
def unstepped(pl_module: LightningModule) -> Iterator[None]:
    """Has the steps of a manual optimization evaluate their closure once, and leave the weights alone.

    What a step computes after an update depends on every sample, by way of the weights.
    """
    manual = not pl_module.automatic_optimization
    optimizers = list(pl_module.trainer.optimizers) if manual else []
    before = [vars(optimizer).get("step") for optimizer in optimizers]
    for optimizer in optimizers:
        vars(optimizer)["step"] = _evaluate
    try:
        yield
    finally:
        for optimizer, own in zip(optimizers, before, strict=True):
            del vars(optimizer)["step"]
            vars(optimizer).update({} if own is None else {"step": own})  # a scheduler wraps it there


def _state(pl_module: LightningModule, *, trained: bool = False) -> list[tuple[int, int]]:
    """Marks of tensors that are trained, or of those that are not: writes in place, and the memory they are in.

    A step may write to a weight (``weight.mul_``), or give it other memory (``weight.data = ...``).
    """
    tensors: list[torch.Tensor] = [item for item in pl_module.parameters() if item.requires_grad is trained]
    tensors += [] if trained else list(pl_module.buffers())
    plain = [item for item in tensors if not item.is_inference()]
    return [(item._version, _memory(item)) for item in plain]  # noqa: SLF001 - there is no other count of writes


def _memory(tensor: torch.Tensor) -> int:
    try:
        return tensor.data_ptr()
    except RuntimeError:  # a tensor that only stands for others has none
        return 0


def _evaluate(closure: Any = None, *_: Any, **__: Any) -> Any:
    with torch.enable_grad():
        return None if closure is None else closure()


def _random_numbers() -> tuple[Any, ...]:
    """Where the random generators stand that the user's code is likely to draw from."""
    state: Any = np.random.get_state()  # noqa: NPY002 - the user's code draws from it
    torch_state = torch.random.get_rng_state().numpy().tobytes()
    if torch.cuda.is_available():
        torch_state += torch.cuda.get_rng_state().numpy().tobytes()
    return torch_state, random.getstate(), str(state[0]), state[1].tobytes(), int(state[2])


def gradients(
    trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, names: Sequence[str]
) -> tuple[float | None, dict[str, torch.Tensor], frozenset[str]]:
    """The loss of a batch, its gradients for the parameters of these names, and which zeros keep their own away.

    Where some of them hold zeros and have a gradient of zero, these are filled with random values and the batch is run
    once more: the names that have a gradient then come last.

    Raises:
        NotJudged: If the step cannot be run again, or is one of manual optimization.
    """
    if not pl_module.automatic_optimization:
        raise NotJudged("the optimization is manual, and its gradients are not known")
    with sandbox_of(trainer, pl_module) as sandbox:
        own = {name: value for name, value in pl_module.named_parameters() if name in names}

        def backward() -> float:
            sandbox.reseed()
            try:
                loss = sandbox.loss(sandbox.training_step(batch, batch_idx))
                if loss is None or not loss.requires_grad:
                    raise NotJudged("training_step returns no loss")
                sandbox.backward(loss)
            except (Unrepeatable, NotJudged):
                raise
            except Exception as error:
                raise BrokenOff(f"training_step raises {type(error).__name__} when run again: {error}") from error
            return float(loss.detach())

        value = backward()
        found = {name: item.grad.detach().clone() for name, item in own.items() if item.grad is not None}
        zeros = {name: own[name] for name, item in found.items() if not bool(item.any()) and not bool(own[name].any())}
        if zeros:
            noise = torch.Generator().manual_seed(0)
            with torch.no_grad():
                for item in zeros.values():
                    item.copy_(torch.randn(item.shape, generator=noise) / max(item.shape[-1], 1) ** 0.5)
                    item.grad = None
            backward()
        woken = frozenset(name for name, item in zeros.items() if item.grad is not None and bool(item.grad.any()))
        return value, found, woken
