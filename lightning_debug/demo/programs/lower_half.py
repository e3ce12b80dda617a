"""Sees the upper half of a handwritten digit and guesses how much ink the lower half holds."""

import os

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, random_split
from torchmetrics import MeanAbsoluteError

from lightning_debug import Debugger

Loader = DataLoader[tuple[Tensor, ...]]
FOLDER = os.path.dirname(os.path.abspath(__file__))


class InkGuesser(pl.LightningModule):
    """A small network with one output."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
        self.head = nn.Linear(32, 1)
        self.error = MeanAbsoluteError()

    def forward(self, upper: Tensor) -> Tensor:
        """Guesses (N, 1) for upper halves (N, 32)."""
        guess: Tensor = self.head(self.hidden(upper))
        return guess

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The loss of one batch."""
        upper, ink = batch
        guess = self(upper)
        loss = nn.functional.mse_loss(guess, ink)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Loss and mean absolute error on digits that were not trained on."""
        upper, ink = batch
        guess = self(upper)
        loss = nn.functional.mse_loss(guess, ink)
        self.error(guess.flatten(), ink.flatten())
        self.log("val_loss", loss)
        self.log("val_mae", self.error)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam, as everybody."""
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def make_loaders() -> tuple[Loader, Loader]:
    """Four fifths of the digits to train on, shuffled; one fifth to validate."""
    pixels = torch.tensor(load_digits().data, dtype=torch.float32) / 16
    upper, lower = pixels[:, :32], pixels[:, 32:]
    ink = lower.mean(dim=1, keepdim=True)
    ink = (ink - ink.mean()) / ink.std()
    digits = TensorDataset(upper, ink)
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
    trainer.fit(InkGuesser(), *make_loaders())


if __name__ == "__main__":
    main()
