"""Reports and records made by hand: the reports are tested without any rule of the package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lightning_debug.evidence import Evidence, Moment, RunContext
from lightning_debug.finding import ERROR, INFO, WARNING, Finding, Report, Severity, Skip
from lightning_debug.record import Record


@dataclass(frozen=True, kw_only=True)
class ExampleCurve(Evidence):
    """Values to draw.

    Args:
        values: Value by tag.
    """

    values: Mapping[str, float]

    def scalars(self) -> Mapping[str, float]:
        return self.values


CONTEXT = RunContext(
    model="train.Classifier",
    parameters=12810,
    strategy="SingleDeviceStrategy",
    precision="32-true",
    optimizers=("Adam",),
    has_validation=True,
    max_epochs=5,
    planned_steps=115,
    versions={"python": "3.11.7", "torch": "2.13.0", "pytorch-lightning": "2.6.6"},
)


def finding(
    code: str,
    name: str,
    severity: Severity,
    message: str,
    subject: str,
    measured: Mapping[str, object] | None = None,
    fix: str = "",
    at: Moment | None = None,
    explained_by: str | None = None,
) -> Finding:
    """A finding with defaults."""
    return Finding(code, name, severity, message, subject, measured or {}, fix, at or Moment(), explained_by)


SOFTMAX = finding(
    "LD201",
    "softmax-before-cross-entropy",
    ERROR,
    "Softmax output reaches `cross_entropy`, which applies log-softmax itself: rows of [64, 10] sum to 1.000.",
    "train.py:31",
    {"row_sum": 1.0, "spread": 1.2e-7, "shape": (64, 10)},
    "Return the logits: take `softmax` out of `forward` (train.py:31).",
)
SLOW = finding(
    "LD602",
    "learning-rate-too-low",
    WARNING,
    "The loss falls by 0.0021 per step, in a line.",
    "Adam",
    {"slope": -0.0021},
    "Raise the learning rate tenfold.",
    Moment(epoch=1, step=40),
    "LD201",
)
NAN = finding(
    "LD302",
    "nonfinite-loss",
    ERROR,
    "The loss is NaN: log of 0 in net.head <Sequential>.",
    "net.head",
    {"loss": float("nan"), "trace": "line one\nline two", "fields": {"x": (1, 2), "y": None}},
    "Use log_softmax instead of log(softmax(x)).",
    Moment(epoch=3, step=80),
)


def _left_in_eval(layer: int) -> Finding:
    return finding(
        "LD401",
        "eval-mode-in-training",
        ERROR,
        f"Dropout of encoder.layer.{layer} is in eval mode in training_step.",
        f"encoder.layer.{layer}",
        {"modules": 12},
        "Call self.encoder.train() in on_train_start.",
    )


CLIPPED = finding(
    "LD310",
    "clipping-always-active",
    INFO,
    "Clipping is active on 64 of 64 steps.",
    "gradient_clip_val",
    {"share": 1.0},
    at=Moment(epoch=2, step=64),
)
SKIPS = (
    Skip("the model is compiled", "LD404", "dropout-ignores-mode", hindrance=True),
    Skip("no LossGraph was recorded", "LD204", "wrong-input-to-nll-loss"),
    Skip("the model is compiled", "LD409", "samples-mix", hindrance=True),
    Skip("no ModeSnapshot was recorded", "LD205", "softmax-on-single-unit"),
)
FULL = Report((SOFTMAX, SLOW, NAN, *map(_left_in_eval, range(5)), CLIPPED), SKIPS, CONTEXT, "finished")
HEALTHY = Report((), SKIPS, CONTEXT, "finished")
NOTED = Report((CLIPPED,), SKIPS, CONTEXT, "finished")
FAILED = Report((NAN,), (), None, "failed: ValueError: bad value \x1b[31m")
REPORTS = {"full": FULL, "healthy": HEALTHY, "noted": NOTED, "failed": FAILED}


def record(steps: int = 600) -> Record:
    """Curves of a run that lasted longer than a record keeps."""
    kept = Record([CONTEXT])
    for step in range(steps):
        values = {"loss/train": 2.0 / (1 + step / 50), "gradient_norm": 10.0 * 0.98**step}
        if step % 40 == 39:
            values["loss/validation"] = 2.2 / (1 + step / 60)
        if step == 20:
            values["loss/train"] = float("nan")
        kept.add(ExampleCurve(values=values, at=Moment(epoch=step // 100, step=step)))
    return kept
