"""Follows a batch into a step: to the first weights that each field meets, and to the loss functions."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lightning_debug.evidence.data_values import ClassFit, FirstLayerInput, RegressionFit
from lightning_debug.probes.batch_fields import batch_fields
from lightning_debug.probes.batch_roles import Field
from lightning_debug.probes.batch_samples import batch_size_of
from lightning_debug.probes.data_fits import Comparisons
from lightning_debug.probes.operand_layout import regrouped, roughness, strided
from lightning_debug.probes.plain_shape import plain_shape
from lightning_debug.probes.step_turns import StepTurns
from lightning_debug.probes.thinning import even_step
from lightning_debug.probes.trace import RESHAPES, Call, Trace, tensors

NORMS = frozenset({"batch_norm", "layer_norm", "instance_norm", "group_norm", "native_batch_norm", "rms_norm"})
CONVOLUTIONS = frozenset(f"conv{name}{dims}d" for name in ("", "_transpose") for dims in (1, 2, 3))
PRODUCTS = frozenset({"linear", "matmul", "mm", "addmm", "bmm", "multi_head_attention_forward"})
SIDE_BY_SIDE = frozenset({"cat", "stack", "hstack"})
ELEMENTWISE = SIDE_BY_SIDE | {"add", "sub", "mul", "div", "rsub", "where"}
PASS = RESHAPES | {"dropout"}
MOST_ROWS = 4096
MOST_FEATURES = 256


class ReachTrace:
    """Watches one step; enter it around the call.

    Args:
        root: The model.
        batch: The batch that the step is given, on whatever device.
        fields: What its fields are for, as told before it went there.
        stage: ``"train"`` or ``"validate"``.
        turns: Is shown what the first layers are given.

    >>> layer = nn.Linear(3, 1)
    >>> inputs, targets = torch.randn(8, 3), torch.randn(8, 1)
    >>> from lightning_debug.probes.batch_roles import batch_roles
    >>> batch = inputs, targets
    >>> with (watch := ReachTrace(layer, batch, batch_roles(batch))):
    ...     loss = nn.functional.mse_loss(layer(inputs / 2), targets)
    >>> [(item.field, item.operation) for item in watch.layers], watch.fits[0].elements
    ([('batch[0]', 'linear')], 8)
    """

    def __init__(
        self,
        root: nn.Module,
        batch: Any,
        fields: Sequence[Field],
        stage: str = "train",
        turns: StepTurns | None = None,
    ) -> None:
        self.layers: list[FirstLayerInput] = []
        self.error: Exception | None = None
        self._stage, self._turns = stage, turns
        self._weights = {id(item) for item in root.parameters()}
        self._from: dict[int, tuple[weakref.ref[Tensor], str]] = {}
        self._after: dict[int, tuple[weakref.ref[Tensor], int]] = {}
        self._beside: dict[int, tuple[weakref.ref[Tensor], int, tuple[int, ...]]] = {}
        self._samples = batch_size_of([tensor.shape for _, tensor in batch_fields(batch)])
        self._met: set[tuple[str, str]] = set()
        labels = {item.path for item in fields if item.role == "label"}
        self._compared = Comparisons(stage)
        self._labels: dict[str, Tensor] = {}
        for path, tensor in batch_fields(batch):
            if path in labels:
                self._labels[path] = tensor
                self._compared.note(tensor, given=True)
            else:
                self._note(tensor, path)
        self._trace = Trace(root, {"*": self._saw})

    def __enter__(self) -> ReachTrace:
        self._trace.__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *raised: Any) -> None:
        self._trace.__exit__(*raised)  # type: ignore[no-untyped-call]
        self._from, self._after, self._beside = {}, {}, {}
        self._compared.forget()

    def tell_labels(self) -> None:
        """Shows the turns what the labels are, and whether the loss compared those; once the step is over."""
        labels, self._labels = self._labels, {}
        if self._turns is not None:
            self._turns.labelled(labels, compared=self._compared.unchanged)

    @property
    def calls(self) -> int:
        """How many calls of torch were followed."""
        return len(self._trace.ops)

    @property
    def fits(self) -> list[RegressionFit]:
        """Predictions and targets of the regression losses."""
        return self._compared.fits

    @property
    def classes(self) -> list[ClassFit]:
        """Predicted and true classes."""
        return self._compared.classes

    def _note(self, tensor: Tensor, path: str) -> None:
        self._from[id(tensor)] = weakref.ref(tensor), path

    def _origin(self, tensor: Tensor) -> str | None:
        known = self._from.get(id(tensor))
        return known[1] if known is not None and known[0]() is tensor else None

    def _saw(self, call: Call) -> None:
        if self.error is not None:
            return
        try:
            with torch._C.DisableTorchFunction(), torch.no_grad():  # noqa: SLF001 - so that other traces look away
                self._look(call)
        except Exception as error:  # told after the step, which must go on
            self.error = error

    def _look(self, call: Call) -> None:
        name = call.op.name
        given = list(tensors((call.arguments, dict(call.keywords))))
        self._compared.look(call)
        self._follow(name, given, call.output)
        pure = [(item, path) for item in given if (path := self._origin(item)) is not None]
        if not pure:
            return
        weighted = [item for item in given if id(item) in self._weights]
        if weighted and name not in ELEMENTWISE:
            operand, path = pure[0]
            known = (path, call.op.module) in self._met
            if self._turns is not None:
                self._turns.met(path, operand, again=known)
            if not known and len(self._met) < 16:
                self._met.add((path, call.op.module))
                self._measure(call, operand, path, weighted)
            return
        learned = [item for item in given if item.requires_grad and self._origin(item) is None]
        if learned and name not in ELEMENTWISE:
            return
        if name not in SIDE_BY_SIDE and any(item.grad_fn is not None for item in learned):
            return  # an activation that a field masks, scales or shifts is no value of that field
        path = next((path for item, path in pure if item.is_floating_point()), pure[0][1])
        beside = self._joined(call) if name in ("cat", "hstack") else self._carried(pure, call.output)
        if beside is None:
            return
        for output in tensors(call.output):
            self._note(output, path)
            if beside[1]:
                self._beside[id(output)] = weakref.ref(output), *beside

    def _joined(self, call: Call) -> tuple[int, tuple[int, ...]]:
        """Dimension and places of what came from the batch, where activations were put beside it; else no places."""
        parts, output = call.argument(0, "tensors"), call.output
        if not isinstance(parts, (tuple, list)) or not isinstance(output, Tensor):
            return 0, ()
        dim = call.argument(1, "dim") if call.op.name == "cat" else min(1, output.ndim - 1)
        dim = (dim if isinstance(dim, int) else 0) % output.ndim
        places: list[int] = []
        start = 0
        for part in parts:
            if not isinstance(part, Tensor) or part.ndim != output.ndim:
                return 0, ()
            if self._origin(part) is not None:
                known = self._places(part)
                own = known[1] if known is not None and known[0] == dim else range(part.shape[dim])
                places += [start + place for place in own]
            start += part.shape[dim]
        return dim, tuple(places) if len(places) < start else ()

    def _carried(self, pure: Sequence[tuple[Tensor, str]], output: Any) -> tuple[int, tuple[int, ...]] | None:
        """The places of an operand in a result of its shape; ``None`` where they are lost."""
        known = next(((item, found) for item, _ in pure if (found := self._places(item)) is not None), None)
        if known is None:
            return 0, ()
        return known[1] if all(item.shape == known[0].shape for item in tensors(output)) else None

    def _places(self, tensor: Tensor) -> tuple[int, tuple[int, ...]] | None:
        known = self._beside.get(id(tensor))
        return (known[1], known[2]) if known is not None and known[0]() is tensor else None

    def _follow(self, name: str, given: list[Tensor], output: Any) -> None:
        """Whether a normalisation layer takes what a first layer returned."""
        for item in given:
            known = self._after.get(id(item))
            if known is None or known[0]() is not item:
                continue
            if name in NORMS:
                self.layers[known[1]] = dataclasses.replace(self.layers[known[1]], normalised_after=True)
            elif name in PASS:
                for result in tensors(output):
                    self._after[id(result)] = weakref.ref(result), known[1]

    def _measure(self, call: Call, operand: Tensor, path: str, weights: list[Tensor]) -> None:
        name = call.op.name
        known: dict[str, Any] = {
            "stage": self._stage, "field": path, "module": call.op.module, "operation": name, "line": call.op.line,
            "shape": plain_shape(operand), "samples": self._samples,
        }  # fmt: skip
        axis = 1 if name in CONVOLUTIONS and operand.ndim > 2 else operand.ndim - 1
        output = next(tensors(call.output), None)
        if output is not None:
            self._after[id(output)] = weakref.ref(output), len(self.layers)
        dense = operand.layout is torch.strided and not operand.is_nested
        if not (dense and operand.is_floating_point() and operand.numel()) or name in (*NORMS, "embedding"):
            self.layers.append(FirstLayerInput(**known, layout=axis))
            return
        values = operand.movedim(axis, -1).reshape(-1, operand.shape[axis])
        places_beside = [size for dim, size in enumerate(operand.shape) if dim not in (0, axis)]
        values = values[:: even_step(len(values), MOST_ROWS, places_beside)].float().cpu()
        values = values[values.isfinite().all(dim=1)]
        if not len(values):
            self.layers.append(FirstLayerInput(**known, layout=axis))
            return
        norms = _norms(name, weights, values.shape[1])
        places = self._places(operand)
        if places is not None and places[0] == axis:
            columns = torch.tensor(places[1])
            values, norms = values[:, columns], norms[columns] if norms is not None else None
        step = -(-values.shape[1] // MOST_FEATURES)
        values = values[:, ::step].double()
        measured = None
        if output is not None and output.is_floating_point() and output.numel():
            out = output.detach().reshape(-1)
            measured = float(out[:: even_step(out.numel(), 65536, output.shape[1:])].double().square().mean().sqrt())
        self.layers.append(
            FirstLayerInput(
                **known,
                lowest=float(values.min()),
                highest=float(values.max()),
                root_mean_square=float(values.square().mean().sqrt()),
                means=tuple(values.mean(0).tolist()),
                deviations=tuple(values.std(0, unbiased=False).tolist()),
                zeros=tuple((values == 0).double().mean(0).tolist()),
                weights=tuple(norms[::step].tolist()) if norms is not None else (),
                whole=bool((values == values.round()).all()),
                output=measured,
                roughness=roughness(operand),
                regrouped=regrouped(operand) if name == "conv2d" else strided(operand) if name == "conv1d" else (),
                layout=axis,
            )
        )


def _norms(name: str, weights: Sequence[Tensor], features: int) -> Tensor | None:
    """Norms of the weights that each feature meets, relative to their mean."""
    for weight in weights:
        dims = [dim for dim in range(weight.ndim) if dim != 1]
        if weight.ndim >= 2 and weight.shape[1] == features and name not in ("conv_transpose1d", "conv_transpose2d"):
            found = weight.detach().float().square().sum(dims).sqrt().cpu().double()
            mean = found.mean()
            return found / mean if bool(mean > 0) else None
    return None
