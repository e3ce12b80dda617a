"""What steps compare with their targets, and the scales on which inputs reach the first layer."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_debug.evidence.data import FieldValues, LabelCounts
from lightning_debug.evidence.data_relations import SampleCopies
from lightning_debug.evidence.data_values import ClassFit, FirstLayerInput
from lightning_debug.finding import Claim
from lightning_debug.probes.batch_roles import batch_roles
from lightning_debug.probes.data_reach import ReachTrace
from lightning_debug.record import Record
from lightning_debug.registry import get

INPUTS = torch.randn(32, 8, generator=torch.Generator().manual_seed(0))


def compared(step):
    """What a step by a linear layer compares."""
    layer, wanted = nn.Linear(8, 1), 350 + 80 * INPUTS[:, :1]
    batch = INPUTS, wanted
    with (watch := ReachTrace(layer, batch, batch_roles(batch))):
        step(layer(INPUTS), wanted)
    assert watch.error is None
    return [(item.function, 300 < item.target_mean < 400, abs(item.prediction_mean) < 5) for item in watch.fits]


@pytest.mark.parametrize(
    ("step", "names"),
    [
        (lambda guess, wanted: ((guess - wanted) ** 2).mean(), ["difference"]),
        (lambda guess, wanted: (wanted.squeeze(1).float() - guess.squeeze(1)).abs().sum(), ["difference"]),
        (lambda guess, wanted: torch.distributions.Normal(guess, 1.0).log_prob(wanted), ["difference"]),
        (lambda guess, wanted: F.gaussian_nll_loss(guess, wanted, torch.ones(32, 1)), ["gaussian_nll_loss"]),
        (lambda guess, wanted: ((guess * 80 + 350) - wanted).clamp(min=0), []),  # no distance of it is taken
        (lambda guess, wanted: (guess - (wanted - 350) / 80).square(), []),  # scaled before it is compared
        (lambda guess, wanted: (guess.detach() - wanted).square(), []),
        (lambda guess, wanted: (guess - wanted.mT).square(), []),
    ],
)
def test_differences_by_hand_are_comparisons(step, names):
    assert compared(step) == [(name, True, True) for name in names]


def _seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_a_scale_that_training_alone_is_given_shows_through_noise():
    """Pixels normalised in a hook that training alone enters, and noise there; noise by itself is no scale."""
    noise, profile = 0.2 * torch.randn(96, 64, generator=_seeded(1)), torch.rand(64, generator=_seeded(2))
    raw = (profile + 0.2 * torch.randn(96, 64, generator=_seeded(3))).clamp(0, 1)

    def both(train):
        sides = []
        for stage, inputs in (("train", train), ("validate", raw)):
            moments = {"means": tuple(inputs.mean(0).tolist()), "deviations": tuple(inputs.std(0).tolist())}
            sides.append(
                FirstLayerInput(
                    stage=stage, field="x", module="net", shape=(96, 64), samples=96,
                    lowest=float(inputs.min()), highest=float(inputs.max()), **moments,
                )
            )  # fmt: skip
        return sides

    empty = [FieldValues(stage=stage, field="x", role="input", samples=96) for stage in ("train", "validate")]

    def told(*layers):
        return [item for item in get("LD515").function(Record([*empty, *layers])) if isinstance(item, Claim)]

    assert told(*both((raw - 0.4) / 0.4 + noise))
    assert not told(*both(raw + 2.5 * noise))
    assert not told(*both(raw * (0.5 + torch.rand(96, 1, generator=_seeded(4))) - 0.2))


@pytest.mark.parametrize("grows", [False, True])
def test_states_of_a_memory_that_is_filled_come_again(grows):
    copied = SampleCopies(samples=200, copies=60, exact=60, expected=0.01, compared=32, grows=grows)
    found = list(get("LD507").function(Record([copied])))
    assert [isinstance(item, Claim) for item in found] == [not grows]


@pytest.mark.parametrize(("true", "said"), [((1,) * 32, 0), ((250,) * 4 + (0,) * 28, 1)])
def test_units_that_the_loss_itself_asks_for_are_used(true, said):
    """A contrastive loss counts the places in the batch, whatever the labels that come along."""
    labels = LabelCounts(stage="train", field="batch[1]", classes=(0, 1, 2, 3), counts=(250,) * 4, complete=True)
    fit = ClassFit(stage="train", units=32, plain=True, true=true)
    assert len(list(get("LD516").function(Record([labels, fit])))) == said
