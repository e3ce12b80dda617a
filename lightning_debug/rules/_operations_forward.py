"""Why an operation made NaN or Inf of finite operands, and the edit that cures it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from lightning_debug.evidence.numbers import Operand, Origin
from lightning_debug.rules._explanation import Explanation, counted, first, number, span

LARGEST = {"float16": 65504.0, "bfloat16": 3.39e38, "float32": 3.4028e38, "float64": 1.7977e308}
EXPONENT = {"float16": 11.09, "bfloat16": 88.72, "float32": 88.72, "float64": 709.78}


def logarithm(origin: Origin) -> Iterator[Explanation]:
    """Logarithms of what has none."""
    x = first(origin)
    if origin.operation not in ("log", "log2", "log10", "log1p", "xlogy", "logit") or not x.numel:
        return
    edge = -1.0 if origin.operation == "log1p" else 0.0
    if origin.operation == "logit":
        what = f"logit is infinite at 0 and 1, and gets {span(x)}"
        yield Explanation("logit-at-edge", what, "give it eps: torch.logit(p, eps=1e-6), or keep the logits themselves")
    elif x.minimum is not None and x.minimum < edge:
        what = f"{origin.operation} gets {counted(x.negatives, 'below 0')}, among {span(x)}"
        yield Explanation("log-of-negative", what, _negative_fix(origin, edge))
    elif x.zeros or edge:
        what = f"{origin.operation} gets {counted(x.zeros or 1, f'equal to {number(edge)}')}, among {span(x)}"
        yield Explanation("log-of-zero", what, _log_fix(x))
    elif origin.kind == "backward" and x.smallest is not None and x.smallest < 16 / LARGEST.get(x.dtype, 3.4e38):
        what = f"the derivative of {origin.operation}, 1 / x, overflows: it gets {number(x.smallest)}, among {span(x)}"
        yield Explanation("log-of-tiny", what, _log_fix(x))


ROUNDING = 1e-3
"""What is below 0 by no more than this share of the largest value is rounding."""


def _negative_fix(origin: Origin, edge: float = 0.0) -> str:
    """What a layer gives takes either sign: a clamp would pass it no gradient wherever it is too small."""
    x, name = first(origin), origin.operation
    least, most = x.minimum or 0.0, x.maximum or 0.0
    clamp = f"x.clamp(min={'-1 + 1e-6' if edge else '1e-8'})"
    if x.kind or edge - least <= ROUNDING * max(most, -edge):
        return (
            f"clamp before it: {clamp}.{name}(...)"
            if name.endswith("pow")
            else f"clamp before it: torch.{name}({clamp})"
        )
    positive = "F.softplus(x)" if edge else "F.softplus(x) + 1e-8"
    if x.source.startswith(("linear", "conv")):
        other = ", or take it for the logarithm" if name == "log" else ""
        return f"make what the layer gives positive: torch.{name}({positive}){other}"
    return f"make what goes into {name} positive where a layer gives it, {positive}: {clamp} would pass it no gradient"


def _log_fix(x: Operand) -> str:
    if x.source.startswith("softmax"):
        return "take F.log_softmax(logits, dim) in place of log(softmax(logits)), or log(x + 1e-8)"
    if x.source.startswith("sigmoid"):
        return "take F.logsigmoid(logits) in place of log(sigmoid(logits)), or log(x + 1e-8)"
    return "add a small number: torch.log(x + 1e-8), or clamp: torch.log(x.clamp(min=1e-8))"


def _exponential(origin: Origin) -> Iterator[Explanation]:
    x = first(origin)
    if origin.operation not in ("exp", "exp2", "expm1", "sinh", "cosh", "logaddexp") or x.maximum is None:
        return
    dtype = origin.output.dtype if origin.output is not None else x.dtype
    limit = EXPONENT.get(dtype, 88.72) / (math.log(2) if origin.operation == "exp2" else 1.0)
    what = f"{origin.operation} overflows {dtype} above {number(limit)}, and gets up to {number(x.maximum)}"
    fix = (
        "take torch.softmax where exp is divided by its own sum, torch.logsumexp, F.log_softmax or F.softplus where a "
        "logarithm follows; or clamp: torch.exp(x.clamp(max=20))"
    )
    yield Explanation("exp-overflow", f"{what} ({span(x)})", fix)


def _poisson(origin: Origin) -> Iterator[Explanation]:
    """A rate that overflows where its logarithm is given, or has no logarithm where it is given itself."""
    x = first(origin)
    if origin.operation != "poisson_nll_loss" or x.maximum is None or x.minimum is None:
        return
    limit = EXPONENT.get(x.dtype, 88.72)
    if x.maximum > limit:
        what = f"exp of poisson_nll_loss overflows {x.dtype} above {number(limit)}, and gets up to {number(x.maximum)}"
        fix = "normalise what the net is given, or clamp its logarithm of the rate: x.clamp(max=20)"
        yield Explanation("exp-overflow", f"{what} ({span(x)})", fix)
    elif x.minimum < 0:
        what = f"poisson_nll_loss with log_input=False gets {counted(x.negatives, 'below 0')}, among {span(x)}"
        yield Explanation("log-of-negative", what, "make the rate positive: F.softplus(x), or leave log_input=True")
    elif x.zeros:
        what = f"the log of poisson_nll_loss gets {counted(x.zeros, 'equal to 0')}, among {span(x)}"
        fix = "leave its eps at 1e-8, and make the rate positive: F.softplus(x), which ReLU does not"
        yield Explanation("log-of-zero", what, fix)


def division(origin: Origin) -> Iterator[Explanation]:
    """Divisors that are 0."""
    operands, name = origin.operands, origin.operation
    if name not in ("div", "rdiv", "reciprocal", "rsqrt", "fmod", "remainder", "addcdiv") or not operands:
        return
    below = operands[0] if name in ("rdiv", "reciprocal", "rsqrt") or len(operands) < 2 else operands[-1]
    constant = origin.numbers.get("1", origin.numbers.get("other"))
    if name == "rsqrt" and below.negatives:
        what = f"rsqrt gets {counted(below.negatives, 'below 0')}, among {span(below)}"
        yield Explanation("sqrt-of-negative", what, _negative_fix(origin))
    elif below.zeros or (len(operands) < 2 and constant == 0.0):
        zeros = below.zeros if constant is None else below.numel
        both = len(operands) > 1 and operands[0].zeros
        title = "0 / 0" if both and origin.output is not None and origin.output.nan else "a division by 0"
        what = f"{title}: the divisor holds {counted(zeros, 'equal to 0')}, among {span(below)}"
        yield Explanation("division-by-zero", what, _divisor_fix(below))
    elif below.smallest is not None and _overflows(origin, below):
        how = "the derivative of a division overflows" if origin.kind == "backward" else "a division overflows"
        what = f"{how}: the divisor is as small as {number(below.smallest)}, among {span(below)}"
        yield Explanation("division-by-tiny", what, _divisor_fix(below))


def _overflows(origin: Origin, small: Operand) -> bool:
    """Whether the smallest divisor explains an infinite quotient, or an infinite derivative of one."""
    made = origin.output or Operand()
    above = origin.operands[0]
    size = 1.0 if above is small else max(abs(above.minimum or 0.0), abs(above.maximum or 0.0))
    least = small.smallest or math.inf
    quotient = size / least if origin.kind == "forward" else (origin.upstream or 1.0) * max(1.0, size / least) / least
    bad = made.positive or made.negative or (origin.kind == "backward" and made.nan)
    return bool(bad) and quotient > 0.5 * LARGEST.get(made.dtype, 3.4e38)


def _divisor_fix(divisor: Operand) -> str:
    made = divisor.source.partition(" ")[0]
    if made in ("std", "var", "sqrt", "std_mean"):
        return "a constant row or column has no spread: divide by (std + 1e-6)"
    if made in ("norm", "linalg_norm", "vector_norm", "linalg_vector_norm"):
        return "a row of zeros has no direction: F.normalize(x, dim, eps=1e-8), or divide by (norm + 1e-8)"
    if made in ("sum", "count_nonzero", "cumsum"):
        return "nothing is left to average over: divide by the count with .clamp(min=1)"
    return "keep the divisor away from 0: x / (y + 1e-8), or y.clamp(min=1e-8)"


def _domain(origin: Origin) -> Iterator[Explanation]:
    x, name = first(origin), origin.operation
    if x.minimum is None or x.maximum is None:
        return
    if name == "sqrt" and x.minimum < 0:
        what = f"sqrt gets {counted(x.negatives, 'below 0')}, among {span(x)}"
        yield Explanation("sqrt-of-negative", what, _negative_fix(origin))
    elif name in ("acos", "asin", "arccos", "arcsin", "atanh", "erfinv") and max(-x.minimum, x.maximum) >= 1:
        fix = f"clamp before it: torch.{name}(x.clamp(-1 + 1e-6, 1 - 1e-6))"
        yield Explanation("outside-domain", f"{name} is defined between -1 and 1, and gets {span(x)}", fix)
    elif name in ("pow", "float_power", "rpow"):
        exponent = origin.numbers.get("1", origin.numbers.get("exponent"))
        told = "" if exponent is None else f" to the power {number(exponent)}"
        if x.negatives and (exponent is None or exponent != int(exponent)):
            fix = _negative_fix(origin)
            what = f"pow takes {counted(x.negatives, 'below 0')}{told}, among {span(x)}"
            yield Explanation("power-of-negative", what, fix)
        elif x.zeros and (exponent is None or exponent < 0):
            what = f"pow takes {counted(x.zeros, 'equal to 0')}{told}, among {span(x)}"
            yield Explanation("division-by-zero", what, "keep the base away from 0: (x + 1e-8) ** p")
    elif name in ("lgamma", "digamma", "mvlgamma", "polygamma") and x.minimum <= 0:
        fix = f"clamp before it: torch.{name}(x.clamp(min=1e-6))"
        yield Explanation("outside-domain", f"{name} needs values above 0, and gets {span(x)}", fix)


def _nothing(origin: Origin) -> Iterator[Explanation]:
    """Statistics of one value or of none, and losses without a label."""
    x, name, numbers = first(origin), origin.operation, origin.numbers
    if name in ("std", "var", "std_mean", "var_mean") and numbers.get("reduced", 2.0) <= 1.0:
        many = number(numbers["reduced"])
        what = f"{name} is taken over {many} value, and divides by one less than that (input {list(x.shape)})"
        fix = f"pass unbiased=False (correction=0), or take the {name} over a dimension with more than one value"
        yield Explanation("std-of-one", what, fix)
    elif numbers.get("kept") == 0.0:
        what = f"all {number(numbers.get('labels'))} labels equal ignore_index, so that {name} averages over nothing"
        fix = "skip such batches (return None), or use reduction='sum' and divide by the count with .clamp(min=1)"
        yield Explanation("no-labels", what, fix)
    elif origin.operands and not x.numel:
        what = f"{name} is taken over an empty selection (shape {list(x.shape)})"
        fix = "guard against an empty selection: sum() / count.clamp(min=1), or skip such batches"
        yield Explanation("mean-of-nothing", what, fix)
    elif name in ("empty", "empty_like", "empty_permuted", "empty_strided", "new_empty"):
        what = f"{name} gives memory that nothing was written to"
        yield Explanation("uninitialised-memory", what, f"take torch.zeros in place of torch.{name}, or fill it")
    elif name in _WRITERS and origin.output is not None and origin.output.nan:
        what = f"{name} is given NaN as a number, and writes it"
        yield Explanation(
            "written", what, "write a number (0.0), and keep what is missing out of the loss by its index"
        )


_WRITERS = frozenset("fill fill_diagonal full full_like masked_fill new_full setitem tensor".split())
"""Calls whose output holds a plain number that they are given."""


def _masks(origin: Origin) -> Iterator[Explanation]:
    name, numbers = origin.operation, origin.numbers
    if numbers.get("masked_rows"):
        rows = int(numbers["masked_rows"])
        what = f"{name} gets {rows} row{'s' if rows > 1 else ''} that the mask hides throughout, and 0 / 0 is NaN there"
        fix = "leave at least one position of every row open, or put masked_fill(hidden_rows, 0.0) after the softmax"
        yield Explanation("fully-masked-row", what, fix)
    elif numbers.get("masked_labels"):
        what = f"the score of {int(numbers['masked_labels'])} labels is -Inf: the mask hides the right answer"
        yield Explanation("label-is-masked", what, "leave the label's class out of the mask, or mask with -1e9")
    elif name == "mul" and _zero_and_infinity(origin):
        zero = next(x for x in origin.operands if x.zeros)
        what = f"0 * Inf is NaN: {counted(zero.zeros, 'equal to 0')} (of {zero.source or 'a factor'}) meet Inf"
        fix = "write the infinite values where they belong: scores.masked_fill(mask, -torch.inf), or multiply by -1e9"
        yield Explanation("zero-times-infinity", what, fix)
    elif origin.masked:
        what = f"{name} meets infinite values that {', '.join(origin.masked)} wrote on purpose"
        yield Explanation("infinite-mask", what, "mask with a large finite value (-1e9), or select instead of masking")
    elif numbers.get("eps") == 0.0:
        what = f"{name} runs with eps=0 and meets a group of equal values: 0 / 0"
        yield Explanation("division-by-zero", what, f"give {name} its eps back (1e-5)")


def _zero_and_infinity(origin: Origin) -> bool:
    infinite = any(x.positive or x.negative for x in origin.operands) or any(map(math.isinf, origin.numbers.values()))
    return infinite and any(x.zeros for x in origin.operands) and (origin.output or Operand()).nan > 0


_MATRIX = frozenset(
    """
    cholesky cholesky_solve det eig eigh eigvalsh inv inverse linalg_cholesky linalg_det linalg_eig linalg_eigh
    linalg_eigvalsh linalg_inv linalg_lstsq linalg_pinv linalg_qr linalg_slogdet linalg_solve linalg_svd logdet lstsq
    pinverse pinv qr slogdet solve solve_triangular svd
    """.split()
)


def singular(origin: Origin) -> Iterator[Explanation]:
    """Matrices that cannot be factored."""
    if origin.operation in _MATRIX:
        matrix = span(first(origin))
        what = f"{origin.operation} meets a matrix that is nearly singular, or has equal eigenvalues: {matrix}"
        yield Explanation("singular-matrix", what, "add a multiple of the identity to it: A + 1e-4 * torch.eye(n)")


def _overflow(origin: Origin) -> Iterator[Explanation]:
    made = origin.output
    if made is None or not (made.positive or made.negative):
        return
    largest = max((abs(v) for x in origin.operands for v in (x.minimum, x.maximum) if v is not None), default=0.0)
    if made.dtype == "float16":
        what = f"{origin.operation} passes float16's largest value, 65504, with operands up to {number(largest)}"
        fix = "train with precision='bf16-mixed', or run this part in float32 (torch.autocast(..., enabled=False))"
        yield Explanation("half-overflow", what, fix)
    elif largest > math.sqrt(LARGEST.get(made.dtype, 3.4e38)) * 1e-6:
        what = f"{origin.operation} overflows {made.dtype} with operands up to {number(largest)}"
        fix = "lower the learning rate or clip the gradients, and normalise the inputs: no feature is that large"
        given = next((x for x in origin.operands if x.kind == "input" and largest in _ends(x)), None)
        if given is not None:
            yield Explanation(
                "large-input", f"{what}, a value of {given.source}", f"normalise {given.source}: {_SCALE}"
            )
        else:
            yield Explanation("overflow", what, fix)


def _ends(x: Operand) -> tuple[float, ...]:
    return tuple(abs(end) for end in (x.minimum, x.maximum) if end is not None)


_SCALE = "(x - mean) / std over the training set, or drop the sample that holds it"


FORWARD: tuple[Callable[[Origin], Iterator[Explanation]], ...] = (
    _nothing,
    _poisson,
    _masks,
    logarithm,
    _exponential,
    division,
    _domain,
    singular,
    _overflow,
)
"""In this order; the first that has something to say is right."""
