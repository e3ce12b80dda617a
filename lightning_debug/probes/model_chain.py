"""Linear layers that feed each other, as one traced forward pass shows them."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from lightning_debug.evidence.model import LayerSignal, LinearChain, LinearPair
from lightning_debug.probes.loss_vocabulary import ARITHMETIC
from lightning_debug.probes.model_trace import ModelTrace, place
from lightning_debug.probes.trace import Op
from lightning_debug.probes.vocabulary import RESHAPES

LINEAR = frozenset({"linear", "conv1d", "conv2d", "conv3d"})
BETWEEN = RESHAPES | {"dropout", "alpha_dropout", "feature_dropout", "dropout1d", "dropout2d", "dropout3d"}
"""Calls that leave a chain of linear layers linear."""
IN_PLACE = (BETWEEN - RESHAPES) | {
    "contiguous",
    "clone",
    "to",
    "type",
    "type_as",
    "float",
    "half",
    "double",
    "bfloat16",
}
"""Those that leave every value where it is."""
TURNS = IN_PLACE | {"H", "T", "mH", "mT", "moveaxis", "movedim", "permute", "swapaxes", "swapdims", "t", "transpose"}
"""Those that leave each dimension's values together."""
EXCHANGE = frozenset(
    {"scaled_dot_product_attention", "matmul", "bmm", "einsum", "baddbmm", "softmax", "chunk", "split", "unbind"}
)
"""What attention does before and after its projections."""
STRAIGHT = LINEAR | BETWEEN | {"add", "mul", "mean", "sum", "avg_pool1d", "avg_pool2d", "adaptive_avg_pool2d", "cat"}


def linear_chain(trace: ModelTrace, root: nn.Module) -> LinearChain:
    """Linear layers without a nonlinearity between them."""
    layers = [op for op in trace.ops if op.name in LINEAR and trace.note(op).layer]
    users: dict[int, list[Op]] = {}
    for op in trace.ops:
        for source in {item.index: item for item in op.inputs if item is not None}.values():
            users.setdefault(source.index, []).append(op)
    modules = dict(root.named_modules())
    pairs = []
    for second in layers:
        first = trace.origin(second.inputs[0] if second.inputs else None, BETWEEN)
        if first is None or first.index == second.index or first not in layers:
            continue
        pairs.append(_pair(first, second, users, modules, trace))
    seen: dict[tuple[str, str, str, str], LinearPair] = {}
    for pair in pairs:
        key = (pair.first.module, pair.second.module, pair.first.line, pair.second.line)
        seen.setdefault(key, pair)
    return LinearChain(layers=len(layers), nonlinear=_is_nonlinear(trace, layers), pairs=tuple(seen.values()))


def _pair(
    first: Op, second: Op, users: dict[int, list[Op]], modules: dict[str, nn.Module], trace: ModelTrace
) -> LinearPair:
    one, two = modules.get(first.module), modules.get(second.module)
    own = isinstance(one, _KINDS) and isinstance(two, _KINDS)
    parents = {item.module.rpartition(".")[0] if own else item.module for item in (first, second)}
    consumers = list(_through(first, users))
    after = {op.name for op in _through(second, users)}
    before = trace.origin(first.inputs[0] if first.inputs else None, RESHAPES)
    weights = [vars(item).get("_parameters", {}).get("weight") if item is not None else None for item in (one, two)]
    return LinearPair(
        first=place(first),
        second=place(second),
        widths=(_features(first, 0, one), _features(first, 1, one), _features(second, 1, two)),
        siblings=len(parents) == 1 and not _gives_coefficients(one),
        shared=len([op for op in consumers if op.index != second.index]) > 0,
        grouped=any(getattr(item, "groups", 1) > 1 or _is_flat(item) for item in (one, two))
        or _is_split(one, two)
        or _is_across(first, second, trace),
        attention=bool(after & EXCHANGE) or (before is not None and before.name in EXCHANGE),
        tied=weights[0] is not None and weights[0] is weights[1],
    )


def _is_flat(module: nn.Module | None) -> bool:
    """Whether a convolution works along one of several dimensions only: half of a separable one."""
    size = getattr(module, "kernel_size", ())
    return isinstance(size, tuple) and len(set(size)) > 1


def _gives_coefficients(module: nn.Module | None) -> bool:
    """Whether a layer narrows and has no bias: what it gives are coefficients of the next one's basis."""
    narrows = isinstance(module, nn.Linear) and module.out_features < module.in_features
    return narrows and vars(module)["_parameters"].get("bias", module) is None  # reading a parametrised one makes it


def _is_split(first: nn.Module | None, second: nn.Module | None) -> bool:
    """Whether one convolution looks around and the other, of size 1, mixes channels: one step, written as two."""
    sizes = [getattr(item, "kernel_size", None) for item in (first, second)]
    points = [isinstance(size, tuple) and set(size) == {1} for size in sizes]
    return None not in sizes and any(points) and not all(points)


def _is_across(first: Op, second: Op, trace: ModelTrace) -> bool:
    """Whether one works along another dimension than the other, so that neither could do both."""
    source = second.inputs[0] if second.inputs else None
    if (first.name == "linear") != (second.name == "linear"):  # the last dimension, and that of the channels
        return trace.origin(source, IN_PLACE) is first
    turned = trace.origin(source, TURNS) is first and first.name == second.name == "linear"
    return turned and bool(first.shape and second.shapes) and first.shape[-1] != second.shapes[0][-1]


_KINDS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def _through(op: Op, users: dict[int, list[Op]]) -> Iterable[Op]:
    """What uses an output, past what leaves it linear."""
    for user in users.get(op.index, []):
        if user.name in BETWEEN and user.name not in EXCHANGE:
            yield from _through(user, users)
        else:
            yield user


def _features(op: Op, which: int, module: nn.Module | None) -> int:
    names = (("in_features", "in_channels"), ("out_features", "out_channels"))[which]
    known = next((getattr(module, name) for name in names if hasattr(module, name)), None)
    if known is not None:
        return int(known)
    shape = op.shape if which else (op.shapes[0] if op.shapes else ())
    return (shape[-1] if op.name == "linear" else shape[1]) if len(shape) > 1 else 0


def _is_nonlinear(trace: ModelTrace, layers: list[Op]) -> bool:
    """Whether any call between the first layer and a loss that works on a layer's output is nonlinear."""
    if not layers:
        return True
    ends = {item.made.index for item in trace.predictions if item.made is not None}
    if not ends:
        return True
    last = max(ends)
    return any(
        op.name not in STRAIGHT and trace.note(op).model and layers[0].index < op.index <= last for op in trace.ops
    ) or any(op.name in ARITHMETIC - STRAIGHT and op.index in ends for op in trace.ops)


def layer_signals(trace: ModelTrace) -> tuple[LayerSignal, ...]:
    """How large the inputs and outputs of linear layers and convolutions are, in order."""
    return tuple(
        LayerSignal(
            place=place(op),
            before=float(trace.input_sizes[op.index]),
            after=float(trace.outputs[op.index].double().square().mean().sqrt()),
        )
        for op in trace.ops
        if op.name in LINEAR and op.index in trace.outputs and op.index in trace.input_sizes
    )
