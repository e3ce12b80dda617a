"""The rules on values: each fault on several kinds of data, and silence on what only looks like it."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_debug.evidence import Moment
from lightning_debug.evidence.data import FieldValues, LabelCounts
from lightning_debug.evidence.data_values import ClassFit, FirstLayerInput, FitsOver, RegressionFit
from lightning_debug.finding import Claim
from lightning_debug.probes.batch_roles import batch_roles
from lightning_debug.probes.data_reach import ReachTrace
from lightning_debug.probes.data_values import ValueMoments
from lightning_debug.record import Record
from lightning_debug.registry import get


def claims(code, *evidence):
    return [item.message for item in get(code).function(Record(evidence)) if isinstance(item, Claim)]


def reached(model, *inputs, stage="train", prepare=lambda x: x):
    """First layers over three batches of 32 samples."""
    found = []
    for part in range(3):
        batch = tuple(item[32 * part : 32 * part + 32] for item in inputs)
        watch = ReachTrace(model, batch, batch_roles(batch), stage)
        with watch:
            model(prepare(batch[0]))
        assert watch.error is None
        found += watch.layers
    return found


def values(inputs, labels=None, stage="train", batch=32):
    """Moments of the fields of all batches."""
    labels = torch.arange(len(inputs)) % 3 if labels is None else labels
    kept = {}
    for start in range(0, len(inputs), batch):
        for field in batch_roles((inputs[start : start + batch], labels[start : start + batch])):
            if field.role in ("input", "tokens"):
                kept.setdefault(field.path, ValueMoments(field, stage, 0)).add(field)
    return [item.evidence() for item in kept.values()]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


G = seeded()
N = 96
TABLE = torch.randn(N, 8, generator=G)
IMAGES = torch.rand(N, 3, 12, 12, generator=G)
SERIES = torch.randn(N, 30, 4, generator=G).cumsum(1) / 4
LABELS = torch.randint(0, 3, (N,), generator=G)


def mlp(width=8, *first):
    return nn.Sequential(*first, nn.Flatten(), nn.Linear(width, 16), nn.ReLU(), nn.Linear(16, 3))


def convolution(*after):
    return nn.Sequential(nn.Conv2d(3, 8, 3), *after, nn.ReLU(), nn.Flatten(), nn.Linear(800, 3))


UNNORMALISED = {
    "images 0..255": (convolution(), IMAGES * 255),
    "images 0..255, flat": (mlp(432), IMAGES * 255),
    "one large column": (mlp(), TABLE * torch.tensor([1.0, 1, 1, 1, 1, 1, 1, 500])),
    "Kelvin": (mlp(), 290 + 10 * TABLE),
    "offset": (mlp(), 6 + 0.1 * TABLE),
    "series": (nn.GRU(4, 8, batch_first=True), 1000 * SERIES),
    "waves": (nn.Sequential(nn.Conv1d(30, 8, 1)), 300 * SERIES + 500),
}


@pytest.mark.parametrize("name", UNNORMALISED)
def test_unnormalised(name):
    model, inputs = UNNORMALISED[name]
    assert claims("LD501", *reached(model, inputs, LABELS)), name


COUNTS = torch.poisson(torch.rand(1, 200, generator=G) ** 6 * 40 + torch.zeros(N, 200), generator=G)
HEALTHY = {
    "images 0..1": (convolution(), IMAGES),
    "images -1..1": (convolution(), IMAGES * 2 - 1),
    "raw images, batch norm first": (nn.Sequential(nn.BatchNorm2d(3), convolution()), IMAGES * 255),
    "raw images, batch norm after": (convolution(nn.BatchNorm2d(8)), IMAGES * 255),
    "raw table, layer norm first": (mlp(8, nn.LayerNorm(8)), TABLE * 500),
    "raw table, batch norm first": (mlp(8, nn.BatchNorm1d(8)), TABLE * torch.logspace(0, 5, 8)),
    "digits 0..16": (mlp(64), torch.randint(0, 17, (N, 64), generator=G).float()),
    "digits with borders": (mlp(64), torch.randint(0, 17, (N, 64), generator=G).float() * (torch.arange(64) % 8 > 0)),
    "standardised": (mlp(), TABLE),
    "moderate": (mlp(), TABLE * torch.tensor([0.2, 1, 2, 5, 1, 1, 9, 3])),
    "one-hot": (mlp(10), F.one_hot(torch.randint(0, 10, (N,), generator=G)).float()),
    "sparse binary": (mlp(200), (torch.rand(N, 200, generator=G) < 0.02).float()),
    "counts": (mlp(200), COUNTS),
    "categories": (mlp(), torch.randint(0, 40, (N, 8), generator=G).float() * (torch.arange(8) < 2) + TABLE * 0),
    "logarithms": (mlp(), 10 + 0.8 * TABLE),
    "bias column": (mlp(9), torch.cat([TABLE, torch.ones(N, 1)], 1)),
    "small": (mlp(), TABLE * 0.05),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_normalised_enough(name):
    model, inputs = HEALTHY[name]
    assert not claims("LD501", *reached(model, inputs, LABELS)), name


def test_what_the_step_does_counts():
    assert not claims("LD501", *reached(convolution(), IMAGES * 255, LABELS, prepare=lambda x: x / 255 - 0.5))
    assert claims("LD501", *reached(convolution(), IMAGES, LABELS, prepare=lambda x: x * 255))
    ids = torch.randint(0, 500, (N, 8), generator=seeded())
    model = nn.Sequential(nn.Embedding(500, 4), nn.Flatten(), nn.Linear(32, 3))
    assert not claims("LD501", *reached(model, ids, LABELS))


PREPARED = {
    "table": (TABLE, 50 + 9 * TABLE),
    "images 0..255": (IMAGES, IMAGES * 255),
    "images 0..1": ((IMAGES - 0.5) / 0.29, IMAGES),
    "images -1..1": (IMAGES * 2 - 1, IMAGES),
    "series": (SERIES, SERIES * 20 + 3),
    "one feature": (TABLE[:, :1], TABLE[:, :1] * 30 + 40),
}


@pytest.mark.parametrize("name", PREPARED)
def test_preparation_differs(name):
    train, val = PREPARED[name]
    assert claims("LD515", *values(train), *values(val, stage="validate"))
    assert not claims("LD515", *values(train), *values(train[::2], stage="validate"))


def test_preparation_is_the_same():
    noise = torch.randn(IMAGES.shape, generator=seeded(1))
    quiet = {
        "drift": (TABLE, TABLE * 1.6 + 0.8),
        "noise": (IMAGES + 0.3 * noise, IMAGES),
        "brightness": (IMAGES * (0.6 + 0.8 * torch.rand(N, 1, 1, 1, generator=seeded())), IMAGES),
        "few": (TABLE, 50 + 9 * TABLE[:8]),
        "flags": ((TABLE > 0).float(), (TABLE > 1).float()),
    }
    for name, (train, val) in quiet.items():
        assert not claims("LD515", *values(train), *values(val, stage="validate")), name
    counts = [
        LabelCounts(stage="train", classes=(0, 1, 2), counts=(30, 30, 30), complete=True),
        LabelCounts(stage="validate", classes=(2,), counts=(30,), complete=True),
    ]
    assert not claims("LD515", *values(TABLE), *values(TABLE * 0.1 + 3, stage="validate"), *counts)


@pytest.mark.parametrize(("moved", "said"), [(0.0, 1), (0.3, 0)])
def test_a_model_that_normalises_in_training_alone(moved, said):
    """3.3 deviations apart in one channel may be drift, unless what is delivered does not drift."""
    layer = FirstLayerInput(field="batch[0]", module="net.0", samples=64, means=(0.0,), deviations=(0.9,))
    other = dataclasses.replace(layer, stage="validate", means=(-3.0,), deviations=(0.42,))
    column = TABLE[:, :1] * 0.4 - 3
    delivered = [*values(column), *values(column + moved, stage="validate")]
    assert len(claims("LD515", *delivered, dataclasses.replace(layer, stage="train"), other)) == said


@pytest.mark.parametrize("inputs", [TABLE, IMAGES, SERIES], ids=["table", "images", "series"])
def test_zeros_and_constants(inputs):
    holes = inputs.clone()
    holes[::4] = 0
    assert claims("LD508", *values(holes))
    assert claims("LD508", *values(inputs * 0))
    assert not claims("LD508", *values(inputs))
    assert claims("LD509", *values(inputs[:1].expand_as(inputs)))
    assert not claims("LD509", *values(inputs))
    one = LabelCounts(stage="train", classes=(1,), counts=(96,), complete=True)
    assert not claims("LD509", *values(inputs[:1].expand_as(inputs)), one)
    elsewhere = FirstLayerInput(field="batch[7]")  # a dummy that nothing is computed from
    assert not claims("LD509", *values(inputs[:1].expand_as(inputs)), elsewhere)
    assert not claims("LD508", *values(inputs * 0), elsewhere)


def test_sparse_inputs_may_be_empty():
    sparse = (torch.rand(N, 50, generator=seeded()) < 0.02).float()
    assert not claims("LD508", *values(sparse))
    assert not claims("LD508", *values(torch.poisson(sparse * 2)))


def test_numbers_told_are_of_the_features_that_differ():
    """One feature that was raw in validation only has a huge spread; the others, scaled twice, a small one."""
    train = FieldValues(stage="train", field="x", role="input", samples=96, means=(0.0,) * 5, deviations=(1.0,) * 5)
    val = dataclasses.replace(train, stage="validate", deviations=(0.1, 0.1, 0.1, 0.1, 90.0))
    (told,) = claims("LD515", train, val)
    assert told.startswith("The typical feature of x has mean 0 and deviation 1 in training, 0 and 0.1 in validation")


def test_rows_normalised_by_themselves():
    raw = torch.tensor([1.0, 40, 3, 80, 2, 500, 5, 25]) * (2 + TABLE / 4)

    def by_row(rows):
        return (rows - rows.mean(1, keepdim=True)) / rows.std(1, keepdim=True)

    assert claims("LD502", *values(by_row(raw)))
    assert claims("LD502", *values((raw - raw.mean(1, True)) / raw.std(1, unbiased=False, keepdim=True)))
    assert not claims("LD502", *values((raw - raw.mean(0)) / raw.std(0)))
    assert not claims("LD502", *values(by_row(torch.sin(torch.linspace(0, 6, 40)) * (1 + 0.1 * TABLE[:, :1]) + 0.05)))
    assert not claims("LD502", *values(F.layer_norm(torch.randn(N, 64, generator=seeded()), (64,))))
    assert not claims("LD502", *values((IMAGES - IMAGES.mean((1, 2, 3), True)) / IMAGES.std((1, 2, 3), keepdim=True)))


def test_layouts():
    ramp = torch.linspace(-1, 1, 16)
    smooth = torch.sin(3 * ramp[:, None] + TABLE[:, :1, None] * ramp)[..., None] * torch.tensor([1.0, 0.5, 0.2])
    assert claims("LD514", *reached(nn.Conv2d(16, 4, 3, padding=1), smooth, LABELS))
    assert not claims("LD514", *reached(nn.Conv2d(3, 4, 3), smooth.permute(0, 3, 1, 2), LABELS))
    assert claims("LD514", *reached(nn.Conv2d(12, 4, 3, padding=1), IMAGES.permute(0, 2, 3, 1), LABELS))
    assert not claims("LD514", *reached(nn.Conv2d(12, 4, (3, 1)), torch.randn(N, 12, 40, 1), LABELS))
    waves = torch.sin(torch.linspace(0, 4, 50) + 6 * TABLE[:, :5, None])
    assert claims("LD514", *reached(nn.LSTM(50, 4, batch_first=True), waves, LABELS))
    assert not claims("LD514", *reached(nn.LSTM(5, 4, batch_first=True), waves.transpose(1, 2), LABELS))
    assert claims("LD514", *reached(nn.Conv1d(50, 4, 3), waves.transpose(1, 2), LABELS))
    assert not claims("LD514", *reached(nn.Conv1d(5, 4, 3), waves, LABELS))


def test_series_that_were_reshaped_for_transposed():
    phase, time = 6.3 * torch.rand(N, 1, 1), torch.arange(64.0)[:, None]
    series = torch.sin(time / 6 + phase + torch.tensor([0.0, 1.6, 3.0])) + 0.1 * torch.randn(N, 64, 3)
    assert claims("LD514", *reached(nn.Conv1d(3, 4, 3), series.reshape(N, 3, 64), LABELS))
    for healthy in (series.mT, torch.randn(N, 3, 64), series.mT * (1 - 2 * (torch.arange(64) % 2))):  # each other sign
        assert not claims("LD514", *reached(nn.Conv1d(3, 4, 3), healthy, LABELS))
    steps = torch.randint(0, 4, (N, 13)).repeat_interleave(5, 1)[:, :64] * 1.57 + 0.78  # five samples a symbol
    symbols = torch.stack([steps.cos(), steps.sin()], 2) + 0.05 * torch.randn(N, 64, 2)
    assert claims("LD514", *reached(nn.Conv1d(2, 4, 7), symbols.reshape(N, 2, 64), LABELS))
    assert not claims("LD514", *reached(nn.Conv1d(2, 4, 7), symbols.mT, LABELS))


def fits(*means, spread=1.0, target=150.0, deviation=70.0):
    return [
        RegressionFit(
            function="mse_loss", line="t.py:1", elements=32, target_mean=target, target_deviation=deviation,
            prediction_mean=mean, prediction_deviation=spread, at=Moment(step=30 * index),
        )
        for index, mean in enumerate(means)
    ] + [FitsOver()]  # fmt: skip


def test_targets():
    assert claims("LD519", *fits(0.1, 3.0))
    assert not claims("LD519", *fits(0.1, 150.0, spread=60))  # reached
    assert not claims("LD519", *fits(140.0, 140.0, spread=50))  # began there
    assert not claims("LD519", *fits(0.1))
    assert not claims("LD519", *fits(0.1, 0.2, target=1.0, deviation=3.0))
    assert claims("LD519", *fits(0.1, 0.1, target=0.0, deviation=1e5))


def counted(stage, *counts, **known):
    classes = tuple(index for index, count in enumerate(counts) if count)
    return LabelCounts(
        stage=stage, field="batch[1]", classes=classes, counts=tuple(filter(None, counts)), complete=True, **known
    )


def test_label_sets():
    train, val = ClassFit(stage="train", units=3), ClassFit(stage="validate", units=3)
    assert not claims("LD516", counted("train", 100, 90, 80), counted("validate", 10, 9, 8), train, val)
    assert claims("LD516", counted("train", 100, 90), counted("validate", 10, 9, 8), val)
    assert claims("LD516", counted("train", 100, 90, 80), counted("validate", 0, 0, 80), train, val)
    assert claims("LD516", counted("train", 0, 100, 90), train)
    assert not claims("LD516", counted("train", 0, 100, 90), ClassFit(stage="train", units=3, ignored=0))
    assert not claims("LD516", counted("train", 100, 90), counted("validate", 10, 9, 8))  # no cross-entropy: open set
    assert not claims("LD516", counted("train", 100, 90, 2), counted("validate", 10, 9), train, val)  # rare: chance
    assert not claims("LD516", counted("train", 5, 4), ClassFit(stage="train", units=100))
    assert not claims("LD516", counted("train", 900, 90, 9, 2), ClassFit(stage="train", units=6))  # moves on a board
    assert claims("LD516", counted("train", 900, 90, 20, 20), ClassFit(stage="train", units=6))
    others = counted("validate", 0, 0, 40, loader=1)  # out of distribution on purpose: none of the classes of training
    assert not claims("LD516", counted("train", 100, 90), counted("validate", 10, 9), others, val)
    assert claims("LD516", counted("train", 100, 90), counted("validate", 1, 0, 40, loader=1), val)
    seen = counted("train", 100, 90), counted("validate", 10, 9, 8)
    assert not claims("LD516", *seen, val, ClassFit(stage="train", units=3, true=(50, 50, 50)))  # replayed
    right = ClassFit(stage="validate", units=3, true=(10, 9, 8), hits=(10, 9, 7))
    assert not claims("LD516", *seen, right)  # learned before
    assert claims("LD516", *seen, ClassFit(stage="validate", units=3, true=(10, 9, 8), hits=(10, 9, 1)))


def test_imbalance():
    def fit(true, predicted, hits, **known):
        return ClassFit(stage="validate", units=2, true=true, predicted=predicted, hits=hits, **known)

    train = counted("train", 970, 30)
    assert claims("LD511", train, fit((380, 12), (392, 0), (380, 0)))
    assert not claims("LD511", train, fit((380, 12), (381, 11), (379, 10)))  # learned
    assert not claims("LD511", train, fit((380, 12), (392, 0), (380, 0), weighted=True))
    assert not claims("LD511", train, fit((380, 4), (384, 0), (380, 0)))  # too few to say
    assert not claims("LD511", counted("train", 600, 400), fit((380, 120), (500, 0), (380, 0)))
