"""What a step's code uses beside objects is refused where it cannot be put back."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tests.test_isolation_refusals import Frozen, Plain, attempt

GLOBAL_ITERATOR = iter([1, 2, 3])
wandb = dataclasses  # a module of that name


class UsesGlobal(Plain):
    def training_step(self, batch):
        next(GLOBAL_ITERATOR, None)
        return super().training_step(batch)


class UsesService(Plain):
    def training_step(self, batch):
        wandb.fields(Frozen())
        return super().training_step(batch)


class Writes(Plain):
    def training_step(self, batch):
        self.dump(batch)
        return super().training_step(batch)

    def dump(self, batch):
        with open("out.txt", "a") as file:
            file.write("x")


class Saves(Plain):
    def training_step(self, batch):
        torch.save(batch, "batch.pt")
        return super().training_step(batch)


class WritesElsewhere(Plain):
    """Files outside of steps are nobody's business."""

    def on_train_end(self):
        with open("out.txt", "a") as file:
            file.write("x")

    def prepare_data(self):
        torch.save(1, "x.pt")


class TakesIterator(Plain):
    def training_step(self, dataloader_iter):
        self.ran += 1
        return self.net(next(dataloader_iter)[0][0]).mean()


@pytest.mark.parametrize(
    ("kind", "words"),
    [(UsesGlobal, "GLOBAL_ITERATOR"), (Writes, "open"), (Saves, "save"), (TakesIterator, "dataloader_iter")],
)
def test_what_the_code_does_is_refused(kind, words):
    refusal = attempt(kind())
    assert refusal is not None
    assert words in str(refusal)


def test_a_service_is_refused(monkeypatch):
    monkeypatch.setattr(wandb, "__name__", "wandb")
    assert "wandb" in str(attempt(UsesService()))


def test_code_that_steps_do_not_call_is_none_of_our_business():
    assert attempt(WritesElsewhere()) is None
