"""Where a value that is not finite began: a step is run again under a trace and followed back from the loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lightning_debug.probes.nonfinite_tensors import tensors_of
from lightning_debug.probes.nonfinite_trace import Finder, Found, Search
from lightning_debug.probes.value_flow import HARMLESS


def leaves_of(root: nn.Module, fields: Mapping[str, Tensor]) -> dict[int, tuple[str, str]]:
    """Kind and name of every tensor that was there before the step, by identity."""
    found = {id(tensor): (kind, name) for name, tensor, kind, _ in tensors_of(root)}
    return found | {id(tensor): ("input", name) for name, tensor in fields.items()}


def search(root: nn.Module, step: Callable[[], Any], fields: Mapping[str, Tensor], fresh: float = HARMLESS) -> Search:
    """Runs a step under the trace, with its backward pass, and says where the first bad value began.

    Args:
        root: The model, for paths.
        step: Runs the training step and returns its loss, or ``None`` where it runs its own backward passes.
        fields: The batch's tensors by the expressions that reach them.
        fresh: What memory that nothing was written to (``torch.empty``) holds in this run.

    >>> layer = nn.Linear(2, 1)
    >>> x = torch.zeros(3, 2)
    >>> origin = search(layer, lambda: (layer(x) * torch.log(x)).mean(), {"batch": x}).origin
    >>> origin.operation, origin.operands[0].source, origin.operands[0].zeros
    ('log', 'batch', 6)
    """
    finder = Finder(root, leaves_of(root, fields), fresh)
    try:
        with torch.autograd.set_detect_anomaly(False):  # which would raise before a hook can look
            with finder:
                loss = step()
            if isinstance(loss, Tensor):
                if loss.requires_grad and loss.numel() == 1:
                    finder.backward(loss, loss.backward)
                else:
                    finder.judge(loss)
                    finder.found.complete = True
    except Found:
        pass
    except Exception:
        finder.found.origin = finder.latest()
        if finder.found.origin is None:
            raise
        finder.found.bad_loss = True
    finder.found.calls = len(finder.ops)
    return finder.found
