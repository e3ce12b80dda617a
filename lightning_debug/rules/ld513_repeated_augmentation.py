"""Random augmentation draws the same numbers over and over.

What it sees: copies of the training dataset are asked for the same samples again, each with other global seeds, as
    worker processes are. Claimed is a dataset that carries its own random generator, so that copies of it draw alike,
    where at least ``workers`` worker processes each get a copy; a ``worker_init_fn`` that gives the generator which the
    dataset draws from one seed in each epoch, or in each worker too; a draw that leaves a global generator in one and
    the same state whatever it was before (it is seeded inside ``__getitem__``); and a whole epoch of a random dataset
    that equals the first. And views of one sample, side by side in a list within the sample or under numbered keys,
    that are equal in each draw of a dataset that draws anew each time.
Why it hurts: every worker, or every epoch, shows the same augmented version: the data are far less diverse than they
    seem, and the effect is the weaker the more one relies on it. A seed inside ``__getitem__`` also fixes dropout and
    the shuffle. Views that are the same are told from others by any net, and teach nothing.
How to fix: draw from torch's generator (``torch.rand``), which torch seeds for every worker and epoch; make your own
    generator in ``worker_init_fn`` from ``torch.initial_seed()``; seed once, before training. Call the transform
    once for each view.
When to ignore: when the same noise is wanted. Silent on deterministic transforms, on a generator of the dataset's own
    where the loader has no workers, and where the user gives a ``worker_init_fn``.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))

        def training_step(self, batch, batch_idx):
            loss = F.cross_entropy(self.net(batch[0]), batch[1])
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=5e-3)

    class Noisy(Dataset):
        def __init__(self, inputs, labels):
            self.inputs, self.labels = inputs, labels

        def __len__(self):
            return len(self.inputs)

        def __getitem__(self, index):
            numpy.random.seed(0)
            noise = numpy.random.normal(0, 0.2, 8).astype("float32")
            return self.inputs[index] + torch.from_numpy(noise), self.labels[index]

    centres = torch.randn(4, 8)
    labels = torch.randint(0, 4, (400,))
    inputs = centres[labels] + 0.5 * torch.randn(400, 8)
    loader = DataLoader(Noisy(inputs, labels), batch_size=16, shuffle=True)
    trainer = Trainer(max_epochs=2)
    trainer.fit(Classifier(), loader)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))

        def training_step(self, batch, batch_idx):
            loss = F.cross_entropy(self.net(batch[0]), batch[1])
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=5e-3)

    class Noisy(Dataset):
        def __init__(self, inputs, labels):
            self.inputs, self.labels = inputs, labels

        def __len__(self):
            return len(self.inputs)

        def __getitem__(self, index):
            noise = numpy.random.normal(0, 0.2, 8).astype("float32")
            return self.inputs[index] + torch.from_numpy(noise), self.labels[index]

    centres = torch.randn(4, 8)
    labels = torch.randint(0, 4, (400,))
    inputs = centres[labels] + 0.5 * torch.randn(400, 8)
    loader = DataLoader(Noisy(inputs, labels), batch_size=16, shuffle=True)
    trainer = Trainer(max_epochs=2)
    trainer.fit(Classifier(), loader)

Example:
    >>> from lightning_debug.evidence.data_augmentation import AugmentationDraws
    >>> from lightning_debug.record import Record
    >>> found = AugmentationDraws(samples=4, varies=True, copies_agree=True, workers=2, dataset="Faces", owner="rng")
    >>> [claim.subject for claim in repeated_augmentation(Record([found]))]
    ['Faces.rng']

References:
    Tanel Parnamaa (2021), Using PyTorch + NumPy? You are making a mistake: https://tanelp.github.io/posts/a-bug-that-plagues-thousands-of-open-source-ml-projects/
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.data_augmentation import AugmentationDraws
from lightning_debug.evidence.data_relations import EpochOrders
from lightning_debug.finding import ERROR, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule


@rule("LD513", severity=ERROR, needs=AugmentationDraws, explains=("LD517",))
def repeated_augmentation(record: Record, *, workers: int = 1) -> Iterator[Claim | Skip]:
    """Claims one finding for the way in which draws repeat."""
    found = record.last(AugmentationDraws)
    if found is None:
        return
    measured = {
        "samples": found.samples,
        "varies": found.varies,
        "copies agree": found.copies_agree,
        "workers": found.workers,
        "persistent workers": found.persistent,
    }
    if found.reseeds:
        yield Claim(
            message=f"Each draw of a sample seeds the {found.reseeds} generator: after other samples and other seeds "
            "it is in the same state, so every sample is augmented with the same random numbers.",
            subject=f"{found.dataset}.__getitem__",
            measured={**measured, "generator": found.reseeds},
            fix="Seed once, before training (seed_everything), and not where samples are drawn.",
            at=found.at,
        )
        return
    if found.views and not found.bags:
        views = " and ".join(found.views) if len(found.views) == 2 else f"{found.views[0]} to {found.views[-1]}"
        yield Claim(
            message=f"The views {views} of a sample are one and the same, to the last bit, in each of "
            f"{2 * found.samples} draws, though {found.dataset} draws another version each time it is asked.",
            subject=f"{found.dataset}.__getitem__",
            measured={**measured, "views": list(found.views)},
            fix="Call the transform once for each view: [transform(x) for _ in range(2)], not [transform(x)] * 2.",
            at=found.at,
        )
        return
    each_epoch = found.workers >= workers and not found.persistent
    if found.copies_agree and not found.initialised and (found.workers >= max(2, workers) or each_epoch):
        owner = f"{found.dataset}.{found.owner}" if found.owner else found.dataset
        again = [f"{found.workers} workers draw alike"] * (found.workers > 1) + ["every epoch begins anew"] * each_epoch
        yield Claim(
            message=f"{owner} keeps a random generator that is copied into each of {found.workers} worker processes: "
            f"two copies draw the same augmentation under other seeds ({found.samples} of {found.samples} samples), so "
            f"{' and '.join(again)}.",
            subject=owner,
            measured=measured,
            fix="Draw with torch.rand or numpy.random, which are seeded for each worker, or make the generator in "
            "worker_init_fn from torch.initial_seed().",
            at=found.at,
        )
        return
    alike = found.workers > 1 and found.held_in_all
    if found.varies and found.held and found.workers >= workers and (alike or not found.persistent):
        names = " and ".join(found.held)
        again = [f"{found.workers} workers draw alike"] * alike + ["every epoch begins anew"] * (not found.persistent)
        yield Claim(
            message=f"worker_init_fn gives the {names} generator a seed that does not depend on the epoch"
            f"{' or the worker' * found.held_in_all}, and {found.dataset} draws from it alone: {' and '.join(again)}.",
            subject="training DataLoader",
            measured={**measured, "generator": names},
            fix="Seed with torch.initial_seed() % 2**32, which torch makes anew for each worker and epoch, or leave "
            "worker_init_fn out: torch seeds its own, NumPy's and Python's generators in each worker.",
            at=found.at,
        )
        return
    order = record.last(EpochOrders)
    if found.varies and not found.bags and order is not None and order.repeated_samples and not order.overfitting:
        yield Claim(
            message=f"{order.repeated_samples} of {order.epochs} epochs bring the very samples of an earlier epoch, "
            f"all {order.samples}, though {found.dataset} draws another version each time it is asked.",
            subject="training DataLoader",
            measured={**measured, "epochs": order.epochs, "repeated": order.repeated_samples},
            fix="Do not seed random generators at the start of each epoch.",
            at=order.at,
        )
