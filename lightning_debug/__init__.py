"""lightning_debug: a debugger for training runs with PyTorch Lightning. ``Trainer(callbacks=[Debugger()])``."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_debug.callbacks._base import DebugCallback
    from lightning_debug.callbacks.activation_monitor import ActivationMonitor
    from lightning_debug.callbacks.curve_diagnoser import CurveDiagnoser
    from lightning_debug.callbacks.data_auditor import DataAuditor
    from lightning_debug.callbacks.early_stopping_selector import EarlyStoppingSelector
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
    from lightning_debug.debugger import Debugger
    from lightning_debug.finding import FaultFound, Finding, Report, Severity, Skip

__version__ = "0.1.0"

_HOME = {
    "ActivationMonitor": "callbacks.activation_monitor",
    "CurveDiagnoser": "callbacks.curve_diagnoser",
    "DataAuditor": "callbacks.data_auditor",
    "DebugCallback": "callbacks._base",
    "Debugger": "debugger",
    "EarlyStoppingSelector": "callbacks.early_stopping_selector",
    "ErrorExplainer": "callbacks.error_explainer",
    "FaultFound": "finding",
    "Finding": "finding",
    "GradientMonitor": "callbacks.gradient_monitor",
    "LRRangeFinder": "callbacks.lr_range_finder",
    "LossInspector": "callbacks.loss_inspector",
    "MetricAuditor": "callbacks.metric_auditor",
    "ModeChecker": "callbacks.mode_checker",
    "ModelInspector": "callbacks.model_inspector",
    "NonFiniteGuard": "callbacks.non_finite_guard",
    "OptimizerInspector": "callbacks.optimizer_inspector",
    "OverfitBatchCheck": "callbacks.overfit_batch_check",
    "RankMonitor": "callbacks.rank_monitor",
    "Report": "finding",
    "Severity": "finding",
    "ShapeTrace": "callbacks.shape_trace",
    "Skip": "finding",
}

__all__ = [
    "ActivationMonitor",
    "CurveDiagnoser",
    "DataAuditor",
    "DebugCallback",
    "Debugger",
    "EarlyStoppingSelector",
    "ErrorExplainer",
    "FaultFound",
    "Finding",
    "GradientMonitor",
    "LRRangeFinder",
    "LossInspector",
    "MetricAuditor",
    "ModeChecker",
    "ModelInspector",
    "NonFiniteGuard",
    "OptimizerInspector",
    "OverfitBatchCheck",
    "RankMonitor",
    "Report",
    "Severity",
    "ShapeTrace",
    "Skip",
]


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used: the attach point must cost nothing while it is off."""
    if name in _HOME:
        value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
