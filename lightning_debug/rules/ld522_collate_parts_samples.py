"""The collate function puts inputs and labels in different orders.

What it sees: up to twelve samples of the training set, made into a batch by the loader's own collate function, and
    each of them alone: that tells which row is whose, padding aside. In the batch a column of labels, or lengths,
    stands in another order than the inputs, and at least `moved` inputs have another sample's number beside them; or
    inputs of one kind do, beside those of another that stand in the order of the samples (pictures, sorted captions).
Why it hurts: the net is taught the labels of other samples. It learns nothing but the shares of the classes, whatever
    the learning rate, and validation, which is made by the same function, agrees with it.
How to fix: sort the samples, not their parts: `samples.sort(key=...)` before they are taken apart, or sort every part
    with one index.
When to ignore: when the second column is meant for other rows. Silent on PyTorch's own collate function, where the
    parts keep one order (sorted together, shuffled together), where another input or another column with the same
    numbers agrees (pairs, negatives, mixup), where inputs of two kinds are paired by a draw, and where batches of one
    cannot be made.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(4, 32, batch_first=True)
            self.head = nn.Linear(32, 3)

        def forward(self, inputs, lengths):
            packed = nn.utils.rnn.pack_padded_sequence(inputs, lengths, batch_first=True)
            return self.head(self.rnn(packed)[1][-1])

        def training_step(self, batch, batch_idx):
            inputs, lengths, labels = batch
            loss = F.cross_entropy(self(inputs, lengths), labels)
            self.log("train_loss", loss, batch_size=len(labels))
            return loss

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    def collate(samples):
        sequences, labels = zip(*samples)
        sequences = sorted(sequences, key=len, reverse=True)  # and the labels stay where they were
        lengths = torch.tensor([len(item) for item in sequences])
        return nn.utils.rnn.pad_sequence(sequences, batch_first=True), lengths, torch.tensor(labels)

    centres = torch.randn(3, 4)
    samples = []
    for index in range(512):
        length = int(torch.randint(5, 12, ()))
        samples.append((centres[index % 3] + 0.7 * torch.randn(length, 4), index % 3))
    train = DataLoader(samples, batch_size=32, shuffle=True, collate_fn=collate)
    trainer = Trainer(max_epochs=4)
    trainer.fit(Classifier(), train)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(4, 32, batch_first=True)
            self.head = nn.Linear(32, 3)

        def forward(self, inputs, lengths):
            packed = nn.utils.rnn.pack_padded_sequence(inputs, lengths, batch_first=True)
            return self.head(self.rnn(packed)[1][-1])

        def training_step(self, batch, batch_idx):
            inputs, lengths, labels = batch
            loss = F.cross_entropy(self(inputs, lengths), labels)
            self.log("train_loss", loss, batch_size=len(labels))
            return loss

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    def collate(samples):
        samples = sorted(samples, key=lambda sample: len(sample[0]), reverse=True)
        sequences, labels = zip(*samples)
        lengths = torch.tensor([len(item) for item in sequences])
        return nn.utils.rnn.pad_sequence(sequences, batch_first=True), lengths, torch.tensor(labels)

    centres = torch.randn(3, 4)
    samples = []
    for index in range(512):
        length = int(torch.randint(5, 12, ()))
        samples.append((centres[index % 3] + 0.7 * torch.randn(length, 4), index % 3))
    train = DataLoader(samples, batch_size=32, shuffle=True, collate_fn=collate)
    trainer = Trainer(max_epochs=4)
    trainer.fit(Classifier(), train)

Example:
    >>> from lightning_debug.evidence.data_relations import CollatedOrder
    >>> from lightning_debug.record import Record
    >>> seen = CollatedOrder(samples=12, field="batch[2]", inputs="batch[0]", moved=8, collate="collate")
    >>> [claim.message for claim in collate_parts_samples(Record([seen]))]
    ['`collate` puts batch[0] and batch[2] in different orders: of 12 samples 8 get what belongs to another.']
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.data_relations import CollatedOrder
from lightning_debug.finding import ERROR, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule


@rule("LD522", severity=ERROR, needs=CollatedOrder, explains=("LD505", "LD512", "LD520", "LD702", "LD705", "LD712"))
def collate_parts_samples(record: Record, *, moved: int = 2) -> Iterator[Claim]:
    """Claims one finding for each collate function that parts samples."""
    for seen in record.of(CollatedOrder):
        if not seen.field or seen.moved < moved:
            continue
        yield Claim(
            message=f"`{seen.collate}` puts {seen.inputs} and {seen.field} in different orders: of {seen.samples} "
            f"samples {seen.moved} get what belongs to another.",
            subject=seen.collate,
            measured={"samples": seen.samples, "moved": seen.moved},
            fix=f"Sort the samples before they are taken apart, or {seen.inputs} and {seen.field} with one index.",
            at=seen.at,
        )
