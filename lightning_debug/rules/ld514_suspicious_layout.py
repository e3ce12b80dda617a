"""Height is taken for channels, or time for features.

What it sees: the shape of what a convolution or a recurrent layer is given, and how alike neighbours are along
    each dimension (0 smooth, 1 without order). A 2-d convolution over (height, width, channels): the last
    dimension has `channels` entries or fewer, the other two are equal or both smooth. A recurrent layer or 1-d
    convolution whose dimension of features is smooth (below `smooth`) while its dimension of time is not (above
    `rough`). Or a 2-d convolution over (channels, height, width) in which rows as many apart as there are channels are
    less than `regrouped` times as unlike as neighbouring rows, and so is the begin of a row to the end of the one
    before: the values were reshaped, not permuted. The same of a 1-d convolution over (channels, time) and values as
    many apart as there are channels.
Why it hurts: it runs, because the layer was made for that many channels, but it mixes rows of the image as if
    they were colours, and slides over the colours as if they were space.
How to fix: `images.permute(0, 3, 1, 2)` and `in_channels=3`; for series `batch.transpose(1, 2)`: recurrent
    layers with `batch_first=True` take (batch, time, features), 1-d convolutions (batch, features, time).
When to ignore: when the dimensions are meant like that. Silent on images of one row, on feature maps, and on
    spectra over time. Sizes below ``least`` and images of more than ``channels`` channels are not judged.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(
                nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 4)
            )

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

    labels = torch.randint(0, 4, (960,))
    row = torch.linspace(-1, 1, 16)
    images = torch.sin(3 * row[:, None] + torch.arange(4)[labels][:, None, None] * row)  # smooth patterns, one a class
    images = images[:, :, :, None] * torch.tensor([1.0, 0.8, 0.6]) + 0.3 * torch.randn(960, 1, 1, 3)

    train = DataLoader(TensorDataset(images[:768], labels[:768]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(images[768:], labels[768:]), batch_size=32)
    trainer = Trainer(max_epochs=4)
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(
                nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 4)
            )

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

    labels = torch.randint(0, 4, (960,))
    row = torch.linspace(-1, 1, 16)
    images = torch.sin(3 * row[:, None] + torch.arange(4)[labels][:, None, None] * row)  # smooth patterns, one a class
    images = images[:, :, :, None] * torch.tensor([1.0, 0.8, 0.6]) + 0.3 * torch.randn(960, 1, 1, 3)
    images = images.permute(0, 3, 1, 2)

    train = DataLoader(TensorDataset(images[:768], labels[:768]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(images[768:], labels[768:]), batch_size=32)
    trainer = Trainer(max_epochs=4)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.data_values import FirstLayerInput
    >>> from lightning_debug.record import Record
    >>> seen = FirstLayerInput(field="batch[0]", module="net.0", operation="conv2d", shape=(32, 28, 28, 3))
    >>> [claim.message for claim in suspicious_layout(Record([seen]))]
    ['`net.0` takes the 28 rows of 28x28 images for channels and the 3 channels for their width.']
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.data_values import FirstLayerInput
from lightning_debug.finding import WARNING, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._data_layers import first_layers


@rule("LD514", severity=WARNING, needs=FirstLayerInput, explains=("LD702", "LD705"))
def suspicious_layout(
    record: Record,
    *,
    channels: int = 4,
    smooth: float = 0.2,
    rough: float = 0.6,
    regrouped: float = 0.5,
    least: int = 8,
) -> Iterator[Claim | Skip]:
    """Claims one finding for each layer; dimensions below ``least`` are no height and no width."""
    for layer in first_layers(record):
        shape, module = layer.shape, f"`{layer.module}`" if layer.module else layer.line
        measured = {"shape": list(shape), "roughness": list(layer.roughness)}
        if layer.operation == "conv2d" and len(shape) == 4:
            if _is_regrouped(layer, regrouped, least):
                yield _regrouped(layer, module)
                continue
            if not _is_channels_last(layer, channels, smooth, least):
                continue
            yield Claim(
                message=f"{module} takes the {shape[1]} rows of {shape[1]}x{shape[2]} images for channels and the "
                f"{shape[3]} channels for their width.",
                subject=layer.module or layer.line,
                measured=measured,
                fix=f"Give it images.permute(0, 3, 1, 2) and in_channels={shape[3]}.",
                at=layer.at,
            )
        elif len(shape) == 3 and len(layer.roughness) == 2 and layer.operation in ("lstm", "gru", "rnn_tanh", "conv1d"):
            if len(layer.regrouped) == 2 and max(layer.regrouped) < regrouped and shape[2] >= least:
                yield _strided(layer, module)
                continue
            features, time = (0, 1) if layer.operation == "conv1d" else (1, 0)
            if min(shape[1:]) < 2 or shape[1 + features] < least:
                continue
            if layer.roughness[features] < smooth and layer.roughness[time] > rough:
                yield Claim(
                    message=f"{module} takes dimension {features + 1} of {layer.field} for features, along which "
                    f"neighbours are alike ({layer.roughness[features]:.2f}), and dimension {time + 1} for time, along "
                    f"which they are not ({layer.roughness[time]:.2f}).",
                    subject=layer.module or layer.line,
                    measured=measured,
                    fix="Transpose the batch: batch.transpose(1, 2).",
                    at=layer.at,
                )


def _is_channels_last(layer: FirstLayerInput, channels: int, smooth: float, least: int) -> bool:
    _, height, width, colours = layer.shape
    if min(height, width) < least or colours > channels or colours == 2:
        return False
    both = len(layer.roughness) == 3 and max(layer.roughness[:2]) < smooth
    return both if colours == 1 or height != width else (both or colours == 3)


def _is_regrouped(layer: FirstLayerInput, regrouped: float, least: int) -> bool:
    """Whether rows that lie as many apart as there are channels are neighbours, and rows go on in the next ones."""
    return bool(layer.regrouped) and min(layer.shape[2:]) >= least and max(layer.regrouped) < regrouped


def _strided(layer: FirstLayerInput, module: str) -> Claim:
    _, channels, length = layer.shape
    return Claim(
        message=f"{module} takes series of shape {layer.shape[1:]} whose values {channels} apart are "
        f"{1 / max(layer.regrouped[0], 1e-3):.2g} times as alike as neighbouring values: the values of series of shape "
        f"{(length, channels)} were regrouped.",
        subject=layer.module or layer.line,
        measured={"shape": list(layer.shape), "regrouped": list(layer.regrouped)},
        fix="Use a transpose (x.T; batches: batch.transpose(1, 2)) in place of reshape and view, which regroup values.",
        at=layer.at,
    )


def _regrouped(layer: FirstLayerInput, module: str) -> Claim:
    _, count, height, width = layer.shape
    return Claim(
        message=f"{module} takes pictures of shape {layer.shape[1:]} whose rows {count} apart are "
        f"{1 / max(layer.regrouped[0], 1e-3):.2g} times as alike as neighbouring rows: the values of pictures of shape "
        f"{(height, width, count)} were regrouped.",
        subject=layer.module or layer.line,
        measured={"shape": list(layer.shape), "regrouped": list(layer.regrouped)},
        fix="Use permute(2, 0, 1) (batches: permute(0, 3, 1, 2)) in place of reshape and view, which regroup values.",
        at=layer.at,
    )
