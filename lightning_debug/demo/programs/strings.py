"""Reads strings of handwritten digits, most of them short, some long: padded, with gradient accumulation."""

import os

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset
from torchmetrics.classification import MulticlassAccuracy

from lightning_debug import Debugger

Loader = DataLoader[tuple[Tensor, Tensor]]
FOLDER = os.path.dirname(os.path.abspath(__file__))
NONE = -100
TYPICAL_COUNT = 10.0


class DigitStrings(Dataset[tuple[Tensor, Tensor]]):
    """A row of digits, cut into strings of random lengths."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        lengths = torch.tensor([1, 1, 2, 2, 3, 24])
        drawn = lengths[torch.randint(6, (len(labels),), generator=torch.Generator().manual_seed(0))]
        self.images, self.labels = images, labels
        self.ends = [0, *(end for end in drawn.cumsum(0).tolist() if end <= len(labels))]

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        digits = slice(self.ends[index], self.ends[index + 1])
        return self.images[digits], self.labels[digits]


class StringReader(pl.LightningModule):
    """Reads each digit of a string."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
        self.head = nn.Linear(32, 10)
        self.accuracy = MulticlassAccuracy(10, ignore_index=NONE)

    def forward(self, images: Tensor) -> Tensor:
        """Scores (N, 10, length) for strings of images (N, length, 64)."""
        scores: Tensor = self.head(self.hidden(images)).transpose(1, 2)
        return scores

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """The loss of one micro-batch: its share of what all of its digits cost."""
        scores, labels = self(batch["images"]), batch["labels"]
        loss = nn.functional.cross_entropy(scores, labels, ignore_index=NONE, reduction="sum") / TYPICAL_COUNT
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Loss and accuracy on digits that were not trained on."""
        scores, labels = self(batch["images"]), batch["labels"]
        loss = nn.functional.cross_entropy(scores, labels, ignore_index=NONE, reduction="sum") / TYPICAL_COUNT
        self.accuracy(scores.argmax(dim=1), labels)
        self.log("val_loss", loss)
        self.log("val_accuracy", self.accuracy)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam, as everybody."""
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def pad(strings: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """One batch: strings filled up to the longest, with labels that do not count."""
    images, labels = zip(*strings, strict=True)
    return {
        "images": pad_sequence(list(images), batch_first=True),
        "labels": pad_sequence(list(labels), batch_first=True, padding_value=NONE),
    }


def make_loaders() -> tuple[Loader, Loader]:
    """Four fifths of the digits to train on, shuffled; one fifth to validate."""
    pixels, labels = (torch.tensor(values) for values in load_digits(return_X_y=True))
    images = (pixels.float() - pixels.float().mean()) / pixels.float().std()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    train, validation = (DigitStrings(images[part], labels[part]) for part in (order[:1437], order[1437:]))
    return (
        DataLoader(train, batch_size=2, shuffle=True, collate_fn=pad),
        DataLoader(validation, batch_size=2, collate_fn=pad),
    )


def main() -> None:
    """Trains for a few seconds."""
    torch.set_num_threads(1)  # batches this small gain nothing from more
    pl.seed_everything(0)
    trainer = pl.Trainer(
        max_epochs=12,
        accelerator="cpu",
        default_root_dir=FOLDER,
        accumulate_grad_batches=8,
        log_every_n_steps=5,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Debugger(report_dir=FOLDER)],
    )
    trainer.fit(StringReader(), *make_loaders())


if __name__ == "__main__":
    main()
