"""The same faults in programs of other styles: convolutions, recurrent nets, embeddings, dictionaries for batches."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import lr_scheduler as schedules
from torch.utils.data import DataLoader


class Images(pl.LightningModule):
    """A small convolutional net; batches are dictionaries."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(8 * 9, 2))

    def forward(self, pictures):
        return self.classifier(self.features(pictures))

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self(batch["picture"]), batch["label"])
        self.log("train_loss", loss)
        return {"loss": loss}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.05, momentum=0.9)

    def train_dataloader(self):
        torch.manual_seed(1)
        pictures = torch.randn(96, 1, 6, 6)
        labels = (pictures[:, 0, :3].mean((1, 2)) > 0).long()
        rows = [{"picture": picture, "label": label} for picture, label in zip(pictures, labels, strict=True)]
        return DataLoader(rows, batch_size=8, shuffle=True)


class Words(pl.LightningModule):
    """An embedding, a recurrent net and a linear layer over tokens."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(30, 12)
        self.reader = nn.GRU(12, 16, batch_first=True)
        self.out = nn.Linear(16, 1)

    def forward(self, tokens):
        return self.out(self.reader(self.table(tokens))[0][:, -1]).squeeze(1)

    def training_step(self, batch, batch_idx):
        tokens, values = batch
        return F.mse_loss(self(tokens), values)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), 3e-3)

    def train_dataloader(self):
        torch.manual_seed(2)
        tokens = torch.randint(30, (96, 7))
        return DataLoader(list(zip(tokens, tokens.float().mean(1) / 15 - 1, strict=True)), batch_size=8, shuffle=True)


class NewClassifier(Images):
    """As in fine-tuning recipes, but too late."""

    def on_fit_start(self):
        self.classifier[1] = nn.Linear(8 * 9, 2)


class NewReader(Words):
    def on_train_start(self):
        self.reader = nn.GRU(12, 16, batch_first=True)


class BiasesDropped(Images):
    def configure_optimizers(self):
        decayed, plain = [], []
        for item in self.parameters():
            (decayed if item.ndim > 1 else plain).append(item)
        return torch.optim.AdamW([{"params": decayed, "weight_decay": 0.05}], 1e-2)


class EmbeddingDropped(Words):
    def configure_optimizers(self):
        groups = {"table": [], "rest": []}
        for name, item in self.named_parameters():
            groups["table" if name.startswith("table") else "rest"].append(item)
        return torch.optim.Adam(groups["rest"], 1e-2)


class ImagesStale(Images):
    def on_train_start(self):
        self.__dict__.pop("_", None)
        self.features = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(8 * 9, 2))


class WordsReset(Words):
    """Weights made anew, in place of the parameters that the optimizer holds."""

    def on_train_start(self):
        for module in self.modules():
            for name, item in list(module._parameters.items()):
                module._parameters[name] = nn.Parameter(torch.randn_like(item) * 0.1)


class ImagesRateZero(Images):
    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.0)


class WordsRateZero(Words):
    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), 3e-3)
        never = schedules.LambdaLR(optimizer, lambda epoch: epoch // 100)
        return [optimizer], [never]


class MemoryBank(Images):
    """Nothing is trained on purpose: a frozen net's features are kept, and the loss is a stand-in."""

    def __init__(self):
        super().__init__()
        self.requires_grad_(False)
        self.bank = []

    def training_step(self, batch, batch_idx):
        self.bank.append(self.features(batch["picture"]))
        return torch.tensor(0.0, requires_grad=True)


class Frozen:
    """Everything frozen, where the optimizer is made."""

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        self.requires_grad_(False)
        return optimizer


class ImagesFrozen(Frozen, Images):
    pass


class WordsFrozen(Frozen, Words):
    pass


class ZeroedEachTime(Words):
    """The gradient is deleted at each micro-batch, and the optimizer steps at every third."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx) / 3)
        if (batch_idx + 1) % 3 == 0:
            optimizer.step()


class ImagesMisplaced(Images):
    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), 0.05)
        scheduler = schedules.CosineAnnealingLR(optimizer, 24)
        return {"optimizer": optimizer, "lr_scheduler": scheduler, "interval": "step", "frequency": 1}


class WordsMisplaced(Words):
    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), 3e-3)
        return {
            "optimizer": optimizer,
            "interval": "step",
            "lr_scheduler": schedules.LinearLR(optimizer, 0.1, total_iters=10),
        }


class ImagesCycle(Images):
    """One cycle of the batches of an epoch, for several epochs."""

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), 0.05)
        cycle = schedules.OneCycleLR(optimizer, 0.1, total_steps=12)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


class WordsCycle(Words):
    """One cycle of all batches, where several make a step."""

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), 3e-3)
        cycle = schedules.OneCycleLR(optimizer, 0.1, epochs=self.trainer.max_epochs, steps_per_epoch=12)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


FAULTS = {
    NewClassifier: "LD406",
    NewReader: "LD406",
    BiasesDropped: "LD406",
    EmbeddingDropped: "LD406",
    ImagesStale: "LD408",
    WordsReset: "LD408",
    ImagesRateZero: "LD408",
    WordsRateZero: "LD408",
    ZeroedEachTime: "LD607",
    ImagesMisplaced: "LD604",
    WordsMisplaced: "LD604",
    WordsCycle: "LD604",
}
"""Each with the code it should be given within two epochs."""
