"""Which modules train in eval mode: a few steps are looked at closely, the others only at eight flags."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from torch import nn

from lightning_debug.evidence.modes import EvalModule, ModeChange, TrainingModes
from lightning_debug.probes.bytecode import mentions
from lightning_debug.probes.drift_audit import DriftAudit
from lightning_debug.probes.mode_causes import UserHooks, eval_cause
from lightning_debug.probes.mode_history import Change, Mark, ModeHistory
from lightning_debug.probes.modes import ModeModule, mode_modules, scripted_in_eval
from lightning_debug.probes.participation import Part, Participation, note_gradients
from lightning_debug.probes.train_calls import TrainCalls

FIRST, EVERY = 4, 500
"""Steps that are looked at in any case: so many first ones, and each so many after that."""

SURPRISES = 32
"""How many more may be because a flag changed."""

PATIENCE = 64
"""For how many steps on end an optimizer's step is waited for."""

STEP = "training_step"


def is_scheduled(step: int) -> bool:
    """Whether a step is looked at in any case; asked in every step.

    >>> [step for step in range(1001) if is_scheduled(step)]
    [0, 1, 2, 3, 500, 1000]
    """
    return step % EVERY == 0 or step < FIRST


class TrainingAudit:
    """Follows modes through the steps of one fit.

    Attributes:
        history: Modes at the looks so far.
        drift: The batch-norms with frozen weights.
        restored: Whether validation notes modes and puts them back.

    Args:
        model: The LightningModule.
        calls: The watch over ``train`` and ``eval``; started and stopped here as needed.
        hooks: The user's overrides of a hook.
        compiled: Whether calls inside the model cannot be seen.
        restored: Whether validation notes modes and puts them back.
        ignore: Says that a forward call is not the run's own.
    """

    def __init__(
        self,
        model: nn.Module,
        calls: TrainCalls,
        *,
        hooks: UserHooks,
        compiled: bool = False,
        restored: bool = False,
        ignore: Callable[[], bool] = lambda: False,
    ) -> None:
        self.history = ModeHistory(calls)
        self.restored = restored
        self._model, self._calls, self._hooks, self._compiled = model, calls, hooks, compiled
        self._ignore = ignore
        self._modules: list[ModeModule] = []
        self._parts: dict[str, Part] = {}
        self._watch: Participation | None = None
        self._active = False
        self._again = 0
        self._surprises = 0
        self._waited = 0
        self._recorded = False
        self._held = False
        self._unseen_told = False
        self._told: set[str] = set()
        self._ended: set[str] = set()
        self._stepped: set[int] = set()
        self.drift = DriftAudit(model, hooks)

    @property
    def active(self) -> bool:
        """Whether this step is looked at closely."""
        return self._active

    @property
    def wants_calls(self) -> bool:
        """Whether the next step is to be looked at, with the calls of ``train`` and ``eval`` in it."""
        return self._again > 0

    def look(self, mark: Mark, modes: Mapping[str, bool] | None = None) -> None:
        """Compares all modes with those of the look before."""
        self._modules = mode_modules(self._model)
        self.history.look(self._modules, mark, modes)
        self.drift.were_eval |= self.history.left.keys()

    def once_more(self) -> None:
        """Has the next step looked at."""
        self._again = max(self._again, 1)

    def begin(self, step: int, mark: Mark) -> bool:
        """A batch begins; ``step`` counts them from 0. Says whether it is looked at closely."""
        if self._watch is not None:
            self.close()
        self._active = is_scheduled(step) or self._again > 0 or self._surprised(mark)
        if not self._active:
            return False
        self._again = max(0, self._again - 1)
        self.look(mark)
        if self._stepped:
            self._stepped = set()
            for part in self._parts.values():
                part.forget()
        suspects = {item.path: item for item in self._modules if not item.module.training or item.path in self._ended}
        self._parts = {path: self._part(path, item) for path, item in suspects.items()}
        others = self.drift.begin(step, self._modules)
        if self._parts:
            self._calls.start()
        if (self._parts or others is not None) and not self._compiled:
            self._watch = Participation(self._parts.values(), self._ignore, others)
            self._watch.start()
        return True

    def _surprised(self, mark: Mark) -> bool:
        if self.history.passed(mark) or self._surprises >= SURPRISES:
            return False
        self._surprises += 1
        return True

    def _part(self, path: str, item: ModeModule) -> Part:
        known = self._parts.get(path)
        return (
            known if known is not None and known.module is item.module else Part(item.module, tuple(item.parameters()))
        )

    def middle(self, mark: Mark) -> None:
        """The loss is there, the backward is to come."""
        if self._active:
            self.history.look(self._modules, mark)
            self._note_toggles()

    def backward_done(self) -> None:
        """A backward is over."""
        if self._active:
            note_gradients(self._parts.values(), calls_seen=not self._compiled)

    def stepping(self, optimizers: Iterable[object]) -> None:
        """Optimizers are about to step."""
        if not self._active or not self._parts:
            return
        for optimizer in optimizers:
            for group in getattr(optimizer, "param_groups", ()):
                self._stepped |= {id(parameter) for parameter in group["params"]}

    def _note_toggles(self) -> None:
        if self._compiled:
            for path in self.history.toggled & self._parts.keys():
                self._parts[path].train_calls += 1

    def close(self) -> None:
        """Takes instruments out; harmless when repeated."""
        if self._watch is not None:
            self._watch.stop()
            self._watch = None

    def end(self, mark: Mark) -> TrainingModes | None:
        """A batch is over; the evidence, when there is news."""
        if not self._active:
            if self._surprised(mark):
                self.look(mark)
                self._ended = set(self.history.left)
                self._calls.start()
                self._again = 2
            return None
        self.close()
        self.history.look(self._modules, mark)
        self._note_toggles()
        self._ended = set(self.history.left)
        waiting = any(part.gradient for part in self._parts.values()) and not self._stepped
        if waiting and self._waited < PATIENCE:
            self._waited += 1
            self._again = 1
        return self._news()

    def _news(self) -> TrainingModes | None:
        found = self.evidence()
        fresh = {item.path: item for item in found.in_eval if item.takes_part and item.path not in self._told}
        unexplained = [item for item in fresh.values() if not _explained(item)]
        if unexplained and not self._held:  # its culprit may be seen at work during one more step
            self._held, self._again = True, 1
            self._calls.start()
            return None
        if not fresh and self._recorded and not (found.unseen and not self._unseen_told):
            return None
        self._held, self._recorded, self._unseen_told = False, True, bool(found.unseen)
        self._told |= fresh.keys()
        return found

    def finish(self) -> TrainingModes | None:
        """The fit is over; the evidence that was still held back."""
        if not self._held and self._recorded:
            return None
        self._held, self._recorded = False, True
        return self.evidence()

    def evidence(self) -> TrainingModes:
        """What is known now."""
        by_path = {item.path: item for item in self._modules}
        causes: dict[Change, ModeChange] = {}
        for change in self.history.left.values():
            if change not in causes:
                causes[change] = eval_cause(change, self._hooks, self.restored)
        left = self.history.left.items()
        in_eval = tuple(self._entry(by_path[path], causes[change]) for path, change in left if path in by_path)
        unseen = ""
        if self._stepped and self._stepped.isdisjoint(id(parameter) for parameter in self._model.parameters()):
            unseen = "the optimizer holds other tensors than the model's parameters (they are sharded)"
        elif not self._calls.enabled and any(mentions(step, {"train"}, kind) for _, step, kind in self._hooks(STEP)):
            unseen = "training_step is compiled, and may change modes within itself"
            in_eval = tuple(replace(item, train_calls=1) for item in in_eval)
        elif self._waited >= PATIENCE and not self._stepped:
            unseen = "no optimizer's step was seen, so it is not known which parameters are trained"
        counts = Counter(item.role for item in self._modules if item.module.training)
        return TrainingModes(
            model=type(self._model).__name__,
            watched=len(self._modules),
            in_eval=in_eval,
            in_train=dict(counts),
            unseen=unseen if any(item.gradient for item in in_eval) else _scripted(self._model),
        )

    def _entry(self, item: ModeModule, change: ModeChange) -> EvalModule:
        part = self._parts.get(item.path)
        pretrained, pretrained_class = item.pretrained
        root = item.root
        owners = {path: type(module).__name__ for path, module in (*item.parents, (item.path, item.module))}
        return EvalModule(
            path=item.path,
            class_name=type(item.module).__name__,
            role=item.role,
            root=root,
            root_class=owners.get(root, ""),
            alone=item.alone,
            hollow=item.hollow,
            pinned=item.pinned,
            pretrained=pretrained,
            pretrained_class=pretrained_class,
            eval_calls=0 if part is None else None if self._compiled else part.eval_calls,
            train_calls=0 if part is None else part.train_calls,
            gradient=part is not None and part.gradient,
            stepped=part is not None and not self._stepped.isdisjoint(part.wanted),
            change=change,
        )

    def mend(self, paths: Iterable[str]) -> None:
        """Puts modules into train mode: what has children keeps its children's modes."""
        wanted = set(paths)
        for item in self._modules:
            if item.path in wanted:
                item.module.training = True


def _scripted(model: nn.Module) -> str:
    count = scripted_in_eval(model)
    return f"{count} TorchScript modules are in eval mode, and how they are used cannot be seen" if count else ""


def _explained(item: EvalModule) -> bool:
    return item.change.watched or bool(item.change.override) or item.change.phase == "before fit"
