"""The loss begins far above what a model pays that knows nothing.

What it sees: in a fit that starts afresh, the losses of the first ``steps`` steps, all of them above ``factor``
    times what uniform predictions cost: ln C for cross-entropy over C classes, ln 2 for binary cross-entropy; for MSE
    above ``regression_factor`` times the mean square of the targets, which is what the prediction 0 costs (for MAE
    their root mean square); and above it by ``margin`` at least. Judged only where the loss is one such call,
    averaged and unweighted, on at least ``targets`` targets.
Why it hurts: the untrained model is confidently wrong. The first part of training is spent on unlearning that, with
    gradients so large that they can overshoot, and units that saturate on the way may stay so.
How to fix: make the last layer's weights small (its default initialisation is fine; its bias may hold the prior),
    normalise the inputs, divide the scores by a temperature that fits, scale embeddings that are tied to the output.
When to ignore: when weights were trained before, for other labels. Silent where normalisation layers show earlier
    training, on resumed fits, on weighted losses, on losses with several terms, on losses below the expectation, on
    targets with an offset (that is LD519), and where targets lower the scores by a margin.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 10))
            nn.init.normal_(self.net[2].weight, std=5.0)

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            logits = self.net(inputs)
            self.log("val_loss", F.cross_entropy(logits, labels))
            self.log("val_accuracy", (logits.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    labels = torch.randint(0, 10, (960,))
    inputs = torch.randn(10, 8)[labels] + 0.5 * torch.randn(960, 8)
    train = DataLoader(TensorDataset(inputs[:768], labels[:768]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[768:], labels[768:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 10))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            logits = self.net(inputs)
            self.log("val_loss", F.cross_entropy(logits, labels))
            self.log("val_accuracy", (logits.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    labels = torch.randint(0, 10, (960,))
    inputs = torch.randn(10, 8)[labels] + 0.5 * torch.randn(960, 8)
    train = DataLoader(TensorDataset(inputs[:768], labels[:768]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[768:], labels[768:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.loss import LossCall, LossGraph, Operand
    >>> from lightning_debug.evidence import Moment
    >>> from lightning_debug.record import Record
    >>> call = LossCall(function="cross_entropy", line="train.py:9", reduction="mean", value=24.0,
    ...                 scores=Operand(shape=(32, 10), dim=1), target=Operand(shape=(32,), from_batch=True))
    >>> graphs = [LossGraph(loss=24.0, losses=1, calls=(call,), at=Moment(step=step)) for step in range(3)]
    >>> [claim.message for claim in initial_loss_off(Record(graphs))]
    ['The loss begins at 24, 10.4 times the 2.3 (ln 10) that uniform predictions cost, and is still 24 at step 2.']

References:
    Karpathy, A recipe for training neural networks (2019): "verify loss @ init".
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from lightning_debug.evidence import RunContext
from lightning_debug.evidence.loss import LossCall, LossGraph
from lightning_debug.evidence.loss_checks import EarlierTraining
from lightning_debug.finding import WARNING, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule


@rule("LD210", severity=WARNING, needs=LossGraph, explains=("LD305", "LD713"))
def initial_loss_off(
    record: Record,
    *,
    factor: float = 3.0,
    regression_factor: float = 10.0,
    margin: float = 1.0,
    steps: int = 3,
    targets: int = 16,
) -> Iterator[Claim | Skip]:
    """Claims one finding if the first losses are all far above the price of knowing nothing."""
    context = record.last(RunContext)
    if context is not None and context.resumed:
        yield Skip("training continues from a checkpoint")
        return
    graphs = [graph for graph in record.of(LossGraph) if graph.step == "training_step" and graph.at.step < steps]
    early = graphs[:steps]
    calls = [(graph, call) for graph in early if (call := _returned(graph)) is not None]
    if len(calls) < steps:
        seen = len(early) >= steps
        yield Skip(
            "the loss is not the value of one loss function of torch"
            if seen
            else f"fewer than {steps} of the first steps were seen"
        )
        return
    prices = [price for _, call in calls if (price := _price(call)) is not None]
    if len(prices) < len(calls):
        yield Skip("what an uninformed model pays is not known for this loss")
        return
    if sum(math.prod(call.target.shape) for _, call in calls if call.target is not None) < targets:
        yield Skip(f"the first {steps} batches hold fewer than {targets} targets")
        return
    if any(call.target is not None and call.target.field in call.scores.joined for _, call in calls):
        yield Skip("the scores are made with the targets: a margin")
        return
    regression = calls[0][1].function in ("mse_loss", "l1_loss")
    times = {"mse_loss": regression_factor, "l1_loss": math.sqrt(regression_factor)}.get(calls[0][1].function, factor)
    losses = [float(graph.loss or 0.0) for graph, _ in calls]
    bounds = [max(times * cost, cost + margin) for cost, _ in prices]
    if any(loss <= bound for loss, bound in zip(losses, bounds, strict=True)):
        return
    earlier = record.last(EarlierTraining)
    if earlier is not None and earlier.trained:
        yield Skip(f"the weights were trained before ({earlier.trained[0]})")
        return
    first, call, price = losses[0], calls[0][1], prices[0]
    layer = next((operation for operation in call.origin if operation.layer and operation.module), None)
    payer = "predicting 0 costs" if regression else "uniform predictions cost"
    where = f"`{layer.module}`" if layer is not None else "the last layer"
    fix = (
        f"Make the weights of {where} smaller (its default initialisation is fine), and check that its inputs are of "
        "the order of 1."
    )
    tied = dict(earlier.tied).get(layer.module) if earlier is not None and layer is not None else None
    if tied:
        fix = (
            f"Draw the weights of `{tied}`, which are those of {where} too, smaller than nn.Embedding does: "
            f"nn.init.normal_(self.{tied}.weight, std=0.02)."
        )
    scaled = _scaled(call)
    if scaled is not None:
        fix = (
            f"Use a smaller scale: the scores are multiplied by {scaled[0]:.3g} at {scaled[1]}, behind the last layer."
        )
    yield Claim(
        message=f"The loss begins at {first:.3g}, {first / price[0]:.1f} times the {price[0]:.2g} ({price[1]}) that "
        f"{payer}, and is still {losses[-1]:.3g} at step {calls[-1][0].at.step}.",
        subject=layer.module if layer is not None else call.line,
        measured={"losses": losses, "uninformed": price[0], "ratio": first / price[0], "function": call.function},
        fix=fix,
        at=calls[0][0].at,
    )


def _scaled(call: LossCall) -> tuple[float, str] | None:
    """By how much a number written into the code enlarges the scores, and where."""
    for operation in call.origin:
        if operation.layer:
            return None
        factor = operation.amount or 0.0
        factor = 1.0 / factor if operation.name == "div" and factor else factor if operation.name == "mul" else 0.0
        if abs(factor) > 3.0:
            return abs(factor), operation.line
    return None


def _returned(graph: LossGraph) -> LossCall | None:
    """The loss call whose value the step returned."""
    if graph.loss is None or graph.losses > 1 or not math.isfinite(graph.loss):
        return None
    for call in graph.reaching:
        if call.value is not None and math.isclose(call.value, graph.loss, rel_tol=1e-4) and call.reduction == "mean":
            return call
    return None


def _price(call: LossCall) -> tuple[float, str] | None:
    """What predictions pay that know nothing, and how that is called."""
    target = call.target
    if target is None or call.weighted or call.ignored >= 1 or not target.from_batch:
        return None
    if call.function in ("cross_entropy", "nll_loss"):
        dim = call.scores.dim
        classes = call.scores.shape[dim] if dim is not None and call.scores.shape else 0
        several = target.shape == call.scores.shape and target.rows_hold == "multi-hot"
        return (math.log(classes), f"ln {classes}") if classes > 1 and not several else None
    if call.function in ("binary_cross_entropy", "binary_cross_entropy_with_logits"):
        return (math.log(2), "ln 2") if target.share_in_unit == 1.0 else None
    if call.function in ("mse_loss", "l1_loss") and target.mean is not None and target.deviation is not None:
        square = target.mean**2 + target.deviation**2
        if square <= 0 or not target.finite or call.aligned_value is not None:
            return None
        if call.function == "l1_loss":
            return math.sqrt(square), "the targets' root mean square"
        return square, "the targets' mean square"
    return None
