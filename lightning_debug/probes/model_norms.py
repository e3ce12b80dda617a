"""What batch-norms average over, and which weights have equal rows."""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.instancenorm import _InstanceNorm

from lightning_debug.evidence.model import AlikeUnits, NormInput
from lightning_debug.probes.model_trace import ModelTrace

KINDS = (nn.Linear, nn.modules.conv._ConvNd, nn.Bilinear)  # noqa: SLF001 - the base of all convolutions
TABLES = (nn.ParameterList, nn.ParameterDict, nn.Embedding)
MOST_WEIGHTS = 512
MOST_VALUES = 2**24
"""Weights larger than this have rows enough to tell by a part of them."""


def norm_inputs(trace: ModelTrace, root: nn.Module, samples: int) -> tuple[NormInput, ...]:
    """Values of a channel that one sample brings to each batch-norm that is in train mode.

    Args:
        trace: A pass over ``samples`` samples.
        root: The model, in the modes it trains in.
        samples: How many the pass had.
    """
    found = []
    for name, module in root.named_modules():
        if not isinstance(module, _NormBase) or isinstance(module, _InstanceNorm) or not module.training:
            continue
        known = trace.norm_inputs.get(name)
        if known is not None and len(known[1]) > 1:
            shape = known[1]
            values = math.prod(shape) / shape[1]
            found.append(NormInput(path=name, class_name=type(module).__name__, per_sample=values / samples))
    return tuple(found)


@torch.no_grad()
def equal_rows(root: nn.Module) -> dict[str, Tensor]:
    """Trained weights whose rows are all equal, by name, with a copy of each.

    Those of linear layers and convolutions; of what modules outside of torch, lists and embeddings hold, matrices of
    one value only: what a row of theirs means is not known.
    """
    found: dict[str, Tensor] = {}
    for path, module in list(root.named_modules())[: 4 * MOST_WEIGHTS]:
        if not type(module).__module__.startswith("torch.") or isinstance(module, TABLES):
            for name, value in module.named_parameters(path, recurse=False):
                matrix = value.ndim > 1 and 1 < value.numel() <= MOST_VALUES
                if value.requires_grad and matrix and bool((value == value.flatten()[0]).all()):
                    found[name] = value.detach().clone()
        weight = module._parameters.get("weight") if isinstance(module, KINDS) else None  # noqa: SLF001 - reading a
        if not isinstance(weight, nn.Parameter):  # parametrised one makes it anew, and steps what it is made with
            continue
        if not weight.requires_grad or weight.ndim < 2 or weight.shape[0] < 2 or weight.numel() > MOST_VALUES:
            continue
        if rows_alike(weight):
            found[f"{path}.weight" if path else "weight"] = weight.detach().clone()
    return found


@torch.no_grad()
def rows_alike(weight: Tensor) -> bool:
    """Whether all rows are equal, to rounding."""
    return bool(((weight - weight[:1]).abs() <= 1e-6 * weight.abs().max()).all())


@torch.no_grad()
def still_alike(
    root: nn.Module, before: dict[str, Tensor], gradients: dict[str, Tensor], woken: Collection[str] = ()
) -> tuple[AlikeUnits, ...]:
    """Which weights have equal rows still.

    Args:
        root: The model.
        before: From :func:`equal_rows`.
        gradients: Gradients by parameter name.
        woken: Names whose gradient is zero, and is not once all zeros are random. Of a module's own parameters,
            whose rows may be anything, only these are told, and those whose rows or columns have equal gradients;
            where it is columns, ``.T`` is added to the name.
    """
    found = []
    own = dict(root.named_parameters())
    for name, start in before.items():
        weight, gradient, old, shown = own.get(name, start).detach(), gradients.get(name), start, name
        if name not in own or weight.shape != old.shape:
            continue
        path, _, leaf = name.rpartition(".")
        layer = leaf == "weight" and isinstance(root.get_submodule(path), KINDS)
        if not layer and name not in woken:
            if gradient is None or weight.ndim != 2 or min(weight.shape) < 2 or not bool(gradient.any()):
                continue
            if not rows_alike(weight):
                shown, weight, old, gradient = f"{name}.T", weight.T, old.T, gradient.T
            if not rows_alike(gradient):
                continue
        if not rows_alike(weight):
            continue
        constant = bool((weight == weight.flatten()[0]).all())
        found.append(
            AlikeUnits(
                name=shown,
                shape=tuple(weight.shape),
                value=float(weight.flatten()[0]) if constant else None,
                moved=not torch.equal(weight, old),
                gradient_alike=None if gradient is None else rows_alike(gradient),
                gradient_zero=gradient is not None and not bool(gradient.any()),
                woken=name in woken,
            )
        )
    return tuple(found)
