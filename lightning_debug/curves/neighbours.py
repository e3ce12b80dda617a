"""What the nearest neighbours make of a data set: the bar that a trained network should pass."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lightning_debug.curves.noise import Array

NEIGHBOURS = 10


def classification(inputs: Array, labels: NDArray[np.int64]) -> tuple[float, float, float]:
    """Cross-entropy of the labels' distribution and of the neighbours' votes, leaving each sample out.

    Args:
        inputs: ``(samples, features)``.
        labels: ``(samples,)``.

    Returns:
        Baseline and neighbours' loss in nats, and the standard error of their difference.

    >>> rng = np.random.default_rng(0)
    >>> labels = rng.integers(0, 2, 200)
    >>> baseline, neighbours, error = classification(rng.normal(size=(200, 3)) + 3 * labels[:, None], labels)
    >>> round(baseline, 1), neighbours < 0.1, error < 0.1
    (0.7, True, True)
    """
    _, codes = np.unique(labels, return_inverse=True)
    classes = int(codes.max()) + 1
    prior = (np.bincount(codes, minlength=classes) + 0.5) / (len(codes) + 0.5 * classes)
    near = _nearest(inputs)
    votes = np.zeros((len(codes), classes))
    for column in range(near.shape[1]):
        votes[np.arange(len(codes)), codes[near[:, column]]] += 1
    guess = (votes + prior) / (near.shape[1] + 1)  # one vote for the prior: no neighbour is sure
    rows = np.arange(len(codes))
    return _compared(-np.log(prior[codes]), -np.log(guess[rows, codes]))


def regression(inputs: Array, targets: Array, *, absolute: bool = False) -> tuple[float, float, float]:
    """Squared (or absolute) error of the targets' mean (median) and of the neighbours' mean.

    Args:
        inputs: ``(samples, features)``.
        targets: ``(samples, outputs)``.
        absolute: Whether to take absolute errors.

    Returns:
        As :func:`classification`, averaged over outputs.
    """
    guess = targets[_nearest(inputs)].mean(axis=1)
    centre = np.median(targets, axis=0) if absolute else targets.mean(axis=0)
    power = 1 if absolute else 2
    return _compared((np.abs(targets - centre) ** power).mean(1), (np.abs(targets - guess) ** power).mean(1))


def _compared(baseline: Array, neighbours: Array) -> tuple[float, float, float]:
    error = float((baseline - neighbours).std(ddof=1) / math.sqrt(len(baseline)))
    return float(baseline.mean()), float(neighbours.mean()), error


def _nearest(inputs: Array) -> NDArray[np.int64]:
    """Indices of the neighbours of each sample, itself left out; features are scaled to unit variance."""
    spread = inputs.std(axis=0)
    kept = spread > 1e-12
    scaled = (inputs[:, kept] - inputs[:, kept].mean(axis=0)) / spread[kept]
    squares = (scaled**2).sum(axis=1)
    distances = squares[:, None] + squares[None, :] - 2 * scaled @ scaled.T
    np.fill_diagonal(distances, np.inf)
    many = min(NEIGHBOURS, len(inputs) - 1)
    return np.argpartition(distances, many - 1, axis=1)[:, :many]
