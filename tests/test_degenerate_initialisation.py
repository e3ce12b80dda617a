"""Signals that die out before training are named where training leaves them dead, and only there."""

import itertools

import pytest

from lightning_debug.evidence.model import Initialisation, InputDependence, LayerSignal, Place
from lightning_debug.record import Record
from lightning_debug.rules.ld411_degenerate_initialisation import degenerate_initialisation


def layers(*sizes):
    signals = itertools.pairwise(sizes)
    return Initialisation(
        steps=8,
        signals=tuple(LayerSignal(place=Place(name="linear", module="net.0"), before=a, after=b) for a, b in signals),
    )


DEAD = InputDependence(steps=64, change=0.0, scale=0.1)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ([layers(1.0, 3e-4, 1e-7, 1e-10), DEAD], 1),
        ([layers(1.0, 3e-4, 1e-7, 1e-10), InputDependence(steps=64, change=2.0, scale=3.0)], 0),  # Adam came out of it
        ([layers(1.0, 3e-4, 1e-7, 1e-10), InputDependence(steps=8, change=0.0, scale=0.1)], 0),  # too early to tell
        ([layers(1.0, 3e-4, 1e-7, 1e-10)], 0),
        ([layers(1.0, 0.6, 0.5, 0.0), DEAD], 0),  # only the last layer starts at zero
        ([layers(1.0, 0.3, 0.1, 0.03), DEAD], 0),  # no layer loses much
    ],
)
def test_signals_that_die(seen, expected):
    claims = list(degenerate_initialisation(Record(seen)))
    assert len(claims) == expected
