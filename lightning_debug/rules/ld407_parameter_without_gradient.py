"""A trainable parameter in the optimizer gets no gradient in the whole training.

What it sees: at the end of training, parameters that require a gradient and are in an optimizer, that no gradient ever
    reached on the batches looked at, and that are as they were at the start after at least ``min_batches`` batches:
    what their module computes is cut off from the loss (``detach``, ``no_grad``, ``argmax``, a trip through NumPy), its
    own code reads them as ``.data`` only, or
    their module is never called, while another one of the same class and shapes is called several times.
Why it hurts: the layer stays random. If its output is used, the model learns around it; if another layer is called in
    its place, the model has fewer layers than it seems to.
How to fix: take away what cuts the gradient off, or call the layer where the other one is called twice. Freeze it with
    ``requires_grad_(False)`` if it is meant to be fixed.
When to ignore: when a branch is used in a later stage of training. It is silent on parts in eval mode, on copies of
    trained networks (targets, averages), on parts that were trained before, on metrics, on what a library's model
    leaves unused (the pooler of a language model), and on modules that are simply not used.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.inlet = nn.Linear(8, 32)
            self.first = nn.Linear(32, 32)
            self.second = nn.Linear(32, 32)
            self.head = nn.Linear(32, 2)

        def body(self, inputs):
            hidden = self.inlet(inputs).relu()
            hidden = self.first(hidden).relu()
            return self.first(hidden).relu()

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            return F.cross_entropy(self.head(self.body(inputs)), labels)

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self.head(self.body(inputs))
            self.log("val_loss", F.cross_entropy(scores, labels))
            self.log("val_accuracy", (scores.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    inputs = torch.randn(640, 8)
    labels = (inputs[:, 0] + inputs[:, 1] > 0).long()
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=4)
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.inlet = nn.Linear(8, 32)
            self.first = nn.Linear(32, 32)
            self.second = nn.Linear(32, 32)
            self.head = nn.Linear(32, 2)

        def body(self, inputs):
            hidden = self.inlet(inputs).relu()
            hidden = self.first(hidden).relu()
            return self.second(hidden).relu()

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            return F.cross_entropy(self.head(self.body(inputs)), labels)

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self.head(self.body(inputs))
            self.log("val_loss", F.cross_entropy(scores, labels))
            self.log("val_accuracy", (scores.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    inputs = torch.randn(640, 8)
    labels = (inputs[:, 0] + inputs[:, 1] > 0).long()
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=4)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.optimization import ParametersWithoutGradient, WatchedParameter
    >>> from lightning_debug.record import Record
    >>> one = WatchedParameter(name="second.weight", owner="second", numel=1024, untrained=True, calls="never",
    ...                        instead="first")
    >>> seen = ParametersWithoutGradient(batches=64, ended=True, parameters=(one,), trainable=5)
    >>> [claim.subject for claim in parameter_without_gradient(Record([seen]))]
    ['second']

References:
    https://pytorch.org/docs/stable/notes/autograd.html (locally disabling gradient computation)
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.optimization import ParametersWithoutGradient, WatchedParameter
from lightning_debug.finding import WARNING, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._optimization import counted, parts

HOW = {
    "no_grad": "it is called with gradients switched off",
    "gradient": "it is called, and what it computes is cut off from the loss",
}


@rule("LD407", severity=WARNING, needs=ParametersWithoutGradient, explains=("LD705", "LD712"))
def parameter_without_gradient(record: Record, *, min_batches: int = 8) -> Iterator[Claim]:
    """Claims one finding for each part of the model that no gradient reaches."""
    evidence = record.last(ParametersWithoutGradient)
    if evidence is None or not evidence.ended or evidence.batches < min_batches:
        return
    silent = [item for item in evidence.parameters if _by_accident(item)]
    for place, items in parts(silent).items():
        instead = next((item.instead for item in items if item.instead), "")
        how = next((HOW[item.calls] for item in items if item.calls in HOW), "")
        if instead:
            how = f"its forward is never called, and `{instead}`, which is made alike, is called several times a batch"
        cut = items[0].cut if len(items) == 1 else ""
        if cut:
            how = f"it is read as {cut}, which has no gradient"
        if not how and any(item.calls == "never" for item in items):
            continue
        yield Claim(
            message=f"{counted(items)} of `{place}` {'are' if len(items) > 1 else 'is'} in the optimizer and "
            f"receive{'s' * (len(items) == 1)} no gradient in {evidence.batches} batches"
            + (f": {how}." if how else "."),
            subject=place,
            measured={
                "parameters": tuple(item.name for item in items[:16]),
                "values": sum(item.numel for item in items),
                "batches": evidence.batches,
                "calls": items[0].calls,
                "instead": instead,
            },
            fix=f"Call `{place}` where `{instead}` is called again."
            if instead
            else f"Read it as {_bare(cut)}, without {cut.partition(' at ')[0].removeprefix(_bare(cut))}, "
            "or freeze it if it is meant to be fixed."
            if cut
            else f"Take away the detach() or no_grad() behind `{place}`, or freeze it if it is meant to be fixed.",
            at=evidence.at,
        )


def _by_accident(item: WatchedParameter) -> bool:
    meant = item.changed or item.metric or item.library or item.twin or item.in_eval or item.spare
    return not meant and (item.untrained is True or (bool(item.cut) and item.untrained is None))


def _bare(cut: str) -> str:
    return cut.partition(" at ")[0].removesuffix(".data").removesuffix(".detach()")
