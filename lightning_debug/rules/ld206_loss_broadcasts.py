"""Prediction and target have different shapes, and the loss averages over all pairs.

What it sees: a loss, or arithmetic that reaches one, combines a prediction of shape (N, 1) with a target of shape
    (N,), or any two shapes that differ by a dimension of size 1 in such a way that broadcasting forms all pairs; a
    loss gets (N, 1) and (1, N); or a prediction of shape (N, N), which arithmetic has made of two parts, with a
    target of shape (N,).
Why it hurts: each prediction is compared with every target of the batch. The best answer to that is the mean of
    the targets for every sample: the loss falls to the targets' variance and stays there. PyTorch only warns, and
    not for arithmetic written by hand.
How to fix: bring both to one shape before the loss: ``prediction.squeeze(-1)`` or ``target.unsqueeze(-1)``.
When to ignore: when all pairs are wanted. It is silent where the dimension is added on the line of the arithmetic
    itself (``prediction[:, None] - target``, as pairwise, ranking and survival losses do), on scalars, on weights
    and masks that broadcast along a dimension without forming pairs.
Broken:
    class Regressor(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 1))

        def training_step(self, batch, batch_idx):
            inputs, targets = batch
            loss = ((self.net(inputs) - targets) ** 2).mean()
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, targets = batch
            self.log("val_loss", ((self.net(inputs) - targets) ** 2).mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(640, 8)
    targets = inputs[:, 0] - inputs[:, 1] + 0.1 * torch.randn(640)
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
            loss = ((self.net(inputs).squeeze(1) - targets) ** 2).mean()
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, targets = batch
            self.log("val_loss", ((self.net(inputs).squeeze(1) - targets) ** 2).mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(640, 8)
    targets = inputs[:, 0] - inputs[:, 1] + 0.1 * torch.randn(640)
    train = DataLoader(TensorDataset(inputs[:512], targets[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], targets[512:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Regressor(), train, val)

Example:
    >>> from lightning_debug.evidence.loss import LossCall, LossGraph, Operand
    >>> from lightning_debug.record import Record
    >>> scores = Operand(shape=(32, 1), from_model=True)
    >>> target = Operand(shape=(32,), from_batch=True, field="batch[1]")
    >>> call = LossCall(function="mse_loss", line="train.py:20", scores=scores, target=target, value=2.1,
    ...                 aligned_value=1.3)
    >>> for claim in loss_broadcasts(Record([LossGraph(calls=(call,))])):
    ...     print(claim.subject, "|", claim.message)
    train.py:20 | mse_loss compares predictions of shape (32, 1) with targets of shape (32,), batch[1], which broadcast
    to (32, 32): it is 2.1 over all 1024 pairs, and 1.3 over the 32 that belong together.

References:
    https://pytorch.org/docs/stable/notes/broadcasting.html
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from lightning_debug.evidence.loss import LossCall, LossGraph, Operand, Operation
from lightning_debug.finding import ERROR, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._loss import (
    nothing_seen,
    place,
    training_calls,
)

ELEMENTWISE = (
    *("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "gaussian_nll_loss", "poisson_nll_loss", "kl_div"),
    *("binary_cross_entropy", "binary_cross_entropy_with_logits", "soft_margin_loss", "hinge_embedding_loss"),
)
ARITHMETIC = ("add", "sub", "rsub", "mul", "div", "rdiv")


@rule(
    "LD206",
    severity=ERROR,
    needs=LossGraph,
    explains=(
        *("LD101", "LD209", "LD212", "LD309", "LD210", "LD505"),
        *("LD602", "LD605", "LD702", "LD704", "LD705", "LD712"),
    ),
)
def loss_broadcasts(record: Record) -> Iterator[Claim | Skip]:
    """Claims one finding for each loss that forms pairs."""
    yield from nothing_seen(record)
    for graph, call in training_calls(record, *ELEMENTWISE, "broadcast", "difference"):
        target = call.target
        made = None if target is None else _made_of_pairs(graph, call)
        if made is not None and target is not None:
            yield _each_with_each(graph, call, made, target)
            continue
        if call.function == "difference" or target is None:
            continue
        crosswise = call.function != "broadcast" and _crosswise(call.scores.shape, target.shape, graph.batch_size)
        if not crosswise and not _forms_pairs(call.scores.shape, target.shape):
            continue
        if call.function == "broadcast" and call.aligned_by:
            continue
        pairs = _broadcast(call.scores.shape, target.shape)
        name = "arithmetic combines" if call.function == "broadcast" else f"{call.function} compares"
        field = f", {target.field}," if target.field else ","
        values = ""
        if call.value is not None and call.aligned_value is not None:
            what = "its mean square" if call.function == "broadcast" else "it"
            values = (
                f": {what} is {call.value:.3g} over all {math.prod(pairs)} pairs, and {call.aligned_value:.3g} over "
                f"the {math.prod(target.shape)} that belong together"
            )
        yield Claim(
            message=f"{name} predictions of shape {call.scores.shape} with targets of shape {target.shape}"
            f"{field} which broadcast to {pairs}{values}.",
            subject=place(call),
            measured={
                "prediction_shape": call.scores.shape,
                "target_shape": target.shape,
                "broadcast_shape": pairs,
                "loss": call.value,
                "aligned_loss": call.aligned_value,
            },
            fix="Bring both to one shape before the loss: "
            + ("the samples first in both." if crosswise else _squeezed(call.scores.shape, target.shape)),
            at=graph.at,
        )


def _made_of_pairs(graph: LossGraph, call: LossCall) -> Operation | None:
    """What made a prediction for each pair of samples, where there is a target for each sample."""
    shape = call.scores.shape
    if len(shape) != 2 or shape[0] < 2 or call.target is None or call.target.shape != shape[:1]:
        return None
    made = next((item for item in reversed(call.origin) if item.shape == shape), None)
    square = shape[0] == shape[1] == graph.batch_size
    if call.function == "difference" and not (call.scores.from_model and call.target.from_batch):
        return None
    return made if square and made is not None and made.merges and made.name in ARITHMETIC else None


def _each_with_each(graph: LossGraph, call: LossCall, made: Operation, target: Operand) -> Claim:
    size, name = target.shape[0], "arithmetic" if call.function == "difference" else call.function
    return Claim(
        message=f"{name} compares predictions of shape {call.scores.shape} with targets of shape "
        f"{target.shape}: {made.name} at {made.line} has combined each of {size} samples with each, as shapes "
        f"({size}, 1) and ({size},) do.",
        subject=place(call, made),
        measured={"prediction_shape": call.scores.shape, "target_shape": target.shape},
        fix=f"Bring what {made.name} at {made.line} combines to one shape first: squeeze(-1) where a 1 is left.",
        at=graph.at,
    )


def _forms_pairs(one: tuple[int, ...], two: tuple[int, ...]) -> bool:
    longer, shorter = sorted((one, two), key=len, reverse=True)
    if len(longer) != len(shorter) + 1:
        return False
    dropped = any(size == 1 and longer[:at] + longer[at + 1 :] == shorter for at, size in enumerate(longer))
    return dropped and math.prod(_broadcast(one, two)) > math.prod(longer)


def _squeezed(scores: tuple[int, ...], target: tuple[int, ...]) -> str:
    longer = "prediction" if len(scores) > len(target) else "target"
    return f"{longer}.squeeze(-1) (or unsqueeze the other)."


def _crosswise(one: tuple[int, ...], two: tuple[int, ...], size: int | None) -> bool:
    """Whether the samples are in front in one, and behind a 1 in the other, as ``unsqueeze(0)`` leaves them.

    >>> _crosswise((8, 1), (1, 8), 8), _crosswise((8, 5, 1), (8, 1, 5), 8)
    (True, False)
    """
    first, second = sorted((one, two), key=lambda shape: shape[:1] == (1,))
    if not size or size < 2 or first[:1] != (size,) or second[:1] != (1,) or len(first) != len(second):
        return False
    unequal = [at for at, (a, b) in enumerate(zip(first, second, strict=True)) if a != b]
    return len(unequal) == 2 and first[unequal[1]] == 1 and second[unequal[1]] == size


def _broadcast(one: tuple[int, ...], two: tuple[int, ...]) -> tuple[int, ...]:
    length = max(len(one), len(two))
    padded = [(1,) * (length - len(shape)) + shape for shape in (one, two)]
    return tuple(max(pair) for pair in zip(*padded, strict=True))
