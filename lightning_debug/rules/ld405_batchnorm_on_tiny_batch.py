"""A batch-norm in train mode averages over a handful of values.

What it sees: the shape of what each batch-norm in train mode is given, the batch size, and the size of the last batch
    of an epoch. Fewer than ``fewest`` values a channel are too few, in full batches; a last batch of one sample
    that leaves one value a channel raises an exception.
Why it hurts: mean and variance of two or three values are noise, and after normalising by them, two samples differ in
    sign only. Running statistics and eval mode fit neither. Of one value PyTorch cannot take a variance at all
    ("Expected more than 1 value per channel when training").
How to fix: use larger batches, GroupNorm or LayerNorm; SyncBatchNorm where several devices train; ``drop_last=True``
    in the training loader where only the last batch is too small.
When to ignore: when the batch-norm is about to be frozen. It is silent on batch-norms in eval mode, and on feature
    maps: what counts are values a channel, samples times positions.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 2))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self.net(inputs)
            self.log("val_loss", F.cross_entropy(scores, labels))
            self.log("val_accuracy", (scores.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(640, 8)
    labels = (inputs[:, 0] + inputs[:, 1] > 0).long()
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=2, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=1)
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 2))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self.net(inputs)
            self.log("val_loss", F.cross_entropy(scores, labels))
            self.log("val_accuracy", (scores.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(640, 8)
    labels = (inputs[:, 0] + inputs[:, 1] > 0).long()
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.model import BatchNormBatches, NormInput
    >>> from lightning_debug.record import Record
    >>> seen = BatchNormBatches(batch_size=2, norms=(NormInput(path="net.1", per_sample=1.0),))
    >>> for claim in batchnorm_on_tiny_batch(Record([seen])):
    ...     print(claim.subject, "|", claim.message)
    net.1 | Batch-norm in train mode averages over 2 values a channel in `net.1`: batches have 2 samples.

References:
    Wu and He: Group Normalization, https://arxiv.org/abs/1803.08494
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.model import BatchNormBatches
from lightning_debug.finding import WARNING, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._model import listed


@rule("LD405", severity=WARNING, needs=BatchNormBatches, explains=("LD116", "LD413", "LD703", "LD705", "LD711"))
def batchnorm_on_tiny_batch(record: Record, *, fewest: int = 4) -> Iterator[Claim]:
    """Claims one finding for full batches, or else one for the last batch."""
    seen = record.last(BatchNormBatches)
    if seen is None:
        return
    values = {norm.path: norm.per_sample * seen.batch_size * seen.ranks for norm in seen.norms}
    small = [path for path, count in values.items() if count < fewest]
    if small and seen.batch_size:
        count = min(values.values())
        yield Claim(
            message=f"Batch-norm in train mode averages over {count:.0f} values a channel in {listed(small)}: batches "
            f"have {seen.batch_size} samples.",
            subject=small[0],
            measured={"modules": tuple(small), "values": count, "batch_size": seen.batch_size},
            fix="Use larger batches, or GroupNorm in place of batch-norm.",
            at=seen.at,
        )
        return
    single = [norm.path for norm in seen.norms if norm.per_sample * seen.ranks < 2]
    if single and seen.last_batch == 1 and seen.batch_size > 1:
        yield Claim(
            message=f"The last batch of an epoch has 1 sample ({seen.dataset_size} samples in batches of "
            f"{seen.batch_size}), and batch-norm in {listed(single)} cannot take a variance of 1 value: it raises.",
            subject=single[0],
            measured={"modules": tuple(single), "dataset_size": seen.dataset_size, "batch_size": seen.batch_size},
            fix="Give the training DataLoader drop_last=True, or another batch size.",
            at=seen.at,
        )
