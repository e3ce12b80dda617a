"""Reads handwritten digits: images of 8 x 8 pixels, ten classes."""

import os

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, random_split
from torchmetrics.classification import MulticlassAccuracy

from lightning_debug import Debugger

Loader = DataLoader[tuple[Tensor, ...]]
FOLDER = os.path.dirname(os.path.abspath(__file__))


def load_encoder() -> nn.Module:
    """Stands for an encoder from a model hub: convolutions, batch-norm, dropout."""
    encoder: nn.Module = nn.Sequential(
        nn.Conv2d(1, 16, kernel_size=3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, kernel_size=3, padding=1, stride=2),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(512, 64),
        nn.ReLU(),
    )
    return encoder


class DigitReader(pl.LightningModule):
    """An encoder and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = load_encoder()
        self.head = nn.Linear(64, 10)
        self.accuracy = MulticlassAccuracy(10)

    def forward(self, images: Tensor) -> Tensor:
        """Scores (N, 10) for images (N, 1, 8, 8)."""
        features = self.encoder(images)
        scores: Tensor = self.head(features)
        return scores

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The loss of one batch."""
        images, labels = batch
        scores = self(images)
        loss = nn.functional.cross_entropy(scores, labels)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Loss and accuracy on digits that were not trained on."""
        images, labels = batch
        scores = self(images)
        loss = nn.functional.cross_entropy(scores, labels)
        self.accuracy(scores.argmax(dim=1), labels)
        self.log("val_loss", loss)
        self.log("val_accuracy", self.accuracy)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam, as everybody."""
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def make_loaders() -> tuple[Loader, Loader]:
    """Four fifths of the digits to train on, shuffled; one fifth to validate."""
    pixels, labels = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8)
    images = (images - images.mean()) / images.std()
    digits = TensorDataset(images, torch.tensor(labels))
    train, validation = random_split(digits, [1437, 360], torch.Generator().manual_seed(0))
    return DataLoader(train, batch_size=64, shuffle=True), DataLoader(validation, batch_size=64)


def main() -> None:
    """Trains for a few seconds."""
    torch.set_num_threads(1)  # batches this small gain nothing from more
    pl.seed_everything(0)
    trainer = pl.Trainer(
        max_epochs=6,
        accelerator="cpu",
        default_root_dir=FOLDER,
        log_every_n_steps=5,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Debugger(report_dir=FOLDER)],
    )
    trainer.fit(DigitReader(), *make_loaders())


if __name__ == "__main__":
    main()
