"""A trainable parameter gets a gradient on every step, and is in no optimizer.

What it sees: parameters that require a gradient and receive one on at least ``min_batches`` batches looked at, that no
    optimizer holds (neither one that ``configure_optimizers`` returns, nor one the model keeps, nor any that steps),
    and that are unchanged, bit for bit, after optimizer steps. Modules that a plain Python list or dict hides from the
    model are seen as well, and so are layers made anew inside the step.
Why it hurts: these parameters stay as they were initialised. The rest of the model learns around random features, or
    into a random head: the loss still falls, only not as far.
How to fix: give the optimizer ``self.parameters()``, or add the missing group. Keep modules in ``nn.ModuleList`` or
    ``nn.ModuleDict``, replace layers before ``configure_optimizers`` runs, add a group when unfreezing.
When to ignore: when the part is left out on purpose; then say so with ``requires_grad_(False)``, which also saves its
    gradients. It is silent on parts in eval mode, on parts whose values show that they were trained before (a feature
    extractor that is used as it is, or whose biases alone are tuned), and on weights of an installed library's model
    beside optimised biases.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
            self.head = nn.Linear(32, 2)

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            return F.cross_entropy(self.head(self.body(inputs)), labels)

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self.head(self.body(inputs))
            self.log("val_loss", F.cross_entropy(scores, labels))
            self.log("val_accuracy", (scores.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.body.parameters(), lr=3e-3)

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
            self.body = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
            self.head = nn.Linear(32, 2)

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
    >>> from lightning_debug.evidence.optimization import ParameterCoverage, WatchedParameter
    >>> from lightning_debug.record import Record
    >>> head = WatchedParameter(name="head.weight", owner="head", shape=(2, 32), numel=64, untrained=True, batches=3)
    >>> seen = ParameterCoverage(batches=3, optimizer_steps=3, missing=(head,))
    >>> [claim.subject for claim in parameter_not_in_optimizer(Record([seen]))]
    ['head']
    >>> [claim.fix for claim in parameter_not_in_optimizer(Record([seen]))]
    ['In configure_optimizers, give the optimizer the parameters of `head` too: self.parameters() has all.']

References:
    https://pytorch.org/docs/stable/optim.html (constructing it)
    https://pytorch.org/docs/stable/generated/torch.nn.ModuleList.html
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.optimization import ParameterCoverage, WatchedParameter
from lightning_debug.evidence.run import RunContext
from lightning_debug.finding import ERROR, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._optimization import counted, parts


@rule("LD406", severity=ERROR, needs=ParameterCoverage, explains=("LD602", "LD605", "LD702", "LD704", "LD705"))
def parameter_not_in_optimizer(record: Record, *, min_batches: int = 2) -> Iterator[Claim]:
    """Claims one finding for each part of the model that is left out."""
    claimed: set[str] = set()
    places: list[str] = []
    context = record.last(RunContext)
    for evidence in record.of(ParameterCoverage):
        left_out = [item for item in evidence.missing if item.batches >= min_batches and item.name not in claimed]
        left_out = [item for item in left_out if _by_accident(item, evidence)]
        for place, items in parts(left_out).items():
            claimed |= {item.name for item in items}
            if not items[0].unfrozen and any(place == known or place.startswith(f"{known}.") for known in places):
                continue  # the rest of a part that is named, which had no gradient at first
            places.append(place)
            yield _claim(evidence, place, items, context.optimizers if context is not None else ())


def _by_accident(item: WatchedParameter, evidence: ParameterCoverage) -> bool:
    if item.changed or item.metric or item.in_eval:
        return False
    if item.sibling_optimized:
        # weights beside optimised biases: biases alone are tuned on purpose, though not around random weights
        return len(item.shape) < 2 or (item.untrained is True and not item.library)
    if item.name == "?":
        return item.untrained is True
    return item.untrained is True or item.unfrozen or bool(evidence.stale)


def _claim(
    evidence: ParameterCoverage, place: str, items: list[WatchedParameter], optimizers: tuple[str, ...]
) -> Claim:
    many = len(items) > 1
    steps = f"{evidence.optimizer_steps} optimizer steps"
    batches = min(item.batches for item in items)
    given = f"`{place}`" if items[0].name == place else f"the parameters of `{place}`"
    fix = f"In configure_optimizers, give {optimizers[0] if optimizers else 'the optimizer'} {given} too: "
    fix += "self.parameters() has all."
    if len(optimizers) > 1:
        fix = f"In configure_optimizers, give {given} to one of the {len(optimizers)} optimizers."
    if place == "?":
        shapes = " and ".join(str(list(item.shape)) for item in items[:2])
        message = (
            f"The loss depends on {counted(items)} of shape {shapes} that belong to no module of the model and to no "
            f"optimizer: their layer is made anew, or held outside the model, and after {steps} nothing trains it."
        )
        place, fix = "training_step", "Make the layer once, in __init__, as an attribute of the module."
    else:
        message = (
            f"{counted(items)} of `{place}` receive{'s' * (not many)} a gradient on each of {batches} batches and "
            f"{'are' if many else 'is'} in no optimizer: after {steps} {'they are' if many else 'it is'} "
            f"unchanged to the last bit."
        )
    if items[0].held_in:
        message = message[:-1] + " (a plain list or dict hides these modules from self.parameters())."
        fix = f"Make self.{place} an nn.ModuleList (nn.ModuleDict, nn.ParameterList)."
    elif evidence.stale:
        held = len(evidence.stale)
        message = message[:-1] + f", while the optimizer holds {held} tensors that the model no longer has."
        fix = f"Replace `{place}` before configure_optimizers runs (in __init__ or configure_model)."
    elif items[0].unfrozen:
        fix = f"When `{place}` is unfrozen, add it: optimizer.add_param_group({{'params': ...}})."
    return Claim(
        message=message,
        subject=place,
        measured={
            "parameters": tuple(item.name for item in items[:16]),
            "values": sum(item.numel for item in items),
            "batches_with_gradient": batches,
            "optimizer_steps": evidence.optimizer_steps,
            "stale_tensors": len(evidence.stale),
        },
        fix=fix,
        at=evidence.at,
    )
