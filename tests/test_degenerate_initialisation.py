"""Signals that die out before training are named where training leaves them dead, and only there."""

import itertools

import pytest
import pytorch_lightning
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug import ModelInspector
from lightning_debug.evidence.model import AlikeUnits, Initialisation, InputDependence, LayerSignal, Place
from lightning_debug.evidence.run import RunContext
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


@pytest.mark.parametrize("resumed", [False, True])
def test_signals_that_grow_by_what_was_learned(resumed):
    """The weights of a second fit give predictions in the thousands where the targets are."""
    claims = list(degenerate_initialisation(Record([RunContext(resumed=resumed), layers(1.0, 14.0, 90.0, 1700.0)])))
    assert bool(claims) is not resumed


@pytest.mark.parametrize(
    ("zero", "told", "expected"),
    [
        (True, [DEAD], 1),
        (False, [DEAD], 1),  # a norm of equal units lets rounding through
        (True, [], 0),  # nothing moves at all: the rate is 0, say
        (True, [InputDependence(steps=64, change=2.0, scale=3.0)], 0),
    ],
)
def test_rows_that_stay_equal_where_the_output_is_constant(zero, told, expected):
    unit = AlikeUnits(name="net.0.weight", shape=(32, 16), value=0.01, gradient_alike=True, gradient_zero=zero)
    claims = list(degenerate_initialisation(Record([Initialisation(steps=8, alike=(unit,), others_move=False), *told])))
    assert [claim.subject for claim in claims] == ["net.0.weight"] * expected


@pytest.mark.parametrize("woken", [True, False])
def test_zeros_that_keep_all_gradients_away(woken):
    """Both matrices of an adapter, with everything else frozen: nothing moves, as random values would."""
    unit = AlikeUnits(name="adapter.down", shape=(4, 64), value=0.0, gradient_zero=True, woken=woken)
    seen = Initialisation(steps=8, alike=(unit,), others_move=False)
    assert bool(list(degenerate_initialisation(Record([seen])))) is woken


class Dense(nn.Module):
    def __init__(self, inputs, outputs, value):
        super().__init__()
        start = torch.randn(inputs, outputs) / inputs if value is None else torch.full((inputs, outputs), float(value))
        self.weight = nn.Parameter(start)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x):
        return x @ self.weight + self.bias


class Adapted(nn.Module):
    """A zero second factor, a gate at zero and matrices of zeros behind a switch that is off: all start well."""

    def __init__(self):
        super().__init__()
        self.base, self.down, self.up = Dense(8, 8, None), Dense(8, 2, None), Dense(2, 8, 0)
        self.gate, self.place = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(1, 8))
        self.later = nn.Sequential(Dense(8, 8, 0), Dense(8, 8, 0))
        self.out = Dense(8, 3, 0)

    def forward(self, x):
        x = x + self.place
        h = self.base(x) + self.up(self.down(x)) + 0.0 * self.later(x)
        return self.out(h + self.gate * torch.tanh(h))


class Factors(nn.Module):
    """Scores of classes from the product of two embeddings and a bias of each class."""

    def __init__(self, *zeros):
        super().__init__()
        self.groups, self.classes = nn.Embedding(4, 6), nn.Embedding(3, 6)
        self.bias = nn.Embedding(3, 1)
        for name in (*zeros, "bias"):
            nn.init.zeros_(getattr(self, name).weight)

    def forward(self, x):
        return self.groups(x[:, :4].argmax(1)) @ self.classes.weight.T + self.bias.weight.T


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda: Factors("groups", "classes"), ["groups.weight", "classes.weight"]),
        (lambda: Factors("classes"), []),
        (lambda: nn.Sequential(Dense(8, 6, 0), nn.ReLU(), Dense(6, 3, 0)), ["0.weight", "2.weight"]),
        (lambda: nn.Sequential(Dense(8, 6, None), nn.ReLU(), Dense(6, 3, 0)), []),
        (lambda: nn.Sequential(Dense(8, 6, 0.1), nn.Tanh(), Dense(6, 3, None)), []),  # unlike weights behind it
        (lambda: nn.Sequential(Dense(8, 6, 0.1), nn.Tanh(), Dense(6, 3, 0.1)), ["0.weight.T", "2.weight"]),
        (Adapted, []),
    ],
)
def test_zeros_in_parameters_of_the_users_own(build, expected):
    class Classifier(pytorch_lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = build()

        def training_step(self, batch, batch_idx):
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    x = torch.randn(96, 8)
    inspector = ModelInspector()
    trainer = pytorch_lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        callbacks=[inspector],
    )
    trainer.fit(Classifier(), DataLoader(TensorDataset(x, x[:, :3].argmax(1)), 8))
    (seen,) = inspector.session.record.of(Initialisation)
    assert [unit.name for unit in seen.alike] == [f"net.{name}" for name in expected]
    assert len(list(degenerate_initialisation(Record([seen])))) == bool(expected)
