"""What the rules about losses share: walking the calls that reach the loss, and reading their operands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lightning_debug.evidence.loss import QUANTILES, LossCall, LossGraph, Operand, Operation
from lightning_debug.finding import Skip
from lightning_debug.record import Record

SOFTMAX = frozenset({"softmax", "softmin", "gumbel_softmax"})
SIGMOID = frozenset({"sigmoid", "hardsigmoid"})
RECTIFIERS = frozenset({"relu", "relu6", "hardtanh", "clamp", "clamp_min", "threshold"})
DROPOUT = frozenset({"dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"})
WITH_CLASSES = frozenset({"cross_entropy", "nll_loss", "ctc_loss", "selection", "log_softmax", "argmax"})
REGRESSION = frozenset({"mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "difference"})
LOGARITHMS = frozenset(
    {"log", "log1p", "log2", "log10", "logsumexp", "logaddexp", "log_softmax", "log_sigmoid", "xlogy"}
)

_TINY = 0.01
"""An epsilon that is added or clamped to is no larger."""
_HALF = frozenset({"float16", "bfloat16"})


def training_calls(record: Record, *functions: str) -> Iterator[tuple[LossGraph, LossCall]]:
    """The calls that the training loss depends on, oldest first; of the functions named, or all."""
    for graph in record.of(LossGraph):
        if graph.step == "training_step":
            for call in graph.reaching:
                if not functions or call.function in functions:
                    yield graph, call


def nothing_seen(record: Record) -> Iterator[Skip]:
    """The reason why losses cannot be judged, if there is one."""
    if not any(training_calls(record)):
        yield Skip("no step that was watched compares predictions with targets in a way that is known here")


def place(call: LossCall, made: Operation | None = None) -> str:
    """What the user would change: line and module path of ``made``, or of the call itself."""
    line, module = (made.line, made.module) if made is not None else (call.line, call.module)
    return f"{line} ({module})" if line and module else line or module or call.function


def tolerance_of(operand: Operand, tolerance: float) -> float:
    """``tolerance``, or what half precision allows if that is more."""
    return max(tolerance, 0.02) if operand.dtype in _HALF else tolerance


def activation(origin: Sequence[Operation]) -> Operation | None:
    """The call that gave an operand its range: the nearest that is no dropout, no epsilon and no safety clamp."""
    for operation in origin:
        if not _is_small_edit(operation):
            return operation
    return None


def before(origin: Sequence[Operation], operation: Operation) -> Operation | None:
    """The activation of what ``operation`` was given."""
    return activation(tuple(origin)[tuple(origin).index(operation) + 1 :])


def _is_small_edit(operation: Operation) -> bool:
    if operation.merges or operation.layer:
        return False
    if operation.name in ("clamp", "clamp_min", "clamp_max"):
        low, high = operation.lowest, operation.highest
        return (low is None or abs(low) <= _TINY) and (high is None or high >= 1 - _TINY)
    if operation.name in ("add", "sub"):
        return operation.amount is not None and abs(operation.amount) <= _TINY
    return operation.name in DROPOUT or operation.name == "nan_to_num"


def probabilities(origin: Sequence[Operation]) -> tuple[Operation | None, bool]:
    """The softmax that made an operand, and whether the operand is its logarithm."""
    made = activation(origin)
    if made is None or made.merges or made.layer:
        return None, False
    if made.name == "log_softmax":
        return made, True
    if made.name == "log":
        inner = before(origin, made)
        return (inner, True) if inner is not None and inner.name in SOFTMAX else (None, False)
    return (made, False) if made.name in SOFTMAX else (None, False)


def class_dimension(call: LossCall) -> int | None:
    """The dimension of the classes, by the function or by where the targets are distributions."""
    if call.function in WITH_CLASSES:
        return call.scores.dim
    target = call.target
    if target is None or target.shape != call.scores.shape:
        return None
    found = [dim for dim, error in enumerate(target.sum_errors) if error is not None and error <= 1e-3]
    return found[0] if len(found) == 1 else None


def sums_to_one(operand: Operand, dim: int | None, tolerance: float, *, logs: bool = False) -> bool:
    """Whether every sampled row along ``dim`` is a distribution (or the logarithm of one)."""
    errors = operand.log_sum_errors if logs else operand.sum_errors
    if dim is None or dim >= len(errors):
        return False
    error = errors[dim]
    return error is not None and error <= tolerance_of(operand, tolerance)


@dataclass(frozen=True)
class Misplaced:
    """A softmax over another dimension than that of the classes.

    Args:
        made: The softmax, if it is known.
        logs: Whether its logarithm was taken.
        classes: The dimension of the classes of the operand.
        other: The dimension of the operand that sums to 1 instead; ``None`` where a reshape hides it.
    """

    made: Operation | None
    logs: bool
    classes: int
    other: int | None


ADDED = 0.02
"""What an epsilon that is added to each of many probabilities (``log(p + 1e-5)``) adds to their sum."""


def misplaced(call: LossCall, tolerance: float) -> Misplaced | None:
    """The softmax over the wrong dimension that made the scores of a call, proven by their values."""
    scores, classes = call.scores, class_dimension(call)
    if classes is None or classes >= len(scores.shape) or scores.shape[classes] < 2 or not scores.rows:
        return None
    made, logs = probabilities(call.origin)
    errors, limit = (scores.log_sum_errors if logs else scores.sum_errors), tolerance_of(scores, tolerance)
    error = errors[classes]
    if error is None or not error > 2.5 * limit:  # nor where it is NaN
        return None
    if made is None and not _is_telling(scores):
        return None
    near = max(min(limit, error / 3), min(ADDED, error / 200))
    for other, rival in enumerate(errors):
        if other != classes and rival is not None and rival <= near:
            return Misplaced(made, logs, classes, other)
    if made is None or error <= 10 * limit or made is not _nearest(call.origin, logs):
        return None
    if _count(made.shape) < _count(scores.shape):
        return None
    excess = scores.log_sum_highest if logs else (scores.row_sum_highest or 0.0) - 1
    all_there = _count(made.shape) == _count(scores.shape)  # else classes may have been left out on purpose
    if all_there or (excess is not None and excess > 10 * limit):
        return Misplaced(made, logs, classes, None)
    return None


def _nearest(origin: Sequence[Operation], logs: bool) -> Operation | None:
    """The softmax, if nothing but its logarithm stands between it and the operand."""
    rest = origin[1:] if logs and origin and origin[0].name == "log" else origin
    return rest[0] if rest else None


def _is_telling(operand: Operand) -> bool:
    """Whether sums of an operand prove something by themselves: enough rows that are not all alike."""
    return operand.from_model and operand.count >= 12 and (operand.distinct is None or operand.distinct > 2)


def is_distribution_by_value(operand: Operand, dim: int | None, tolerance: float) -> bool:
    """Whether rows along ``dim`` are distributions beyond coincidence, whatever made them."""
    if (operand.minimum or 0.0) < 0 or operand.rows < 4 or (operand.row_spread or 0.0) <= 1e-5:
        return False
    return sums_to_one(operand, dim, tolerance) and _is_telling(operand)


def _count(shape: Sequence[int]) -> int:
    result = 1
    for size in shape:
        result *= size
    return result


def share_below(operand: Operand, bound: float) -> float:
    """The share of values below ``bound``, to the resolution of the quantiles (never overstated)."""
    pairs = zip(QUANTILES, operand.quantiles, strict=False)
    return max((level for level, value in pairs if value < bound), default=0.0)


def share_above(operand: Operand, bound: float) -> float:
    """The share of values above ``bound``, likewise."""
    pairs = zip(QUANTILES, operand.quantiles, strict=False)
    return max((1 - level for level, value in pairs if value > bound), default=0.0)


def may_be_masked(call: LossCall, bound: float) -> bool:
    """Whether the targets below ``bound`` may be marks for missing values, which a mask removes afterwards."""
    if call.target is None or call.reduction not in ("none", ""):
        return False
    below = {value for value in call.target.quantiles if value < bound}
    return below == {call.target.minimum}


def describe_values(operand: Operand) -> str:
    """The range of an operand in words."""
    if operand.minimum is None or operand.maximum is None:
        return "values that were not read"
    return f"values from {operand.minimum:.3g} to {operand.maximum:.3g}"


def softmax_layer(made: Operation | None, what: str = "softmax") -> str:
    """How to call the softmax in a sentence: its module if it is one of its own, else its line."""
    if made is None:
        return f"the {what}"
    if made.module_type in ("Softmax", "LogSoftmax", "Softmax2d", "Softmin", "Sigmoid", "ReLU", "ReLU6", "Tanh"):
        return f"nn.{made.module_type} ({made.module})"
    return f"the {made.name} at {made.line}"
