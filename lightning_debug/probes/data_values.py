"""Running moments of a field of the batches, by feature and by sample, in memory that does not grow."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightning_debug.evidence.data import FieldValues
from lightning_debug.probes.batch_roles import Field
from lightning_debug.probes.blank_pictures import BlankPictures

Array = npt.NDArray[Any]

MOST_ROWS = 64
MOST_POSITIONS = 1024
MOST_VALUES = 2**14
"""Values of a batch that are looked at: fewer samples where each has many values, but 16 at least."""
MOST_FEATURES = 256
SAME_FLOOR = 1e-5
"""Values are at the least one within this share of the range."""
COLOURS = (3, 4)
"""Channels of pictures whose pixels are looked at one by one."""
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
        self._step, count = step, len(self._positions)
        self._most_rows = min(MOST_ROWS, max(16, MOST_VALUES // max(1, count)))
        self._squares, self._mean, self._zeros = np.zeros(count), np.zeros(count), np.zeros(count)
        self._first: Array | None = None
        self._lowest, self._highest = math.inf, -math.inf
        self._samples = self._batches = self._dead = self._flat = self._alike = self._batches_alike = 0
        self._blank = BlankPictures(shape if field.kind == "image" else (), self._positions)
        self._negatives = self._floor = 0
        self._rows = [0.0, math.inf, -math.inf, math.inf, -math.inf]
        self._picture = field.kind == "image" and len(shape) == 3 and shape[0] in COLOURS
        steps = self._picture or (len(shape) == 2 and step == 1 and self._feature_axis()[0] == 1 and shape[1] > 1)
        self._steps: list[float] | None = [0.0, math.inf, -math.inf] if steps else None
        self._used = 0  # samples whose values are finite

    def fits(self, field: Field) -> bool:
        """Whether a later batch's field has samples of the same shape."""
        return tuple(field.samples.shape[1:]) == self.shape

    def add(self, field: Field) -> None:
        """Adds a batch."""
        samples = field.samples
        rows = samples[:: max(1, -(-len(samples) // self._most_rows))]
        if not rows.numel():
            return
        values = picked(rows, self._positions, self._step).double().numpy()
        finite = None
        if not math.isfinite(values.sum()):  # one pass where all are finite
            finite = np.flatnonzero(np.isfinite(values).all(1))
            values = values[finite]
        self._samples += len(rows)
        self._batches += 1
        if len(values):
            lowest, highest = values.min(1), values.max(1)
            self._moments(values)
            self._extremes(values, lowest, highest)
            if self._steps is not None and self._steps[0] < 1:  # no more where one of them is far off
                self._each_step(self._pixels(rows, finite) if self._picture else values.reshape(-1, self.shape[1]))
            self._alike_rows(values)
            self._blank.add(values, rows if finite is None else rows[torch.from_numpy(finite)])
            same = np.flatnonzero(lowest == highest)
            if len(same) and values.shape[1] > 1:
                self._flat_rows(rows[torch.from_numpy(same if finite is None else finite[same])])

    def _moments(self, values: Array) -> None:
        count, mean = len(values), values.mean(0)
        centred = values - mean
        self._squares += np.einsum("ij,ij->j", centred, centred)
        shift, total = mean - self._mean, self._used + count
        self._squares += shift * shift * (self._used * count / total)
        self._mean += shift * (count / total)
        self._used = total
        self._zeros += count - np.count_nonzero(values, axis=0)

    def _extremes(self, values: Array, lowest: Array, highest: Array) -> None:
        before, self._lowest = self._lowest, min(self._lowest, float(lowest.min()))
        self._highest = max(self._highest, float(highest.max()))
        near = self._lowest + SAME_FLOOR * (self._highest - self._lowest)
        self._floor = (self._floor if before <= near else 0) + int(np.count_nonzero(values <= near))
        self._negatives += int(np.count_nonzero(values < 0)) if lowest.min() < 0 else 0
        if values.shape[1] > 1:
            means = values.mean(1)
            centred = values - means[:, None]
            squares = np.einsum("ij,ij->i", centred, centred)
            deviations = np.sqrt(squares / (values.shape[1] - 1))
            lengths = np.sqrt(squares + values.shape[1] * means * means)
            self._rows[0] = max(self._rows[0], float(np.abs(means).max()))
            self._rows[1] = min(self._rows[1], float(deviations.min()))
            self._rows[2] = max(self._rows[2], float(deviations.max()))
            self._rows[3] = min(self._rows[3], float(lengths.min()))
            self._rows[4] = max(self._rows[4], float(lengths.max()))

    def _pixels(self, rows: Tensor, finite: Array | None) -> Array:
        """The channels of a few pixels of each picture."""
        kept = rows if finite is None else rows[torch.from_numpy(finite)]
        height, width = (max(1, size // 8) for size in self.shape[1:])
        found: Array = kept[:, :, ::height, ::width].movedim(1, -1).reshape(-1, self.shape[0]).double().numpy()
        return found

    def _each_step(self, each: Array) -> None:
        assert self._steps is not None
        deviations = each.std(1, ddof=1)
        self._steps[0] = max(self._steps[0], float(np.abs(each.mean(1)).max()))
        self._steps[1] = min(self._steps[1], float(deviations.min()))
        self._steps[2] = max(self._steps[2], float(deviations.max()))

    def _alike_rows(self, values: Array) -> None:
        if self._first is None:
            self._first = values[0].copy()
        like = values[values[:, 0] == self._first[0]]  # most differ in their first value already
        self._alike += int((like == self._first).all(1).sum())
        one = len(values) >= 4 and bool((values[:, 0] == values[0, 0]).all())
        self._batches_alike += one and bool((values == values[0]).all())

    def _flat_rows(self, rows: Tensor) -> None:
        whole = rows.reshape(len(rows), -1)
        whole = whole[(whole == whole[:, :1]).all(dim=1)]  # confirmed on every value
        dead = int((whole[:, 0] == 0).sum())
        self._dead += dead
        self._flat += len(whole) - dead

    def evidence(self, **known: Any) -> FieldValues:
        """What is known so far."""
        count = max(1, self._used)
        variance = self._squares / count
        axis, name = self._feature_axis()
        means, variances = self._by_feature(torch.from_numpy(self._mean), torch.from_numpy(variance), axis)
        mean = float(self._mean.mean())
        between = float(np.square(self._mean - mean).mean())
        total = between + float(variance.mean())
        profile = self._mean if len(self._mean) > 2 else self._mean[:0]
        rough = float(np.square(np.diff(profile)).mean() / 2 / profile.var(ddof=1)) if len(profile) and between else 1.0
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
            dead_expected=count * math.exp(float(np.log(share.clip(1e-300)).sum())),
            flat=self._flat,
            blank=self._blank.most,
            alike=self._alike,
            batches_alike=self._batches_alike,
            row_mean_highest=self._rows[0],
            row_deviation_lowest=self._rows[1] if self._rows[1] < math.inf else 0.0,
            row_deviation_highest=max(0.0, self._rows[2]),
            row_length_lowest=self._rows[3] if self._rows[3] < math.inf else 0.0,
            row_length_highest=max(0.0, self._rows[4]),
            steps=None if self._steps is None or not self._used else tuple(self._steps),
            profile=between / total if total > 0 else 0.0,
            profile_roughness=rough,
            floor=self._floor / max(1, self._used * len(self._mean)),
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


def picked(rows: Tensor, positions: Tensor, step: int) -> Tensor:
    """``(samples, values)``: the values at some places of each sample, without a copy of the others.

    Args:
        rows: Samples in front.
        positions: Places in a sample read flat, from 0 on in equal steps.
        step: Their distance.

    >>> picked(torch.arange(24).view(2, 3, 4).transpose(1, 2), torch.arange(0, 12, 5), 5)
    tensor([[ 0,  9,  7],
            [12, 21, 19]])
    """
    shape = rows.shape[1:]
    if len(positions) == math.prod(shape):
        return rows.reshape(len(rows), -1)
    try:
        return rows.view(len(rows), -1)[:, ::step]
    except RuntimeError:  # not in one piece, such as channels_last: reshape would copy all of it
        places: tuple[Any, ...] = (slice(None), *torch.unravel_index(positions, shape))
        return rows[places]
