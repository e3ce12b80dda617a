"""Tells even digits from odd ones: images of 8 x 8 pixels, one output."""

import os

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, random_split
from torchmetrics.classification import BinaryAccuracy

from lightning_debug import Debugger

Loader = DataLoader[tuple[Tensor, ...]]
FOLDER = os.path.dirname(os.path.abspath(__file__))


class ParityReader(pl.LightningModule):
    """A small network with one output: the score for "odd"."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 32), nn.ReLU())
        self.head = nn.Linear(32, 1)
        self.accuracy = BinaryAccuracy()

    def forward(self, images: Tensor) -> Tensor:
        """Scores (N, 1) for images (N, 64)."""
        scores: Tensor = self.head(self.hidden(images))
        return scores

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The loss of one batch."""
        images, is_odd = batch
        scores = self(images)
        loss = nn.functional.binary_cross_entropy_with_logits(scores, is_odd)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Loss and accuracy on digits that were not trained on."""
        images, is_odd = batch
        scores = self(images)
        loss = nn.functional.binary_cross_entropy_with_logits(scores, is_odd)
        self.accuracy(scores.sigmoid(), is_odd)
        self.log("val_loss", loss)
        self.log("val_accuracy", self.accuracy)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam, as everybody."""
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def make_loaders() -> tuple[Loader, Loader]:
    """Four fifths of the digits to train on, shuffled; one fifth to validate."""
    pixels, labels = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32)
    images = (images - images.mean()) / images.std()
    is_odd = torch.tensor(labels % 2, dtype=torch.float32).reshape(-1, 1)
    digits = TensorDataset(images, is_odd)
    train, validation = random_split(digits, [1437, 360], torch.Generator().manual_seed(0))
    return DataLoader(train, batch_size=64, shuffle=True), DataLoader(validation, batch_size=64)


def main() -> None:
    """Trains for a few seconds."""
    torch.set_num_threads(1)  # batches this small gain nothing from more
    pl.seed_everything(0)
    trainer = pl.Trainer(
        max_epochs=8,
        accelerator="cpu",
        default_root_dir=FOLDER,
        log_every_n_steps=5,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Debugger(report_dir=FOLDER)],
    )
    trainer.fit(ParityReader(), *make_loaders())


if __name__ == "__main__":
    main()
