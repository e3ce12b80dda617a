"""A loader that shuffles brings the same order in every epoch.

What it sees: the training loader has a sampler that shuffles (one of torch's, or one whose ``__iter__`` draws a
    permutation), and of the first epochs at least ``epochs`` brought the samples (or labels) in the very order of an
    earlier epoch. By chance that never happens.
Why it hurts: batches are made of the same samples each time, so their noise does not average out, and the last batch
    of an epoch is always the same. The cause is mostly a seed set in each epoch, which also repeats dropout and
    augmentation.
How to fix: seed once, before training; make the loader, and the generator given to it, once and not in each epoch;
    call ``set_epoch`` on a distributed sampler that is your own.
When to ignore: when the order is fixed on purpose. Silent without shuffling, on samplers of your own that
    hand on an order made once, and under ``overfit_batches``.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def on_train_epoch_start(self):
            torch.manual_seed(0)

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=5e-3)

    centres = torch.randn(4, 8)
    labels = torch.randint(0, 4, (600,))
    inputs = centres[labels] + 0.5 * torch.randn(len(labels), 8)
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=16, shuffle=True)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), loader)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=5e-3)

    centres = torch.randn(4, 8)
    labels = torch.randint(0, 4, (600,))
    inputs = centres[labels] + 0.5 * torch.randn(len(labels), 8)
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=16, shuffle=True)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), loader)

Example:
    >>> from lightning_debug.evidence.data_relations import EpochOrders
    >>> from lightning_debug.record import Record
    >>> found = EpochOrders(epochs=3, repeated=2, samples=600, shuffled=True, sampler="RandomSampler")
    >>> [claim.subject for claim in epoch_order_repeats(Record([found]))]
    ['training DataLoader']
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.data_relations import EpochOrders
from lightning_debug.finding import WARNING, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule


@rule("LD517", severity=WARNING, needs=EpochOrders)
def epoch_order_repeats(record: Record, *, epochs: int = 1) -> Iterator[Claim | Skip]:
    """Claims one finding if every later epoch has the order of the first."""
    found = record.last(EpochOrders)
    if found is None or found.overfitting:
        return
    if found.shuffled is None:
        yield Skip("whether the loader shuffles is not known")
        return
    if not found.shuffled or found.repeated < epochs:
        return
    yield Claim(
        message=f"The training loader shuffles ({found.sampler}), but {found.repeated} of {found.epochs} epochs bring "
        f"all {found.samples} samples in the order of an earlier epoch.",
        subject="training DataLoader",
        measured={"epochs": found.epochs, "repeated": found.repeated, "samples": found.samples, "told by": found.by},
        fix="Seed once, before training, and make the loader and its generator once, not in each epoch.",
        at=found.at,
    )
