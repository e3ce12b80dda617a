"""Names of torch's calls: one for each spelling, and the groups that provenance follows."""

from __future__ import annotations

from typing import Any

IGNORED = frozenset(
    """
    __bool__ __delete__ __dlpack__ __dlpack_device__ __format__ __get__ __hash__ __len__ __repr__
    __set__ backward data_ptr dim element_size get_device is_complex is_contiguous is_cuda
    is_floating_point is_same_size numel record_stream register_hook requires_grad_ shape size
    storage_offset stride untyped_storage
    """.split()
)
"""Calls that ask about a tensor rather than compute."""

ALIASES = {
    "__add__": "add",
    "__radd__": "add",
    "__iadd__": "add",
    "__sub__": "sub",
    "__rsub__": "rsub",
    "__isub__": "sub",
    "subtract": "sub",
    "__mul__": "mul",
    "__rmul__": "mul",
    "__imul__": "mul",
    "multiply": "mul",
    "__truediv__": "div",
    "__rtruediv__": "rdiv",
    "__itruediv__": "div",
    "__div__": "div",
    "__rdiv__": "rdiv",
    "divide": "div",
    "true_divide": "div",
    "__pow__": "pow",
    "__rpow__": "rpow",
    "__neg__": "neg",
    "negative": "neg",
    "__matmul__": "matmul",
    "__rmatmul__": "matmul",
    "__getitem__": "getitem",
    "__setitem__": "setitem",
    "__eq__": "eq",
    "absolute": "abs",
    "clip": "clamp",
    "concat": "cat",
    "concatenate": "cat",
    "special_softmax": "softmax",
    "special_log_softmax": "log_softmax",
    "special_expit": "sigmoid",
    "expit": "sigmoid",
}

RESHAPES = frozenset(
    """
    H T alias as_strided bfloat16 chunk clone contiguous cpu cuda data detach double expand expand_as flatten
    float getitem half index_select mH mT masked_select moveaxis movedim narrow permute ravel reshape
    reshape_as select split squeeze swapaxes swapdims t tensor_split to transpose type type_as unbind
    unflatten unsqueeze view view_as
    """.split()
)
"""Calls whose output holds the same numbers as their first input, or a part of them, in another shape or dtype."""

HAS_DIM = frozenset(
    """
    argmax argmin cat cumsum flatten gather gumbel_softmax log_softmax logsumexp max mean min norm
    normalize softmax softmin sort squeeze stack std sum topk unsqueeze var
    """.split()
)
"""Calls whose second positional argument is a dimension."""


PROPERTIES = frozenset({"H", "T", "data", "imag", "mH", "mT", "real"})
"""Attributes of a tensor that are other tensors: reading one is a call like any other."""


def name_of(function: Any) -> str:
    """The name of a torch function, and of the getter of a tensor's property.

    >>> import torch
    >>> name_of(torch.Tensor.T.__get__), name_of(torch.Tensor.shape.__get__), name_of(torch.relu)
    ('T', '__get__', 'relu')
    """
    name = str(getattr(function, "__name__", ""))
    if name != "__get__":
        return name
    owner = getattr(getattr(function, "__self__", None), "__name__", "")
    return owner if owner in PROPERTIES else name


def canonical(name: str) -> str:
    """One name for the spellings of a call.

    >>> [canonical(name) for name in ("relu_", "__sub__", "special_expit", "softmax")]
    ['relu', 'sub', 'sigmoid', 'softmax']
    """
    name = ALIASES.get(name, name)
    return name.rstrip("_") if not name.startswith("__") else name
