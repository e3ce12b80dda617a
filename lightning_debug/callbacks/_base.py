"""DebugCallback: what every callback of this package is built on."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from lightning_debug import registry
from lightning_debug.callbacks._lightning import (
    HOOKS,
    CallbackBase,
    LightningModule,
    Trainer,
    callbacks_of,
    is_fast_dev_run,
    moment,
    report_folder,
    run_context,
    summary_writers,
)
from lightning_debug.callbacks._lightning_threads import note_thread
from lightning_debug.callbacks._rank_findings import RankFindings
from lightning_debug.evidence import Evidence, ProbeFailure, RuleFailure, RunContext, Unavailable
from lightning_debug.finding import FaultFound, Report
from lightning_debug.rule import Rule
from lightning_debug.session import Session, summary
from lightning_debug.settings import Settings

GIVE_UP_AFTER = 3
"""How often a hook of ours may fail in one fit before it is switched off."""

GUARDED = ("setup", "on_train_start", "on_exception", "teardown")
"""The hooks in which a session is opened, begun and closed."""

_SESSIONS: WeakKeyDictionary[Any, Session] = WeakKeyDictionary()
_MEETINGS: WeakKeyDictionary[Session, RankFindings] = WeakKeyDictionary()
_LENT = ("log", "log_dict")  # Lightning puts the module's methods on callbacks: they would keep the model alive
_ALWAYS: tuple[type[Evidence], ...] = (RunContext, ProbeFailure, RuleFailure, Unavailable)


class DebugCallback(CallbackBase):
    """Base of this package's callbacks: evidence goes to the session that all of them share in one Trainer.

    A subclass overrides Lightning's hooks as usual, lists the evidence it ``produces``, and calls
    ``self.session.observe(...)``. Around every hook this class opens and closes the session, has new
    evidence judged, and turns an exception of ours into a finding (LD001) instead of a dead run; a hook
    that fails three times in a fit is switched off. ``FaultFound`` goes through.

    A subclass's ``__init__`` need not call ``super().__init__()``.
    """

    produces: ClassVar[tuple[type[Evidence], ...]] = ()
    """The kinds of evidence it records; the rules that need nothing else are judged."""

    leads: ClassVar[bool] = False
    """Whether its settings apply to the whole session, whichever callback opens that."""

    enabled: bool = True
    """Whether it does anything at all."""

    _session: Session | None = None
    _hosted: bool = False
    _resting: frozenset[str] = frozenset()
    _past: Report | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in HOOKS:
            if name in vars(cls):
                setattr(cls, name, guard_hook(name, vars(cls)[name]))

    @property
    def session(self) -> Session:
        """The session of the run in progress, or of the last one.

        Raises:
            RuntimeError: Before the first fit.
        """
        if self._session is None:
            raise RuntimeError(f"{type(self).__name__} has no session yet: it starts with trainer.fit")
        return self._session

    @property
    def report(self) -> Report:
        """What was found so far in this fit, or in the last one; empty before the first."""
        if self._session is None:
            return self._past or Report()
        return self._session.report

    @property
    def settings(self) -> Settings:
        """Settings for a session that this callback opens."""
        return Settings.resolve()

    @classmethod
    def rules(cls) -> tuple[Rule, ...]:
        """The rules that need no other evidence than this callback produces."""
        return registry.fed_by((*cls.produces, *_ALWAYS))

    def unavailable(self, kind: type[Evidence], reason: str, trainer: Trainer) -> None:
        """Records that a kind of evidence cannot be had, so that its rules are skipped with the reason."""
        self.session.observe(Unavailable(evidence=kind.__name__, reason=reason, at=moment(trainer)))

    @contextlib.contextmanager
    def attempt(self, what: str, trainer: Trainer) -> Iterator[None]:
        """Guards a part of a hook: an exception inside becomes LD001 and the rest of the hook goes on."""
        with self.session.guarded(f"{type(self).__name__}: {what}", moment(trainer)):
            yield

    def rest(self, *names: str) -> None:
        """Says which hooks have nothing to do until others are named; the Debugger does not call them meanwhile.

        A callback that is in the Trainer by itself is called all the same, so that such a call must do no harm.
        """
        if self._resting != frozenset(names):
            self._resting = frozenset(names)
            self.session.roster += 1

    def is_called(self, name: str) -> bool:
        """Whether a hook has anything to do: it neither rests nor has it failed too often."""
        return name not in self._resting and not self.has_given_up(name)

    def has_given_up(self, name: str) -> bool:
        """Whether a hook has failed so often that it is switched off."""
        return self._failures.get(name, 0) >= GIVE_UP_AFTER

    def failed(self, name: str, error: Exception, trainer: Trainer) -> None:
        """Makes LD001 of what a hook of ours raised, unless it was meant to go through."""
        if isinstance(error, FaultFound) or self.session.settings.strict:
            raise error
        self._failures[name] = self._failures.get(name, 0) + 1
        self.session.roster += 1
        where, given_up = f"{type(self).__name__}.{name}", self.has_given_up(name)
        self.session.failed(where, error, moment(trainer), given_up=given_up)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Joins the session (see the class)."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Records the run's context (see the class)."""

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Closes the session (see the class)."""

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Closes the session (see the class)."""

    def _open(self, trainer: Trainer, stage: str) -> None:
        note_thread(trainer)
        session = _SESSIONS.get(trainer)
        if session is None or (stage == "fit" and session.status != "running"):
            ours = [item for item in callbacks_of(trainer) if isinstance(item, DebugCallback)]
            leader = next((item for item in ours if item.leads and item.enabled), self)
            session = _SESSIONS[trainer] = Session(leader.settings)
            if not trainer.barebones:
                with session.guarded("where to report", moment(trainer)):  # a logger that cannot say where it writes
                    session.sinks = _sinks(session.settings, trainer)  # a collective: once a session, on every rank
            if trainer.world_size > 1:
                _MEETINGS[session] = RankFindings(trainer)
        self.join(session)

    def join(self, session: Session, *, hosted: bool = False) -> None:
        """Takes part in a session.

        Args:
            session: Where evidence goes from now on.
            hosted: Whether another callback opens, judges and closes that session.
        """
        self._session, self._hosted = session, hosted
        self._failures: dict[str, int] = {}
        self._resting = frozenset()
        session.kinds.update(self.produces, _ALWAYS)
        session.add_rules(registry.fed_by(session.kinds))  # a rule may need what two callbacks produce

    def takes_part(self, session: Session) -> bool:
        """Whether this callback's evidence goes to that session."""
        return self._session is session

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        state["_past"] = self.report
        for name in ("_session", *_LENT):  # sinks hold files and writers
            state.pop(name, None)
        return state


def _sinks(settings: Settings, trainer: Trainer) -> list[Any]:
    from lightning_debug import _tally, reports  # only a run that reports pays for it

    folder = settings.report_dir or os.path.join(report_folder(trainer), "lightning_debug")
    if trainer.global_rank != 0:
        return []
    write = settings.report_dir is not None or not is_fast_dev_run(trainer)
    reason = reports.refusal(folder) if write else ""
    if reason:
        root = os.path.join(str(trainer.default_root_dir), "lightning_debug")  # the logger's folder is a collective
        other = None if folder == root or reports.refusal(root) else root
        instead = f"the report is written to {other!r}" if other else "no report is written"
        warnings.warn(f"lightning_debug: report_dir={folder!r} cannot be used: {reason}; {instead}", stacklevel=2)
        folder, write = other or folder, other is not None
    return [*reports.sinks(settings, folder if write else None, summary_writers(trainer)), *_tally.sinks()]


def _status(exception: BaseException) -> str:
    if isinstance(exception, KeyboardInterrupt):
        return "interrupted"
    return f"failed: {summary(exception)}"


def _conclude(callback: DebugCallback, trainer: Trainer, session: Session, argument: Any) -> None:
    sharing = [item for item in callbacks_of(trainer) if isinstance(item, DebugCallback) and item.takes_part(session)]
    if sharing and sharing[-1] is not callback:
        return  # the last one closes the session, when all have said what they know
    status = _status(argument) if isinstance(argument, BaseException) else "finished"
    meeting = _MEETINGS.get(session)
    if meeting is None:
        session.close(status)
    else:
        meeting.close(session, status, trainer)
    if "lightning_debug.experiments._snapshot" in sys.modules:
        sys.modules["lightning_debug.experiments._snapshot"].forget_classes()
    for item in (callback, *sharing):
        for lent in _LENT:
            vars(item).pop(lent, None)


def guard_hook(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a hook: session around it, exceptions of ours into findings, judgement after it."""
    opens, starts, closes = name == "setup", name == "on_train_start", name in ("teardown", "on_exception")

    @functools.wraps(function)
    def hook(self: DebugCallback, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> Any:
        if opens and not self._hosted:
            stage = kwargs.get("stage", args[0] if args else "fit")
            self._open(trainer, str(getattr(stage, "value", stage)))
        session = self._session
        if session is None or (self._failures and self.has_given_up(name)):
            return None
        result = None
        try:
            if starts and not session.record.seen(RunContext):
                with session.guarded("RunContext", moment(trainer)):
                    session.observe(run_context(trainer, pl_module))
            result = function(self, trainer, pl_module, *args, **kwargs)
        except Exception as error:
            self.failed(name, error, trainer)
        if not self._hosted:
            if closes:
                with session.guarded("closing the session", moment(trainer)):
                    _conclude(self, trainer, session, kwargs.get("exception", args[0] if args else None))
            elif session.is_stale:
                session.judge()
        return result

    hook.unguarded = function  # type: ignore[attr-defined]
    return hook


for _name in GUARDED:
    setattr(DebugCallback, _name, guard_hook(_name, vars(DebugCallback)[_name]))
