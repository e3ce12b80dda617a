"""A frozen batch-norm goes on learning its running statistics.

What it sees: batch-norms whose weights have ``requires_grad=False``, as have those of the layer that feeds them,
    but which are in train mode: over a few steps their running statistics were updated, moved by at least
    ``minimum_shift`` standard deviations in some channel, while the frozen weights stayed as they were.
Why it hurts: freezing the weights does not freeze the layer. In train mode it normalises by the batch, and its
    running mean and variance move towards the new data, so the "frozen" features change under the head that is
    trained on them, and differ again in eval mode.
How to fix: put the frozen part into eval mode and keep it there: override ``train()`` to call
    ``self.backbone.eval()`` after ``super().train(mode)``, or call ``self.backbone.eval()`` when it is frozen.
    Lightning notes that mode and puts it back after each validation, so ``on_train_start`` will do.
When to ignore: when the statistics are meant to adapt to the new data (AdaBN). It is silent where that shows: with
    ``momentum=None``, or statistics that were reset beside trained weights. It is silent, too, on batch-norms whose
    own weights, or any before them, are trained, also where that begins later in the run (a backbone that is frozen
    for its first epochs only); on momentum encoders and target networks, whose weights follow a trained network;
    and without ``affine`` weights.
Broken:
    class FineTuned(LightningModule):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU())
            self.backbone.requires_grad_(False)
            self.head = nn.Linear(32, 2)

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            return F.cross_entropy(self.head(self.backbone(inputs)), labels)

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self.head(self.backbone(inputs))
            self.log("val_loss", F.cross_entropy(scores, labels))
            self.log("val_accuracy", (scores.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.head.parameters(), lr=1e-2)

    inputs = torch.randn(640, 8)
    labels = (inputs[:, 0] + inputs[:, 1] > 0).long()
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(FineTuned(), train, val)
Repaired:
    class FineTuned(LightningModule):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU())
            self.backbone.requires_grad_(False)
            self.head = nn.Linear(32, 2)

        def on_train_start(self):
            self.backbone.eval()

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            return F.cross_entropy(self.head(self.backbone(inputs)), labels)

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self.head(self.backbone(inputs))
            self.log("val_loss", F.cross_entropy(scores, labels))
            self.log("val_accuracy", (scores.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.head.parameters(), lr=1e-2)

    inputs = torch.randn(640, 8)
    labels = (inputs[:, 0] + inputs[:, 1] > 0).long()
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(FineTuned(), train, val)

Example:
    >>> from lightning_debug.evidence.modes import FrozenBatchNorm, FrozenBatchNorms
    >>> from lightning_debug.record import Record
    >>> norm = FrozenBatchNorm(path="backbone.1", class_name="BatchNorm1d", root="backbone", feeder="backbone.0",
    ...                        feeder_frozen=True, updates=4, shift=0.31)
    >>> for claim in frozen_batchnorm_drifts(Record([FrozenBatchNorms(steps=4, layers=(norm,))])):
    ...     print(claim.subject, "|", claim.message)
    backbone | 1 batch-norm with frozen weights (`backbone.1` (BatchNorm1d)) is in train mode: within 4 steps its
    running statistics are updated 4 times and its running mean moves by 0.31 standard deviations.

References:
    https://keras.io/guides/transfer_learning/ (batch-normalisation layers in fine-tuning)
    https://pytorch.org/docs/stable/generated/torch.nn.BatchNorm1d.html
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.modes import FrozenBatchNorm, FrozenBatchNorms
from lightning_debug.finding import WARNING, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._modes import listed


@rule("LD403", severity=WARNING, needs=FrozenBatchNorms, explains=("LD413",))
def frozen_batchnorm_drifts(record: Record, *, minimum_shift: float = 0.01) -> Iterator[Claim]:
    """Claims one finding for each frozen part that holds such batch-norms."""
    claimed = {layer.path for evidence in record.of(FrozenBatchNorms) for layer in evidence.layers if layer.thawed}
    for evidence in record.of(FrozenBatchNorms):
        groups: dict[str, list[FrozenBatchNorm]] = {}
        for layer in evidence.layers:
            frozen = layer.feeder_frozen and not layer.input_trained and not layer.weights_changed
            if (
                frozen
                and not layer.twin
                and not layer.adapting
                and layer.updates
                and layer.shift >= minimum_shift
                and layer.path not in claimed
            ):
                claimed.add(layer.path)
                groups.setdefault(layer.root, []).append(layer)
        for root, layers in groups.items():
            yield _claim(evidence, root, layers)


def _claim(evidence: FrozenBatchNorms, root: str, layers: list[FrozenBatchNorm]) -> Claim:
    updates, shift = max(layer.updates for layer in layers), max(layer.shift for layer in layers)
    names = listed((layer.path, layer.class_name) for layer in layers)
    many = len(layers) > 1
    flipped = next((layer for layer in layers if layer.flipped), None)
    who = ""
    if flipped is not None:
        by = f"{flipped.override} puts every module" if flipped.override else "something put it"
        who = f" (it was in eval mode before: {by} into train mode)"
    place = f"`{root}`" if root else "the frozen part"
    return Claim(
        message=f"{len(layers)} batch-norm{'s' * many} with frozen weights ({names}) {'are' if many else 'is'} in "
        f"train mode{who}: within {evidence.steps} steps {'their' if many else 'its'} running statistics are updated "
        f"{updates} times and {'a' if many else 'its'} running mean moves by {shift:.2g} standard deviations.",
        subject=root or layers[0].path,
        measured={
            "modules": tuple(layer.path for layer in layers),
            "steps": evidence.steps,
            "updates": updates,
            "largest_shift_of_a_mean": shift,
        },
        fix=f"Call .eval() on {place} when it is frozen, and keep it there (override train())."
        + (f" Delete {flipped.override}." if flipped is not None and flipped.override else ""),
        at=evidence.at,
    )
