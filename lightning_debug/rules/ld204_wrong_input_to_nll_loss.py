"""nll_loss, ctc_loss or kl_div is given raw scores or probabilities instead of log-probabilities.

What it sees: the values given to ``nll_loss``, ``ctc_loss`` or ``kl_div`` (its first argument) cannot be
    log-probabilities: rows along the class dimension are probabilities (at least 0, summing to 1 within
    ``tolerance``), or a layer's output reaches it with no logarithm taken and has positive entries (above ``slack``)
    or rows whose exponentials sum to far more than 1 (log-sum-exp above ``excess`` for most). Or the targets of
    ``ctc_loss``, padding aside, hold its blank, which stands between symbols and cannot be one.
Why it hurts: nll_loss only picks the entry of the right class and negates it. With raw scores it falls without
    limit as scores grow, the classes are never compared, and the loss is soon negative; with probabilities
    gradients are weak where the model is wrong.
How to fix: use ``cross_entropy`` on the scores, or put ``log_softmax`` over the classes before ``nll_loss``.
When to ignore: when the entries are logarithms of densities or are weighted. It is silent wherever a logarithm was
    taken on the way: log-softmax, log of a mixture, log(p + eps), focal weights, rewards.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 4))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.nll_loss(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self.net(inputs)
            self.log("val_loss", F.nll_loss(scores, labels))
            self.log("val_accuracy", (scores.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(640, 8)
    labels = inputs[:, :4].argmax(dim=1)
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 4))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.nll_loss(F.log_softmax(self.net(inputs), dim=1), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self.net(inputs)
            self.log("val_loss", F.nll_loss(F.log_softmax(scores, dim=1), labels))
            self.log("val_accuracy", (scores.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(640, 8)
    labels = inputs[:, :4].argmax(dim=1)
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.loss import LossCall, LossGraph, Operand, Operation
    >>> from lightning_debug.record import Record
    >>> scores = Operand(shape=(32, 10), dim=1, rows=32, count=320, minimum=-1.2, maximum=1.4, from_model=True,
    ...                  log_sum_median=2.4, sum_errors=(9.0, 4.0))
    >>> linear = Operation(name="linear", module="net.2", line="train.py:12", shape=(32, 10), layer=True)
    >>> call = LossCall(function="nll_loss", line="train.py:20", scores=scores, origin=(linear,), value=-0.04)
    >>> for claim in wrong_input_to_nll_loss(Record([LossGraph(calls=(call,))])):
    ...     print(claim.subject, "|", claim.message)
    train.py:20 | nll_loss takes log-probabilities, which are at most 0, and is given raw scores with values from -1.2
    to 1.4 (loss -0.04).

References:
    https://pytorch.org/docs/stable/generated/torch.nn.NLLLoss.html
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.loss import LossCall, LossGraph
from lightning_debug.finding import ERROR, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._loss import (
    LOGARITHMS,
    SOFTMAX,
    activation,
    describe_values,
    is_distribution_by_value,
    misplaced,
    nothing_seen,
    place,
    sums_to_one,
    training_calls,
)


@rule(
    "LD204",
    severity=ERROR,
    needs=LossGraph,
    explains=(
        "LD209",
        "LD212",
        "LD601",
        "LD305",
        "LD701",
        "LD210",
        "LD602",
        "LD605",
        "LD702",
        "LD704",
        "LD705",
        "LD712",
    ),
)
def wrong_input_to_nll_loss(
    record: Record, *, tolerance: float = 1e-3, slack: float = 0.02, excess: float = 0.3
) -> Iterator[Claim | Skip]:
    """Claims one finding for each nll_loss whose input is no logarithm of a distribution."""
    yield from nothing_seen(record)
    for graph, call in training_calls(record, "nll_loss", "ctc_loss", "kl_div"):
        if call.blanks:
            yield _blanks(graph, call)
        if misplaced(call, tolerance) is not None:
            continue
        what = _instead(call, tolerance, slack, excess)
        if not what:
            continue
        value = "" if call.value is None else f" (loss {call.value:.3g})"
        yield Claim(
            message=f"{call.function} takes log-probabilities, which are at most 0, and is given {what} with "
            f"{describe_values(call.scores)}{value}.",
            subject=place(call),
            measured={
                "minimum": call.scores.minimum,
                "maximum": call.scores.maximum,
                "median_log_sum_exp": call.scores.log_sum_median,
                "loss": call.value,
            },
            fix="Give kl_div log_softmax of the scores; what it compares them with stays probabilities."
            if call.function == "kl_div"
            else "Take the logarithm of the probabilities, better as log_softmax of the scores they are made of."
            if what == "probabilities"
            else "Apply log_softmax over the classes first."
            if call.function == "ctc_loss"
            else "Replace nll_loss by cross_entropy, or apply log_softmax over the classes first.",
            at=graph.at,
        )


def _blanks(graph: LossGraph, call: LossCall) -> Claim:
    value = "" if call.value is None else f" (loss {call.value:.3g})"
    return Claim(
        message=f"{call.blanks} targets of ctc_loss are its blank, which is no symbol: what is computed for them is no "
        f"likelihood{value}.",
        subject=call.line or place(call),
        measured={"blanks": call.blanks, "loss": call.value},
        fix="Number the symbols from 1 and leave 0 to the blank (targets + 1, one class more), or name another blank=.",
        at=graph.at,
    )


def _instead(call: LossCall, tolerance: float, slack: float, excess: float) -> str:
    scores, made = call.scores, activation(call.origin)
    if scores.dim is None or scores.maximum is None or scores.log_sum_median is None:
        return ""
    by_softmax = made is not None and made.name in SOFTMAX and not made.merges
    if by_softmax and scores.maximum > 0 and sums_to_one(scores, scores.dim, tolerance):
        return "probabilities"
    if is_distribution_by_value(scores, scores.dim, tolerance):
        return "probabilities"
    known = call.origin and call.origin[-1].layer and not any(item.merges for item in call.origin)
    if not known or any(item.name in LOGARITHMS for item in call.origin):
        return ""
    return "raw scores" if scores.maximum > slack or scores.log_sum_median > excess else ""
