"""Debugger: every part as one callback. The only module that knows several callbacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any

from lightning_debug import registry
from lightning_debug.callbacks import _arguments
from lightning_debug.callbacks._base import GUARDED, DebugCallback, guard_hook
from lightning_debug.callbacks._lightning import HOOKS, LightningModule, Trainer, callbacks_of
from lightning_debug.callbacks.activation_monitor import ActivationMonitor
from lightning_debug.callbacks.curve_diagnoser import CurveDiagnoser
from lightning_debug.callbacks.data_auditor import DataAuditor
from lightning_debug.callbacks.error_explainer import ErrorExplainer
from lightning_debug.callbacks.gradient_monitor import GradientMonitor
from lightning_debug.callbacks.loss_inspector import LossInspector
from lightning_debug.callbacks.lr_range_finder import LRRangeFinder
from lightning_debug.callbacks.metric_auditor import MetricAuditor
from lightning_debug.callbacks.mode_checker import ModeChecker
from lightning_debug.callbacks.model_inspector import ModelInspector
from lightning_debug.callbacks.non_finite_guard import NonFiniteGuard
from lightning_debug.callbacks.optimizer_inspector import OptimizerInspector
from lightning_debug.callbacks.overfit_batch_check import OverfitBatchCheck
from lightning_debug.callbacks.rank_monitor import RankMonitor
from lightning_debug.callbacks.shape_trace import ShapeTrace
from lightning_debug.registry import Selection
from lightning_debug.session import Session
from lightning_debug.settings import FailOn, Settings

PARTS: tuple[type[DebugCallback], ...] = (
    ModeChecker,
    NonFiniteGuard,
    GradientMonitor,
    LossInspector,
    DataAuditor,
    ModelInspector,
    ActivationMonitor,
    MetricAuditor,
    ErrorExplainer,
    LRRangeFinder,
    OptimizerInspector,
    OverfitBatchCheck,
    CurveDiagnoser,
    RankMonitor,
)
"""The parts, in the order in which their hooks run."""


class Debugger(DebugCallback):
    """Finds the classic bugs of deep learning while a Trainer fits, and leaves the run as it is.

    Add it to any Trainer: ``Trainer(callbacks=[Debugger()])``. Arguments that are left out come from the
    environment (``LIGHTNING_DEBUG_SELECT`` …), from ``[tool.lightning_debug]`` in ``pyproject.toml``, or
    from the defaults, in that order.

    A part that is in the Trainer's callbacks by itself (``NonFiniteGuard(action="skip")``) replaces the
    one in here. Of two Debuggers in one Trainer the second stays silent.

    Args:
        select: Codes (``LD201``), beginnings of codes (``LD2``) or names to judge: a list, or by commas. Default: all.
        ignore: Likewise, to leave out; wins over ``select``.
        thresholds: Thresholds by rule: ``{"LD210": {"factor": 4.0}}``. A rule's page names them.
        fail_on: Stop the fit with ``FaultFound`` at the first finding at least this grave. Default: ``never``.
        report_dir: Folder for ``report.html`` and ``report.json``. Default: ``lightning_debug`` in the
            logger's folder.
        console: Print findings. Default: true.
        tensorboard: Write findings and curves to the Trainer's TensorBoard loggers. Default: true.
        strict: Let exceptions of this tool through, instead of reporting them. For its own tests.
        experiment_seconds: How many seconds the experiments (learning rates, overfitting two examples) may take
            in all, 0 for none; they also keep to a tenth of the training that is planned. Default: 30.
        enabled: Whether to do anything at all. Default: true.
        shapes: Show the table of shapes of a training step (``ShapeTrace``). Default: false.

    Raises:
        SettingsError: If an argument is not accepted.
        UnknownRule: If a code or name is not known.
    """

    leads = True
    produces = tuple(dict.fromkeys(kind for part in PARTS for kind in part.produces))

    def __init__(
        self,
        select: list[str] | str | None = None,
        ignore: list[str] | str | None = None,
        thresholds: dict[str, dict[str, float]] | None = None,
        fail_on: FailOn | None = None,
        report_dir: str | None = None,
        console: bool | None = None,
        tensorboard: bool | None = None,
        strict: bool | None = None,
        experiment_seconds: float | None = None,
        enabled: bool = True,
        shapes: bool = False,
    ) -> None:
        _arguments.flags(enabled=enabled, shapes=shapes)
        self.enabled = enabled
        self._settings = Settings.resolve(
            select=select,
            ignore=ignore,
            thresholds=thresholds,
            fail_on=fail_on,
            report_dir=report_dir,
            console=console,
            tensorboard=tensorboard,
            strict=strict,
            experiment_seconds=experiment_seconds,
        )
        self._parts = [part() for part in PARTS if _is_wanted(part, self._settings.selection)]
        self._parts += [ShapeTrace()] if shapes else []
        self._active: list[DebugCallback] = []
        self._by_hook: dict[str, list[tuple[DebugCallback, Callable[..., Any]]]] = {}
        self._calls = self._by_hook
        self._roster = 0

    @property
    def settings(self) -> Settings:
        """The merged settings."""
        return self._settings

    @property
    def parts(self) -> tuple[DebugCallback, ...]:
        """The parts that the selection needs, in the order in which their hooks run."""
        return tuple(self._parts)

    def _open(self, trainer: Trainer, stage: str) -> None:
        rivals = [item for item in callbacks_of(trainer) if isinstance(item, Debugger) and item.enabled]
        if not self.enabled or trainer.barebones or (rivals and rivals[0] is not self):
            self._session, self._active, self._by_hook = None, [], {}
            return
        super()._open(trainer, stage)
        present = {type(item) for item in callbacks_of(trainer)}
        self._active = [part for part in self._parts if type(part) not in present]
        for part in self._active:
            part.join(self.session, hosted=True)
        base: Mapping[str, Any] = vars(DebugCallback)
        self._by_hook = {
            name: [
                (part, _unguarded(part, name))
                for part in self._active
                if getattr(type(part), name) not in (base.get(name), _lightning(name))
            ]
            for name in HOOKS
        }
        self._arrange()

    def _arrange(self) -> None:
        """Leaves out the hooks that have nothing to do: most steps would call a dozen of them for nothing."""
        self._roster = self.session.roster
        self._calls = {
            name: [(part, call) for part, call in calls if part.is_called(name)]
            for name, calls in self._by_hook.items()
        }

    def join(self, session: Session, *, hosted: bool = False) -> None:
        """Takes part in a session, and has its settings and all its parts' rules apply there."""
        session.settings = self._settings
        super().join(session, hosted=hosted)


def _is_wanted(part: type[DebugCallback], selection: Selection) -> bool:
    """Whether a selected rule needs what the part produces; one that no rule needs runs where all are selected."""
    users = [one for one in registry.all_rules() if not set(part.produces).isdisjoint(one.needs)]
    return any(selection.has(one) for one in users) if users else not selection.select


def _lightning(name: str) -> Any:
    return getattr(DebugCallback.__mro__[1], name)


def _unguarded(part: DebugCallback, name: str) -> Callable[..., Any]:
    """A part's hook without the guard, which the one below stands for: forty hooks a step make that dear."""
    hook: Callable[..., Any] = getattr(part, name)
    function = getattr(hook, "unguarded", None) if name not in vars(part) else None
    return hook if function is None else MethodType(function, part)


def _fan_out(name: str) -> Callable[..., None]:
    judges = name not in GUARDED  # there the guard does, or closes

    def hook(self: Debugger, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        session = self._session
        if session is None:
            return
        if session.roster != self._roster:
            self._arrange()
        for part, call in self._calls.get(name, ()):
            try:
                call(trainer, pl_module, *args, **kwargs)
            except Exception as error:
                part.failed(name, error, trainer)
        if judges and session.is_stale:
            session.judge()

    hook.__name__ = name
    hook.__qualname__ = f"Debugger.{name}"
    hook.__doc__ = f"Runs every part's ``{name}``."
    return hook


for _name in HOOKS:  # the plain ones do without the guard: six of them are called in every step
    setattr(Debugger, _name, guard_hook(_name, _fan_out(_name)) if _name in GUARDED else _fan_out(_name))
