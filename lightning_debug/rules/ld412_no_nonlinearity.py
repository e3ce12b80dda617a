"""Linear layers follow each other with nothing nonlinear between them.

What it sees: one forward pass, call by call: a linear layer or convolution whose input is the output of another,
    with nothing but reshaping and dropout between them.
Why it hurts: two such layers compute what one could. Parameters and depth are there, but the model can express no
    more; where all of it is linear, it can draw straight boundaries only.
How to fix: put an activation between them (``nn.ReLU()``), or make them one layer.
When to ignore: when the product is meant. It is silent on bottlenecks narrower than both sides (low rank, LoRA,
    linear autoencoders), a layer that narrows and has no bias (it gives coefficients, and the next one holds their
    basis), what attention multiplies, depthwise and other separable convolutions, a wider convolution with one of
    size 1 that mixes its channels, layers along different dimensions (first time, then channels), outputs that
    something else uses as well, tied weights, and a head on an embedding made by another module, unless the whole
    model is linear. A note where a convolution feeds a linear layer and the rest of the model is not linear.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.Linear(32, 32), nn.Linear(32, 2))

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
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))

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
    >>> from lightning_debug.evidence.model import LinearChain, LinearPair, Place
    >>> from lightning_debug.record import Record
    >>> one = Place(name="linear", module="net.0", module_type="Linear")
    >>> two = Place(name="linear", module="net.1", module_type="Linear")
    >>> pair = LinearPair(first=one, second=two, widths=(8, 32, 2))
    >>> for claim in no_nonlinearity(Record([LinearChain(layers=2, nonlinear=False, pairs=(pair,))])):
    ...     print(claim.subject, "|", claim.message)
    net.1 | `net.1` (Linear) takes what `net.0` (Linear) gives, 8 to 32 to 2 features, with nothing nonlinear between;
    all 2 layers of the model are linear.

References:
    Goodfellow et al.: Deep Learning, chapter 6.1, https://www.deeplearningbook.org
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.model import LinearChain, LinearPair
from lightning_debug.finding import INFO, WARNING, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._model import named


@rule("LD412", severity=WARNING, needs=LinearChain, explains=("LD702", "LD705", "LD712"))
def no_nonlinearity(record: Record) -> Iterator[Claim]:
    """Claims one finding: the first pair of layers, with the number of others."""
    for seen in record.of(LinearChain):
        pairs = [pair for pair in seen.pairs if _is_fault(pair, seen)]
        if not pairs:
            continue
        heads = seen.nonlinear and all(map(_is_head, pairs))
        pair, more = next((one for one in pairs if not _is_head(one)), pairs[0]), len(pairs) - 1
        others = f"; so do{'es' * (more == 1)} {more} more" if more else ""
        whole = f"; all {seen.layers} layers of the model are linear" if not seen.nonlinear else ""
        widths = " to ".join(map(str, pair.widths))
        yield Claim(
            message=f"{named(pair.second)} takes what {named(pair.first)} gives, {widths} features, with nothing "
            f"nonlinear between{others}{whole}.",
            subject=pair.second.module or pair.second.line,
            measured={"widths": pair.widths, "pairs": len(pairs), "layers": seen.layers, "nonlinear": seen.nonlinear},
            fix=f"Put an activation, such as nn.ReLU(), between {named(pair.first)} and {named(pair.second)}.",
            at=seen.at,
            severity=INFO if heads else None,
        )
        return


def _is_fault(pair: LinearPair, seen: LinearChain) -> bool:
    before, between, after = pair.widths
    if pair.shared or pair.grouped or pair.attention or pair.tied or between < min(before, after):
        return False
    return pair.siblings or not seen.nonlinear


def _is_head(pair: LinearPair) -> bool:
    """Whether a convolution feeds a layer over all its positions: true, and in published designs as well."""
    return pair.first.name.startswith("conv") and pair.second.name == "linear"
