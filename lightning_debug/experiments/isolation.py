"""Training steps inside a live fit that leave no trace: everything is put back bit for bit.

    with isolated(trainer, pl_module) as sandbox, sandbox.mode(training=True):
        loss = sandbox.loss(sandbox.training_step(batch))

What cannot be put back is refused before anything runs (:class:`Unrepeatable`).

Not covered: files and services that a step writes to directly, state kept inside extension modules, variables that
code reaches by a name it puts together, and the choice of algorithms by ``cudnn.benchmark``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from lightning_debug.callbacks import _lightning_state as lightning
from lightning_debug.callbacks._lightning import LightningModule, Trainer
from lightning_debug.experiments._apart import apart, hindrance
from lightning_debug.experiments._keepers import Mapping
from lightning_debug.experiments._snapshot import Snapshot
from lightning_debug.experiments._surroundings import (
    flags_kept,
    global_hooks,
    random_state,
    set_random_state,
    silence,
    staying,
    uncollected,
    uncompiled,
    uninterrupted,
    wait,
)
from lightning_debug.experiments.asking import asked
from lightning_debug.experiments.hindrance import Hindering
from lightning_debug.probes.trace import compiled_functions

LARGE = 2**30
"""Bytes of parameters above which copies of them are better kept off the accelerator."""

_depth = 0


class Unrepeatable(Hindering, RuntimeError):
    """Steps cannot be run and undone here.

    Attributes:
        reasons: What stands in the way: attribute paths and types, the strategy, the step's signature.
    """

    def __init__(self, reasons: Sequence[str]) -> None:
        self.reasons = tuple(dict.fromkeys(reasons))
        more = f" (and {len(self.reasons) - 5} more)" if len(self.reasons) > 5 else ""
        super().__init__(f"cannot run a step without leaving a trace: {'; '.join(self.reasons[:5])}{more}")


def in_sandbox() -> bool:
    """Whether an experiment is running, so that instruments can look away."""
    return _depth > 0


class Sandbox:
    """Runs steps while :func:`isolated` is in effect.

    Attributes:
        logged: What the step's ``self.log`` and ``self.log_dict`` received, by name; the last value of each.
    """

    def __init__(self, trainer: Trainer, pl_module: LightningModule, state: Snapshot, offload: str | None) -> None:
        self.logged: dict[str, Any] = {}
        self._trainer, self._module, self._state = trainer, pl_module, state
        self._batch: tuple[Any, Snapshot] | None = None
        self._random = random_state()
        self._offload = offload

    def training_step(self, batch: Any, batch_idx: int = 0) -> Any:
        """Runs the user's ``training_step`` under the run's precision, with gradients.

        Args:
            batch: As the loop would pass it: converted, transferred. It may be changed by the step; it is
                as it was before the next step and when the isolation ends.
            batch_idx: Its index, passed on if the step takes one.

        Returns:
            What the user's step returns.
        """
        return self._step("training_step", batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int = 0, dataloader_idx: int = 0) -> Any:
        """Runs the user's ``validation_step`` without gradients. Modes are the caller's choice: :meth:`mode`."""
        return self._step("validation_step", batch, batch_idx, dataloader_idx)

    def hook(self, name: str, stage: str = "validation_step") -> None:
        """Calls a hook of the module that takes no arguments, as at the end of an epoch.

        Args:
            name: The hook, such as ``"on_validation_epoch_end"``.
            stage: The step in whose stage it runs: ``"training_step"`` or ``"validation_step"``.
        """
        with silence(), staying(), torch.no_grad(), lightning.stage(self._trainer, self._module, stage):
            getattr(self._module, name)()

    def backward(self, loss: torch.Tensor, optimizer: Any = None) -> None:
        """Backward as the run does it: GradScaler and the module's hooks included, no reduction over ranks."""
        with silence(), staying(), torch.enable_grad():
            lightning.backward(self._trainer, loss, optimizer)

    def optimizer_step(self, optimizer: Any, closure: Callable[[], Any]) -> Any:
        """A step as the run does it: unscaling, the module's hooks and clipping. Needs ``updates=True``."""
        with silence(), staying(), torch.enable_grad():
            return lightning.optimizer_step(self._trainer, optimizer, closure)

    @contextlib.contextmanager
    def mode(self, training: bool) -> Iterator[None]:
        """Has the whole module tree in train (or eval) mode; no ``train()`` of the user's is called."""
        before = [(module, module.training) for module in self._module.modules()]
        for module, flag in before:
            if flag != training:
                module.training = training
        try:
            yield
        finally:
            for module, flag in before:
                if module.training != flag:
                    module.training = flag

    def reseed(self) -> None:
        """Sets every random generator to where it was on entry, so that two runs draw alike."""
        set_random_state(self._random)
        self._state.reseed()

    def rewind(self) -> None:
        """Puts parameters, optimizers, counters and random generators back, to begin another experiment."""
        self.end()
        self.begin()

    @staticmethod
    def loss(output: Any) -> torch.Tensor | None:
        """The loss in what a step returned: the tensor itself or its entry ``"loss"``; None if there is none."""
        if isinstance(output, torch.Tensor):
            return output
        if hasattr(output, "get") and hasattr(output, "keys"):
            found = output.get("loss")
            return found if isinstance(found, torch.Tensor) else None
        return None

    def _step(self, name: str, batch: Any, *indices: int) -> Any:
        self._protect(batch)
        gradients = torch.enable_grad() if name == "training_step" else torch.no_grad()
        stage = lightning.stage(self._trainer, self._module, name)
        with silence(), staying(), torch.inference_mode(False), gradients, stage:
            return lightning.call_step(self._trainer, self._module, name, batch, *indices)

    def _protect(self, batch: Any) -> None:
        """Remembers a batch, which a step may change in place, and puts back what the last step changed."""
        if self._batch is not None:
            self._batch[1].restore()
        if self._batch is None or self._batch[0] is not batch:
            kept = Snapshot(self._offload)
            kept.add(batch, "batch", lenient=True)
            self._batch = (batch, kept)

    def begin(self) -> None:
        """Prepares for the first step. Called by :func:`isolated`."""
        self._state.clear_gradients()
        self._state.detach()
        vars(self._module).update(lightning.recorders(self.logged))

    def end(self) -> None:
        """Puts everything back. Called by :func:`isolated`."""
        wait()
        lightning.settle(self._trainer, self._module)
        self._state.restore()
        if self._batch is not None:
            self._batch[1].restore()
        set_random_state(self._random)


@contextlib.contextmanager
def isolated(
    trainer: Trainer,
    pl_module: LightningModule,
    *,
    updates: bool = False,
    offload: str | None = None,
    also: Sequence[Any] = (),
    hooks: Sequence[str] = (),
    together: bool = False,
) -> Iterator[Sandbox]:
    """Lets steps run inside a live fit, and puts everything back afterwards, however the block ends.

    Inside, nothing reaches callbacks, loggers, results, the progress bar or the terminal; gradients start
    out empty; compiled modules run uncompiled (a graph compiled for us could be the one the run uses);
    under DistributedDataParallel nothing is reduced over ranks.

    Args:
        trainer: The Trainer, in fit.
        pl_module: Its module.
        updates: Whether optimizers may step. Then their states are copied as well; under manual
            optimization they always are, since ``training_step`` steps them itself.
        offload: Device for the copies, as "cpu"; by default they stay on the tensors' devices.
        also: More objects that the block asks, as a data set and its collate function. What cannot be put back in
            these is passed over, but for iterators and for functions that keep results, which are refused.
        hooks: More methods of the module that the block calls (:meth:`Sandbox.hook`).
        together: Whether all ranks are certain to run the same steps here. Otherwise models that are sharded
            over ranks are refused, and a step that talks to other ranks raises :class:`Unrepeatable`.

    Yields:
        The sandbox.

    Raises:
        Unrepeatable: If something reachable from the module cannot be put back. Nothing has run then.
    """
    reasons = lightning.obstacles(trainer, pl_module)
    alone = trainer.world_size > 1 and not together
    if alone:
        reasons += [reason for reason in (lightning.bond(trainer), hindrance()) if reason]
    if reasons:
        raise Unrepeatable(reasons)
    state = _remember(trainer, pl_module, updates or not pl_module.automatic_optimization, offload, hooks)
    if also:
        state.join(asked(also, offload))
    if state.reasons:
        raise Unrepeatable(state.reasons)
    trainer_state = [Mapping(held) for held in lightning.shallow_roots(trainer)]
    sandbox = Sandbox(trainer, pl_module, state, offload)
    with contextlib.ExitStack() as stack:
        stack.enter_context(silence())  # once for all of its steps: it looks through every module
        stack.enter_context(flags_kept())
        stack.enter_context(uncompiled())
        stack.callback(_put_back, sandbox, trainer_state)
        stack.enter_context(_inside())
        if alone:
            stack.enter_context(apart(lambda: Unrepeatable(["training_step talks to other ranks"])))
        stack.enter_context(lightning.muted(trainer))
        sandbox.begin()
        yield sandbox


def in_eager(pl_module: LightningModule) -> contextlib.AbstractContextManager[Any]:
    """Has functions that are compiled run as they are written; whole modules are :func:`isolated`'s business.

    Raises:
        Unrepeatable: If this version of torch cannot do that.
    """
    names = compiled_functions(pl_module)
    if not names:
        return contextlib.nullcontext()
    if not hasattr(torch.compiler, "set_stance"):
        raise Unrepeatable([f"{names[0]} is compiled, and this version of torch cannot run it uncompiled"])
    eager: contextlib.AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return eager


def offload_of(pl_module: LightningModule) -> str | None:
    """Where :func:`isolated` should keep its copies: on the host, for a model that is large for its device."""
    size = sum(item.numel() * item.element_size() for item in pl_module.parameters())
    return "cpu" if size > LARGE else None


@contextlib.contextmanager
def _inside() -> Iterator[None]:
    global _depth  # noqa: PLW0603 -- where Trainers run in several threads, none is isolated
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1


def _put_back(sandbox: Sandbox, trainer_state: Sequence[Mapping]) -> None:
    with uninterrupted():
        try:
            sandbox.end()
        finally:
            for keeper in trainer_state:
                keeper.restore()


@uncollected()
def _remember(
    trainer: Trainer, pl_module: LightningModule, updates: bool, offload: str | None, hooks: Sequence[str]
) -> Snapshot:
    state = Snapshot(offload)
    state.add(pl_module, type(pl_module).__name__)
    for name, held in global_hooks().items():
        state.add(held, name, lenient=True)
    for name, root in lightning.state_roots(trainer).items():
        if root is not None:
            bulky = name.startswith("optimizers") and not name.endswith("param_groups")
            state.add(root, name, copies=updates or not bulky)
    state.add_code(lightning.ENTRIES.union(hooks))
    state.add(lightning.data_module(trainer), "the datamodule", lenient=True)
    return state
