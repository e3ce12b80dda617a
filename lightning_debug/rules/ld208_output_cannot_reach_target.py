"""The last activation cannot produce the targets.

What it sees: a sigmoid, tanh, softmax or another call of limited range made the predictions of a regression loss
    (or of ``binary_cross_entropy``), with nothing but reshapes, epsilons and plain numbers that scale and shift it
    after it, and at least ``share`` of the targets lie outside that range by more than ``margin`` of its width.
Why it hurts: the loss cannot fall below the distance to those targets. The activation is driven into saturation,
    where its gradient vanishes, and the rest of the network stops learning.
How to fix: remove the activation, or scale the targets into its range: [0, 1] for sigmoid, [-1, 1] for tanh.
When to ignore: when a few targets are meant to be clipped. It is silent on targets that touch the bounds, on
    outputs that tensors scale or shift after the activation, and on values outside that may mark missing targets.
Broken:
    class Regressor(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 1), nn.Sigmoid())

        def training_step(self, batch, batch_idx):
            inputs, targets = batch
            loss = F.mse_loss(self.net(inputs), targets)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, targets = batch
            self.log("val_loss", F.mse_loss(self.net(inputs), targets))

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(640, 8)
    targets = inputs[:, :1] - inputs[:, 1:2] + 0.1 * torch.randn(640, 1)
    train = DataLoader(TensorDataset(inputs[:512], targets[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], targets[512:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Regressor(), train, val)
Repaired:
    class Regressor(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 1))

        def training_step(self, batch, batch_idx):
            inputs, targets = batch
            loss = F.mse_loss(self.net(inputs), targets)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, targets = batch
            self.log("val_loss", F.mse_loss(self.net(inputs), targets))

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(640, 8)
    targets = inputs[:, :1] - inputs[:, 1:2] + 0.1 * torch.randn(640, 1)
    train = DataLoader(TensorDataset(inputs[:512], targets[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], targets[512:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Regressor(), train, val)

Example:
    >>> from lightning_debug.evidence.loss import LossCall, LossGraph, Operand, Operation
    >>> from lightning_debug.record import Record
    >>> quantiles = (-3.0, -2.8, -2.5, -2.1, -1.8, -1.5, -0.8, 0.0, 0.7, 1.4, 1.8, 2.2, 2.4, 2.7, 3.1)
    >>> target = Operand(shape=(32, 1), minimum=-3.0, maximum=3.1, deviation=1.2, quantiles=quantiles)
    >>> scores = Operand(shape=(32, 1), minimum=0.4, maximum=0.6, from_model=True)
    >>> sigmoid = Operation(name="sigmoid", module="net.3", module_type="Sigmoid", line="train.py:12", lowest=0.0,
    ...                     highest=1.0)
    >>> call = LossCall(function="mse_loss", line="train.py:20", scores=scores, target=target, origin=(sigmoid,),
    ...                 reduction="mean")
    >>> for claim in output_cannot_reach_target(Record([LossGraph(calls=(call,))])):
    ...     print(claim.subject, "|", claim.message)
    train.py:12 (net.3) | nn.Sigmoid (net.3) gives values between 0 and 1, and at least 35 % of the targets of mse_loss
    (train.py:20) lie outside: they go from -3 to 3.1.

References:
    https://pytorch.org/docs/stable/nn.html#non-linear-activations-weighted-sum-nonlinearity
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from lightning_debug.evidence.loss import LossCall, LossGraph, Operation
from lightning_debug.finding import ERROR, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._loss import (
    RECTIFIERS,
    REGRESSION,
    activation,
    may_be_masked,
    nothing_seen,
    place,
    share_above,
    share_below,
    softmax_layer,
    training_calls,
)


@rule(
    "LD208",
    severity=ERROR,
    needs=LossGraph,
    explains=(
        "LD306",
        "LD308",
        "LD309",
        "LD519",
        "LD210",
        "LD602",
        "LD605",
        "LD702",
        "LD704",
        "LD705",
        "LD712",
    ),
)
def output_cannot_reach_target(record: Record, *, share: float = 0.02, margin: float = 0.05) -> Iterator[Claim | Skip]:
    """Claims one finding for each activation whose range leaves targets out."""
    yield from nothing_seen(record)
    for graph, call in training_calls(record, *REGRESSION, "binary_cross_entropy"):
        made, target = _limited(call), call.target
        meets = made is not None and made.merges and made.name != _SIMILARITY
        if made is None or meets or made.layer or target is None or not target.quantiles:
            continue
        outside = _outside(call, made, margin)
        if outside < share:
            continue
        scaled = "" if made in call.origin else ", scaled and shifted,"
        yield Claim(
            message=f"{softmax_layer(made)}{scaled} gives values {_range(made)}, and at least {outside * 100:.0f} % of "
            f"the targets of {call.function} ({call.line}) lie outside: they go from {target.minimum:.3g} to "
            f"{target.maximum:.3g}.",
            subject=place(call, made),
            measured={
                "lowest": made.lowest,
                "highest": made.highest,
                "share_outside": outside,
                "target_minimum": target.minimum,
                "target_maximum": target.maximum,
            },
            fix=f"Remove {softmax_layer(made)},{' widen what it is scaled to,' if scaled else ''} or scale the targets "
            f"into its range ({_range(made)}).",
            at=graph.at,
        )


def _limited(call: LossCall) -> Operation | None:
    """The activation with the limits of what is compared: of its own values, scaled and shifted by plain numbers."""
    edits: list[Operation] = []
    for made in call.origin:
        if made.name not in _EDITS or (made.amount is None and made.name != "neg") or made.merges or made.layer:
            break
        edits.append(made)
    else:
        return None
    if not edits or (made.lowest is None and made.highest is None) or made.layer:
        return activation(call.origin)
    ends: tuple[float | None, ...] = made.lowest, made.highest
    for edit in reversed(edits):
        factor, offset = _affine(edit)
        ends = tuple(None if end is None else factor * end + offset for end in ends)
        ends = ends if factor > 0 else ends[::-1]
        if not factor:
            return None
    return dataclasses.replace(made, lowest=ends[0], highest=ends[1])


def _affine(edit: Operation) -> tuple[float, float]:
    number = edit.amount or 0.0
    if edit.name in ("add", "sub"):
        return 1.0, number if edit.name == "add" else -number
    if edit.name == "rsub":
        return -1.0, number
    if edit.name == "neg":
        return -1.0, 0.0
    return (number if edit.name == "mul" else 1 / number if number else 0.0), 0.0


def _outside(call: LossCall, made: Operation, margin: float) -> float:
    """The share of targets that the activation cannot give."""
    target = call.target
    assert target is not None
    limited = made.lowest is not None and made.highest is not None
    width = (made.highest or 0.0) - (made.lowest or 0.0) if limited else target.deviation or 0.0
    outside = 0.0
    if made.lowest is not None and not (made.name in RECTIFIERS and made.lowest == 0.0):  # LD207's
        bound = made.lowest - margin * width
        if not may_be_masked(call, bound):
            outside += share_below(target, bound)
    if made.highest is not None:
        outside += share_above(target, made.highest + margin * width)
    return outside


def _range(made: Operation) -> str:
    if made.lowest is not None and made.highest is not None:
        return f"between {made.lowest:g} and {made.highest:g}"
    return f"of at least {made.lowest:g}" if made.lowest is not None else f"of at most {made.highest:g}"


_EDITS = ("add", "sub", "rsub", "mul", "div", "neg")
_SIMILARITY = "cosine_similarity"
"""Bounded whatever meets in it."""
