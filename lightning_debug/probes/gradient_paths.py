"""Which parameters a gradient may reach with a single bad value in it, by the autograd graph of a loss."""

from __future__ import annotations

import math
import re
from typing import Any

from torch import Tensor

SPREADS = frozenset(
    """
    Addbmm Addmm Addmv Addr Baddbmm Bilinear Bmm CompiledFunction Convolution ConvolutionOverrideable CudnnBatchNorm
    CudnnConvolution FusedRmsNorm Linear LinalgVectorNorm LogSoftmax MkldnnConvolution MkldnnLinear MkldnnRnnLayer
    Mm Mv NativeBatchNorm NativeGroupNorm NativeLayerNorm Norm ScaledDotProductEfficientAttention
    ScaledDotProductFlashAttention ScaledDotProductFlashAttentionForCpu Softmax ThnnFusedGruCell ThnnFusedLstmCell
    WeightNormInterface
    """.split()
)
"""What hands a bad value on to at least a whole row or column of each of its inputs, weights among them."""

HANDS_ON = frozenset(
    """
    Abs AdaptiveAvgPool2D Add Addcmul Alias AsStrided AvgPool2D AvgPool3D BinaryCrossEntropyWithLogits Celu Clamp
    ClampMax ClampMin Clone ConstantPadNd Copy CopySlices Cos Elu Embedding EmbeddingBag Expand Flip Gather Gelu Glu
    Hardsigmoid Hardswish Hardtanh HuberLoss Index IndexPut IndexSelect L1Loss LeakyRelu LogSigmoid MaskedFill
    MaskedScatter Max MaxPool2DWithIndices MaxPool3DWithIndices Maximum Mean Min Minimum Mish MseLoss Mul NativeDropout
    Neg NllLoss NllLoss2D Permute PreluKernel Relu Repeat ReshapeAlias Roll Rsub Scatter Select Selu Sigmoid Silu Sin
    Slice SmoothL1Loss Softplus Split SplitWithSizes Square Squeeze Stack Sub Sum T Tanh Threshold ToCopy Transpose
    Tril Triu Unbind Unfold Unsafe UnsafeSplit UnsafeView Unsqueeze UpsampleBilinear2D UpsampleNearest2D View Where Cat
    """.split()
)
"""What hands a gradient on in its place, and gives a finite one for a finite one where its output is finite."""

MOST_NODES = 20000
"""Of a larger graph nothing is told."""

_STEM = re.compile(r"Backward\d*$")


class Paths:
    """Follows the graphs of losses down to the parameters.

    A value that is not finite, made backward by a layer or above one, spoils at least a row or a column of that
    layer's weight and of all weights beneath. Elsewhere it may stay one value: where a parameter takes part in
    element-wise functions whose derivative is not finite everywhere (a root, a logarithm, a division, or one that is
    not known here), with no layer between them.

    Attributes:
        reached: Ids of the parameters that a graph led to.
        exposed: Ids of those whose gradient may have single bad values.
        whole: Whether every graph was followed to its end.

    >>> import torch
    >>> table, weight = torch.ones(4, 2, requires_grad=True), torch.ones(2, 2, requires_grad=True)
    >>> paths = Paths()
    >>> paths.follow((table.sqrt() @ weight).log().sum())
    >>> [id(item) in paths.exposed for item in (table, weight)], id(weight) in paths.reached
    ([True, False], True)
    """

    def __init__(self) -> None:
        self.reached: set[int] = set()
        self.exposed: set[int] = set()
        self.whole = True

    def follow(self, loss: Tensor) -> None:
        """Adds what a loss reaches; nothing is computed."""
        todo: list[tuple[Any, bool]] = [(loss.grad_fn, False)] if loss.grad_fn is not None else []
        seen: set[tuple[Any, bool]] = set(todo)
        while todo:
            node, single = todo.pop()
            variable = getattr(node, "variable", None)
            if isinstance(variable, Tensor):
                self.reached.add(id(variable))
                if single:
                    self.exposed.add(id(variable))
                continue
            name = node.name()
            stem = _STEM.sub("", name)
            below = stem not in SPREADS and (single or not _hands_on(name, stem, node))
            for item, _ in node.next_functions:
                if item is not None and (item, below) not in seen:
                    seen.add((item, below))
                    todo.append((item, below))
            if len(seen) > MOST_NODES:
                self.whole = False
                return


def _hands_on(name: str, stem: str, node: Any) -> bool:
    if stem in HANDS_ON:
        return True
    if name == "PowBackward0":  # by a number; of other nodes nothing saved is asked for: checkpoints would recompute
        return bool(node._saved_exponent >= 1)  # noqa: SLF001
    given: tuple[Any, ...] = getattr(node, "_input_metadata", ())
    return len(given) == 1 and math.prod(given[0].shape) == 1  # one value: what it is a sum of is all bad, or nothing
