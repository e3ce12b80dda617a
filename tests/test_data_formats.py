"""LD501's fix: what the inputs are decides how they are brought to the order of 1."""

import pytest
import torch
from torch import nn

from lightning_debug.evidence.modes import ModeGap
from lightning_debug.finding import Claim
from lightning_debug.record import Record
from lightning_debug.registry import get
from tests.test_data_values_rules import LABELS, TABLE, N, reached, seeded

G = seeded(5)
WAVE = torch.sin(torch.arange(400) / 5 + 6 * torch.rand(N, 1, generator=G)) * torch.rand(N, 1, generator=G)
PIXELS = torch.rand(N, 1, 12, 12, generator=G)


def linear(width):
    return nn.Sequential(nn.Flatten(), nn.Linear(width, 3))


def image(*first):
    return nn.Sequential(*first, nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(800, 3))


def sound(scale):
    return (WAVE * scale).round()


KNOWN = {
    "sound, convolved": (nn.Conv1d(1, 8, 9), sound(32767)[:, None], "wave forms by 32768:"),
    "sound, flat": (linear(400), sound(32767), "wave forms by 32768:"),
    "sound, recurrent": (nn.GRU(1, 8, batch_first=True), sound(32767)[..., None], "wave forms by 32768:"),
    "sound in frames": (nn.Linear(20, 8), sound(32767).unfold(1, 20, 10), "wave forms by 32768:"),
    "quiet sound": (nn.Conv1d(1, 8, 9), sound(1500)[:, None], "2048 for 12 bits"),
    "bytes": (image(), (PIXELS * 255).round(), "images by 255"),
    "10 bits, saturated": (image(), (PIXELS * 1200).round().clamp(max=1023), "images by 1023"),
    "12 bits": (image(), (PIXELS * 3900).round(), "images by 4095, the largest value of 12 bits"),
    "16 bits": (image(), (PIXELS * 60000).round(), "images by 65535, the largest value of 16 bits"),
    "tomography": (image(), (PIXELS * 3000).round() - 1024, "Hounsfield"),
}
OTHERS = {
    "sound that is resampled": (nn.Conv1d(1, 8, 9), 9000 * WAVE[:, None], "each channel"),
    "powers of a spectrum": (image(), PIXELS**4 * 5000, "each channel"),
    "counts of six sensors": (nn.Linear(6, 8), (2000 * torch.randn(N, 50, 6, generator=G)).round(), "each feature"),
    "a table": (linear(8), (TABLE * 3000).round(), "each feature"),
    "a wide table": (
        linear(80),
        (torch.randn(N, 80, generator=G) * torch.logspace(0, 4, 80)).round().clamp(-32768, 32767),
        "each feature",
    ),
}


@pytest.mark.parametrize("name", KNOWN | OTHERS)
def test_fix(name):
    model, inputs, words = (KNOWN | OTHERS)[name]
    found = get("LD501").function(Record(reached(model, inputs, LABELS)))
    (told,) = [item for item in found if isinstance(item, Claim)]
    assert words in told.fix
    assert ("feature" in told.fix) == (words == "each feature")


@pytest.mark.parametrize(("cost", "told"), [(1.9, True), (0.2, False)])
def test_bytes_divided_twice_before_a_batch_norm(cost, told):
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(800, 3))
    gap = ModeGap(samples=32, steps=90, first_loss=0.7, train_loss=0.16, eval_loss=cost, cured_loss=0.16)
    found = get("LD501").function(Record([*reached(model, PIXELS / 255, LABELS), gap]))
    assert [claim.fix[:25] for claim in found if isinstance(claim, Claim)] == ["Divide by 255 once, not t"] * told
