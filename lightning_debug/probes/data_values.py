"""Running moments of a field of the batches, by feature and by sample, in memory that does not grow."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lightning_debug.evidence.data import FieldValues
from lightning_debug.probes.batch_roles import Field

MOST_ROWS = 64
MOST_POSITIONS = 1024
MOST_FEATURES = 256
CHANNELS = 16
"""Trailing or leading dimensions of images up to this size are channels."""


class ValueMoments:
    """Gathers :class:`FieldValues` of one field, from at most 64 samples of a batch and 1024 values of a sample.

    Args:
        field: The field in the first batch.
        stage: ``"train"`` or ``"validate"``.
        loader: Index of the dataloader.

    >>> torch.manual_seed(0)  # doctest: +ELLIPSIS
    <torch._C.Generator ...>
    >>> field = Field("batch[0]", torch.randn(32, 3) * torch.tensor([1.0, 10.0, 100.0]), "input", "values")
    >>> moments = ValueMoments(field, "train", 0)
    >>> moments.add(field)
    >>> [round(value) for value in moments.evidence().deviations]
    [1, 9, 111]
    """

    def __init__(self, field: Field, stage: str, loader: int) -> None:
        self._known: dict[str, Any] = {
            "stage": stage, "loader": loader, "field": field.path, "role": field.role, "holds": field.kind,
        }  # fmt: skip
        shape = tuple(field.samples.shape[1:])
        self.shape = shape
        values = math.prod(shape)
        step = max(1, -(-values // MOST_POSITIONS))
        step += step > 1 and any(size % step == 0 for size in shape[1:])  # do not always hit the same column
        self._positions = torch.arange(0, values, step)
        count = len(self._positions)
        self._total = torch.zeros(count, dtype=torch.float64)
        self._squares = torch.zeros(count, dtype=torch.float64)
        self._mean = torch.zeros(count, dtype=torch.float64)
        self._zeros = torch.zeros(count, dtype=torch.float64)
        self._first: Tensor | None = None
        self._lowest, self._highest = math.inf, -math.inf
        self._samples = self._batches = self._dead = self._flat = self._alike = self._batches_alike = 0
        self._negatives = 0
        self._rows = [0.0, math.inf, -math.inf]
        self._used = 0  # samples whose values are finite

    def fits(self, field: Field) -> bool:
        """Whether a later batch's field has samples of the same shape."""
        return tuple(field.samples.shape[1:]) == self.shape

    def add(self, field: Field) -> None:
        """Adds a batch."""
        samples = field.samples
        rows = samples[:: max(1, -(-len(samples) // MOST_ROWS))]
        if not rows.numel():
            return
        flat = rows.reshape(len(rows), -1)
        picked = flat if flat.shape[1] == len(self._positions) else flat[:, self._positions]
        values = picked.double()
        values = values[values.isfinite().all(dim=1)]
        self._samples += len(rows)
        self._batches += 1
        if len(values):
            self._moments(values)
            self._alike_rows(values)
            self._zero_rows(values, flat)

    def _moments(self, values: Tensor) -> None:
        count, mean = len(values), values.mean(0)
        self._squares += (values - mean).square().sum(0)
        shift, total = mean - self._mean, self._used + count
        self._squares += shift.square() * (self._used * count / total)
        self._mean += shift * (count / total)
        self._used = total
        self._zeros += (values == 0).sum(0)
        self._negatives += int((values < 0).sum())
        self._lowest = min(self._lowest, float(values.min()))
        self._highest = max(self._highest, float(values.max()))
        if values.shape[1] > 1:
            means, deviations = values.mean(1), values.std(1)
            self._rows[0] = max(self._rows[0], float(means.abs().max()))
            self._rows[1] = min(self._rows[1], float(deviations.min()))
            self._rows[2] = max(self._rows[2], float(deviations.max()))

    def _alike_rows(self, values: Tensor) -> None:
        if self._first is None:
            self._first = values[0].clone()
        self._alike += int((values == self._first).all(dim=1).sum())
        self._batches_alike += len(values) >= 4 and bool((values == values[0]).all())

    def _zero_rows(self, values: Tensor, flat: Tensor) -> None:
        same = (values == values[:, :1]).all(dim=1)
        if not bool(same.any()) or values.shape[1] < 2:
            return
        whole = flat[:, :].double() if len(values) < len(flat) else flat[same]
        whole = whole[(whole == whole[:, :1]).all(dim=1)]  # confirmed on every value
        dead = int((whole[:, 0] == 0).sum())
        self._dead += dead
        self._flat += len(whole) - dead

    def evidence(self, **known: Any) -> FieldValues:
        """What is known so far."""
        count = max(1, self._used)
        variance = self._squares / count
        axis, name = self._feature_axis()
        means, variances = self._by_feature(self._mean, variance, axis)
        mean = float(self._mean.mean())
        between = float((self._mean - mean).square().mean())
        total = between + float(variance.mean())
        profile = self._mean if len(self._mean) > 2 else self._mean[:0]
        rough = float(profile.diff().square().mean() / 2 / profile.var()) if len(profile) and between > 0 else 1.0
        share = self._zeros / count
        return FieldValues(
            **self._known,
            shape=self.shape,
            samples=self._samples,
            batches=self._batches,
            lowest=self._lowest if self._used else 0.0,
            highest=self._highest if self._used else 0.0,
            mean=mean,
            deviation=math.sqrt(total),
            zeros=float(share.mean()),
            negatives=self._negatives / max(1, self._used * len(self._mean)),
            feature=name,
            means=tuple(means.tolist()),
            deviations=tuple(variances.sqrt().tolist()),
            dead=self._dead,
            dead_expected=count * math.exp(float(share.clamp(min=1e-300).log().sum())),
            flat=self._flat,
            alike=self._alike,
            batches_alike=self._batches_alike,
            row_mean_highest=self._rows[0],
            row_deviation_lowest=self._rows[1] if self._rows[1] < math.inf else 0.0,
            row_deviation_highest=max(0.0, self._rows[2]),
            profile=between / total if total > 0 else 0.0,
            profile_roughness=rough,
            **known,
        )

    def _feature_axis(self) -> tuple[int | None, str]:
        """Which dimension of a sample tells features apart."""
        if len(self.shape) == 1:
            return 0, "column"
        if len(self.shape) == 2 and self._known["holds"] != "image":
            return (1, "channel") if self.shape[1] <= self.shape[0] else (0, "channel")
        if len(self.shape) == 3:
            axis = 0 if self.shape[0] <= self.shape[2] else 2
            return (axis, "channel") if self.shape[axis] <= CHANNELS else (None, "value")
        return None, "value"

    def _by_feature(self, means: Tensor, variances: Tensor, axis: int | None) -> tuple[Tensor, Tensor]:
        if axis is None:
            index = torch.zeros(len(means), dtype=torch.int64)
        else:
            after = math.prod(self.shape[axis + 1 :])
            index = self._positions // after % self.shape[axis]
        _, index = torch.unique(index, return_inverse=True)
        size = int(index.max()) + 1
        counts = torch.zeros(size, dtype=torch.float64).index_add_(0, index, torch.ones_like(means))
        mean = torch.zeros_like(counts).index_add_(0, index, means) / counts
        spread = variances + (means - mean[index]).square()
        variance = torch.zeros_like(counts).index_add_(0, index, spread) / counts
        step = -(-size // MOST_FEATURES)
        return mean[::step], variance[::step]
