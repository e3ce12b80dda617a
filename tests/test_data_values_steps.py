"""Series whose steps are normalised over their channels."""

import pytest
import torch
from torch.nn import functional as F

from tests.test_data_values_rules import claims, seeded, values

UNITS = torch.tensor([1.0, 40, 3, 800, 2, 50])
SERIES = UNITS * (2 + torch.randn(96, 20, 6, generator=seeded()) / 4)


def by_step(series, *, unbiased=True):
    return (series - series.mean(-1, keepdim=True)) / series.std(-1, keepdim=True, unbiased=unbiased)


@pytest.mark.parametrize("unbiased", [True, False])
def test_channels_of_different_units(unbiased):
    (told,) = claims("LD502", *values(by_step(SERIES, unbiased=unbiased)))
    assert told.startswith("Every step of batch[0] has mean 0 and deviation 1 over its 6 channels")


@pytest.mark.parametrize(
    "series",
    [
        SERIES,
        (SERIES - SERIES.mean((0, 1))) / SERIES.std((0, 1)),
        (SERIES - SERIES.mean(1, keepdim=True)) / SERIES.std(1, keepdim=True),  # each channel of each sample
        F.layer_norm(torch.randn(96, 20, 16, generator=seeded()), (16,)),  # no levels of their own
        by_step(torch.sin(torch.linspace(0, 6, 40)) * (2 + torch.randn(96, 50, 1, generator=seeded()) / 4)),  # spectra
        by_step(SERIES[..., :3]),  # places in space
        by_step(SERIES).transpose(1, 2),  # channels first
    ],
    ids=["raw", "by channel", "by sample", "layer norm", "spectra", "points", "channels first"],
)
def test_series_that_are_left_alone(series):
    assert not claims("LD502", *values(series))


PIXELS = torch.rand(96, 3, 12, 12, generator=seeded(4)) * torch.tensor([0.3, 0.5, 0.8])[:, None, None]


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("size", [12, 40])  # of the larger pictures only some values are read
def test_each_pixel_of_a_picture(unbiased, size):
    raw = F.interpolate(PIXELS, size)
    pixels = (raw - raw.mean(1, True)) / raw.std(1, unbiased=unbiased, keepdim=True)
    (told,) = claims("LD502", *values(pixels))
    assert told.startswith("Every pixel of batch[0] has mean 0 and deviation 1 over its 3 channels")


@pytest.mark.parametrize(
    "pictures",
    [
        (PIXELS - PIXELS.mean((0, 2, 3), True)) / PIXELS.std((0, 2, 3), keepdim=True),
        (PIXELS - PIXELS.mean((1, 2, 3), True)) / PIXELS.std((1, 2, 3), keepdim=True),
        F.one_hot(PIXELS.argmax(1), 3).movedim(-1, 1).float(),
        PIXELS / PIXELS.sum(1, True),
        PIXELS - PIXELS.mean(1, True),
        F.layer_norm(PIXELS.repeat(1, 4, 1, 1).movedim(1, -1), (12,)).movedim(-1, 1),  # a spectrum a pixel
    ],
    ids=["by channel", "by picture", "one-hot", "shares", "differences of colours", "spectra"],
)
def test_other_pictures(pictures):
    assert not claims("LD502", *values(pictures))
