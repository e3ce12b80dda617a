"""The loss is one for another kind of task than the targets are.

What it sees: one of these, in the first steps of training:
    (a) MSE, MAE or Huber loss of one output against class labels: an integer field of the batch whose values are
    0 … K-1, K ≥ 3, in a program that means classes: it logs an accuracy (or F1, AUROC) and no regression metric; or
    the order of the labels carries no information: over at least ``pairs`` pairs of classes, the Spearman correlation
    between the distance of their mean inputs and the difference of their labels is below ``rank_correlation``, though
    inputs do tell the classes apart (``separation_p`` by permutation), and classes are about equally frequent (the
    rarest has ``evenness`` of its fair share).
    (b) MSE, MAE or Huber loss of softmax probabilities against one-hot targets.
    (c) Binary cross-entropy with targets outside of 0 … 1 by more than ``margin``; an error once the loss is below 0.
    (d) Cross-entropy with several 1s in a row of targets, or binary cross-entropy of a softmax against such rows.
    (e) Cross-entropy of a single score per sample.
Why it hurts: squared error on labels says that class 1 lies between 0 and 2, and punishes taking 0 for 9 81 times
    as much as taking 0 for 1. Behind a softmax it gives almost no gradient to a confidently wrong answer.
    Binary cross-entropy beyond 0 … 1 has no minimum: scores grow for ever. A softmax shares out one unit of
    probability, so two labels can never both be found. Of one score it is 1, whatever the input.
How to fix: one class of several: as many outputs as classes, and ``F.cross_entropy(logits, labels)`` with integer
    labels. Several labels at once: ``F.binary_cross_entropy_with_logits`` on as many outputs as labels.
    A number: ``F.mse_loss`` or ``F.l1_loss`` without an activation.
When to ignore: when it is meant. Silent on regression of ordered labels, ratings and counts (a regression metric is
    logged, or the order shows in the inputs); on the Brier score, where the source, a name or a metric says "brier";
    on targets that the program smooths or draws by itself, on weighted and on unreduced losses (masked labels) until
    they fall below 0; on an autoencoder of 0/1 data.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            return F.mse_loss(self.net(inputs).squeeze(1), labels.float())

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            outputs = self.net(inputs).squeeze(1)
            self.log("val_loss", F.mse_loss(outputs, labels.float()))
            self.log("val_accuracy", (outputs.round() == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    centres = 1.5 * torch.randn(6, 8)
    labels = torch.randint(0, 6, (960,))
    inputs = centres[labels] + torch.randn(960, 8)
    train = DataLoader(TensorDataset(inputs[:768], labels[:768]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[768:], labels[768:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 6))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            return F.cross_entropy(self.net(inputs), labels)

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            outputs = self.net(inputs)
            self.log("val_loss", F.cross_entropy(outputs, labels))
            self.log("val_accuracy", (outputs.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    centres = 1.5 * torch.randn(6, 8)
    labels = torch.randint(0, 6, (960,))
    inputs = centres[labels] + torch.randn(960, 8)
    train = DataLoader(TensorDataset(inputs[:768], labels[:768]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[768:], labels[768:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.loss import LossCall, LossGraph, Operand
    >>> from lightning_debug.record import Record
    >>> target = Operand(shape=(32,), from_batch=True, count=32, minimum=-1.0, maximum=1.0, share_in_unit=0.5)
    >>> call = LossCall(function="binary_cross_entropy_with_logits", line="train.py:9", reduction="mean",
    ...                 scores=Operand(shape=(32,)), target=target)
    >>> [claim.message for claim in loss_does_not_fit_task(Record([LossGraph(calls=(call,))]))]
    ['binary_cross_entropy_with_logits gets targets from -1 to 1, 50 % of them outside of 0 to 1.']

References:
    Hui & Belkin, Evaluation of neural architectures trained with square loss vs cross-entropy (2021).
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.loss import LossCall, LossGraph
from lightning_debug.evidence.loss_checks import StatedIntent
from lightning_debug.finding import ERROR, WARNING, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._label_tasks import means_classes
from lightning_debug.rules._loss_tasks import DISTANCES, ONE_HOT_ERROR, is_autoencoder, number, softmax_dim

BINARY = ("binary_cross_entropy", "binary_cross_entropy_with_logits")


@rule("LD209", severity=WARNING, needs=LossGraph, explains=("LD208",))
def loss_does_not_fit_task(
    record: Record,
    *,
    margin: float = 0.3,
    rank_correlation: float = 0.2,
    separation_p: float = 0.01,
    evenness: float = 0.3,
    pairs: int = 10,
) -> Iterator[Claim]:
    """Claims one finding for each line whose loss is for another task."""
    intent = record.last(StatedIntent) or StatedIntent()
    said: set[str] = set()
    graphs = [graph for graph in record.of(LossGraph) if graph.step == "training_step"]
    for graph in graphs:
        for call in graph.reaching:
            if call.target is None or call.line in said:
                continue
            claim = (
                _class_labels(record, graph, call, intent, rank_correlation, separation_p, evenness, pairs)
                or _one_hot(call, intent)
                or _outside_unit(call, margin, lowest=_sunk(graphs, call.line))
                or _several_labels(call, intent)
                or _one_score(call)
            )
            if claim is not None:
                said.add(call.line)
                yield claim


def _class_labels(
    record: Record,
    graph: LossGraph,
    call: LossCall,
    intent: StatedIntent,
    rank_correlation: float,
    separation_p: float,
    evenness: float,
    pairs: int,
) -> Claim | None:
    order = means_classes(
        record, graph, call, intent,
        rank_correlation=rank_correlation, separation_p=separation_p, evenness=evenness, pairs=pairs,
    )  # fmt: skip
    if order is None:
        return None
    how = {"l1_loss": "MAE", "huber_loss": "Huber loss", "smooth_l1_loss": "Huber loss"}.get(call.function, "MSE")
    return Claim(
        message=f"{how} compares one output with the {order.classes} class labels {order.lowest} … {order.highest} "
        f"of {order.field}, as if they were amounts.",
        subject=call.line or call.function,
        measured={
            "function": call.function,
            "classes": order.classes,
            "field": order.field,
            "rank_correlation": order.rank_correlation,
            "separation_p": order.separation_p,
            "logged": list(intent.logged),
        },
        fix=f"Give the model {order.classes} outputs and use F.cross_entropy(outputs, labels) with integer labels.",
    )


def _one_hot(call: LossCall, intent: StatedIntent) -> Claim | None:
    target, scores = call.target, call.scores
    dim = softmax_dim(call)
    if call.function not in DISTANCES or target is None or dim is None or target.shape != scores.shape:
        return None
    error = target.sum_errors[dim] if dim < len(target.sum_errors) else None
    one_hot = target.integral and target.minimum == 0 and target.maximum == 1
    if not one_hot or error is None or error > ONE_HOT_ERROR or not target.from_batch:
        return None
    stated = (*intent.words, *(name.lower() for name in (*intent.logged, *intent.metrics)))
    if any("brier" in word or "quadratic score" in word or "proper scor" in word for word in stated):
        return None
    classes = scores.shape[dim]
    return Claim(
        message=f"{call.function} compares softmax probabilities of {classes} classes with one-hot targets.",
        subject=call.line or call.function,
        measured={"function": call.function, "classes": classes},
        fix="Remove the softmax and use F.cross_entropy(logits, labels); for the Brier score, name it so.",
    )


def _sunk(graphs: list[LossGraph], line: str) -> float | None:
    """The lowest loss below 0 of one that is made of binary cross-entropies only: no mask or weight takes it there."""
    values = [
        graph.loss
        for graph in graphs
        if graph.loss is not None
        and any(one.line == line for one in graph.calls)
        and all(one.function in BINARY for one in graph.calls)
    ]
    return min((value for value in values if value < -1e-3), default=None)


def _outside_unit(call: LossCall, margin: float, *, lowest: float | None) -> Claim | None:
    target = call.target
    if call.function not in BINARY or target is None or target.minimum is None or target.maximum is None:
        return None
    inside = -margin <= target.minimum and target.maximum <= 1 + margin
    share = 1 - (target.share_in_unit if target.share_in_unit is not None else 1.0)
    unsure = call.reduction == "none" or call.weighted or not target.from_batch
    if inside or share <= 0 or (unsure and lowest is None):
        return None
    span = f"{number(target.minimum)} to {number(target.maximum)}"
    if not target.integral:
        fix = "If the target is an amount, use F.mse_loss; if a probability, scale it to 0 … 1."
    elif (target.distinct or 3) > 2:
        fix = "Give the model one output a class and use F.cross_entropy(outputs, labels)."
    else:
        low, high = number(target.minimum), number(target.maximum)
        fix = f"Map the labels {low} and {high} to 0 and 1 before the loss."
    return Claim(
        message=f"{call.function} gets targets from {span}, {share:.0%} of them outside of 0 to 1".replace("%", " %")
        + (f", and the loss has fallen to {lowest:.4g}: below 0 it falls for ever." if lowest is not None else "."),
        subject=call.line or call.function,
        measured={
            "function": call.function,
            "minimum": target.minimum,
            "maximum": target.maximum,
            "share": share,
            **({} if lowest is None else {"lowest_loss": lowest}),
        },
        fix=fix,
        severity=None if lowest is None else ERROR,
    )


def _several_labels(call: LossCall, intent: StatedIntent) -> Claim | None:
    target = call.target
    if target is None or target.rows_hold != "multi-hot" or (target.row_sum_highest or 0) < 2:
        return None
    classes = target.shape[target.dim] if target.dim is not None else 0
    if target.shape != call.scores.shape or not target.from_batch or is_autoencoder(call, intent):
        return None  # of another shape they are classes' indices, which may all be 0 and 1
    softmax = call.function == "binary_cross_entropy" and softmax_dim(call) == target.dim
    if not softmax and call.function != "cross_entropy":
        return None
    most = number(target.row_sum_highest or 0)
    said = "a softmax" if softmax else "cross_entropy, which applies a softmax,"
    return Claim(
        message=f"{said[:1].upper() + said[1:]} shares one unit of probability among {classes} labels, "
        f"of which up to {most} are 1 at once.",
        subject=call.line or call.function,
        measured={"function": call.function, "labels": classes, "most_at_once": target.row_sum_highest},
        fix="Remove the softmax, if there is one, and use F.binary_cross_entropy_with_logits(logits, targets).",
    )


def _one_score(call: LossCall) -> Claim | None:
    scores = call.scores
    dim = scores.dim if scores.dim is not None else 1
    if call.function != "cross_entropy" or len(scores.shape) < 2 or scores.shape[dim] != 1:
        return None
    if call.target is None or (call.target.minimum, call.target.maximum) == (0.0, 0.0):
        return None  # a class-less task that is not one; nothing to learn, and nothing wrong
    return Claim(
        message=f"cross_entropy gets scores of shape {tuple(scores.shape)}: 1 score, whose softmax is always 1.",
        subject=call.line or call.function,
        measured={"shape": list(scores.shape), "function": call.function},
        fix="Use F.binary_cross_entropy_with_logits for two classes, or give the model one output a class.",
    )
