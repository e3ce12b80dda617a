"""Programs whose schedulers wait for plateaus, are stepped by hand, or are resumed."""

from __future__ import annotations

import torch
from torch.nn import functional as F
from torch.optim import lr_scheduler as schedules

from tests.optimizer_programs import Classifier, loader


class Scheduled(Classifier):
    """4 batches an epoch, a scheduler of one's choice."""

    def __init__(self, make, rate=1e-2, **keys):
        super().__init__()
        self.make, self.rate, self.keys = make, rate, keys

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), self.rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.make(optimizer), **self.keys}}


class Waiting(Classifier):
    """Waits for a plateau of what validation, or the end of an epoch, logs."""

    def __init__(self, logged, late="", **keys):
        super().__init__()
        self.logged, self.late, self.keys = logged, late, keys

    def validation_step(self, batch, batch_idx):
        scores = self.scores(batch[0])
        values = {"loss": F.cross_entropy(scores, batch[1]), "acc": (scores.argmax(1) == batch[1]).float().mean()}
        for name in self.logged:
            value = values["acc" if any(word in name for word in ("acc", "f1", "score")) else "loss"]
            self.log(name, -value if "neg" in name else value)

    def on_train_epoch_end(self):
        if self.late:
            self.log(self.late, 0.5 / (1 + self.current_epoch))

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), 0.1)
        mode = self.keys.pop("mode", "min")
        plateau = schedules.ReduceLROnPlateau(optimizer, mode=mode, patience=1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, **self.keys}}


class AtEpochEnd(Scheduled):
    def on_train_epoch_end(self):
        self.lr_schedulers().step()


class AtEpochStart(Scheduled):
    def on_train_epoch_start(self):
        self.lr_schedulers().step()


class AtEachBatch(Scheduled):
    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.lr_schedulers().step()


class SetInStep(Scheduled):
    def training_step(self, batch, batch_idx):
        self.lr_schedulers().step(self.current_epoch)
        return super().training_step(batch, batch_idx)


class SetAfterBatch(Scheduled):
    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.lr_schedulers().step(self.current_epoch)


class SetAtStart(Scheduled):
    def on_train_epoch_start(self):
        self.lr_schedulers().step(self.current_epoch)


class SetByFraction(Scheduled):
    """As the documentation of warm restarts has it."""

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.lr_schedulers().step(self.current_epoch + batch_idx / 4)


class SetByOwnHook(Scheduled):
    def lr_scheduler_step(self, scheduler, metric):
        scheduler.step(self.current_epoch)


class InItsOwnStep(Scheduled):
    """Steps its scheduler with each batch, and keeps Lightning from stepping it as well."""

    def training_step(self, batch, batch_idx):
        self.lr_schedulers().step()
        return super().training_step(batch, batch_idx)

    def lr_scheduler_step(self, scheduler, metric):
        """Nothing."""


class FastForward(Scheduled):
    def on_train_start(self):
        for _ in range(4):
            self.lr_schedulers().step()


def validation():
    return loader(32)
