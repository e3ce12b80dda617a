"""Models and data of which overhead is measured: a perceptron, a transformer and a CNN with steps of 10 ms and more."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset


class Perceptron(nn.Module):
    """5 M parameters, classes of vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(784, 1600), nn.ReLU(), nn.Linear(1600, 1600), nn.ReLU(), nn.Linear(1600, 800), nn.ReLU()
        )
        self.head = nn.Linear(800, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        """Scores of ``inputs`` [batch, 784]."""
        return self.head(self.net(inputs))


class Transformer(nn.Module):
    """3 M parameters, next tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(512, 256), nn.Parameter(0.02 * torch.randn(32, 256))
        layer = nn.TransformerEncoderLayer(256, 4, 1024, dropout=0.1, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.head = nn.Linear(256, 512)

    def forward(self, tokens: Tensor) -> Tensor:
        """Scores of the next token at each of ``tokens`` [batch, 32]."""
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1], device=tokens.device)
        return self.head(self.layers(self.embed(tokens) + self.place, mask=mask, is_causal=True)).transpose(1, 2)


class Convolutions(nn.Module):
    """A CNN with batch-norm, classes of images."""

    def __init__(self) -> None:
        super().__init__()
        wide = [3, 32, 64, 128]
        parts: list[nn.Module] = []
        for before, after in itertools.pairwise(wide):
            parts += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
        self.net = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))

    def forward(self, inputs: Tensor) -> Tensor:
        """Scores of ``inputs`` [batch, 3, 32, 32]."""
        scores: Tensor = self.net(inputs)
        return scores


def vectors(count: int) -> TensorDataset:
    """Vectors whose largest of ten projections is the class."""
    inputs = torch.randn(count, 784)
    return TensorDataset(inputs, (inputs @ torch.randn(784, 10)).argmax(1))


def sentences(count: int) -> TensorDataset:
    """Tokens, each of which follows from the one before, mostly."""
    tokens = torch.randint(0, 512, (count, 33))
    for place in range(1, 33):
        follows = torch.rand(count) < 0.8
        tokens[follows, place] = (tokens[follows, place - 1] * 7 + 3) % 512
    return TensorDataset(tokens[:, :-1].clone(), tokens[:, 1:].clone())


def images(count: int) -> TensorDataset:
    """Images whose class is a faint pattern."""
    labels, patterns = torch.randint(0, 10, (count,)), torch.randn(10, 3, 32, 32)
    return TensorDataset(torch.randn(count, 3, 32, 32) + 0.3 * patterns[labels], labels)


MODELS: dict[str, tuple[type[nn.Module], Callable[[int], TensorDataset], int]] = {
    "mlp": (Perceptron, vectors, 64),
    "transformer": (Transformer, sentences, 8),
    "cnn": (Convolutions, images, 16),
}


class Task(pl.LightningModule):
    """Trains one of the models, as its users would."""

    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.model = kind()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Cross-entropy of a batch."""
        inputs, targets = batch
        loss = nn.functional.cross_entropy(self.model(inputs), targets)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW at a usual rate."""
        return torch.optim.AdamW(self.parameters(), 3e-4)
