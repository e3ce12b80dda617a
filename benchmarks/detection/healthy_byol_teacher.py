# expect: none
"""BYOL: a teacher in eval mode that follows the student by momentum; the loss has no labels and a negative floor."""

import copy

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset


class Views(Dataset):
    def __init__(self):
        self.images = torch.tensor((load_digits().images - 5) / 6).float()[:, None]

    def __len__(self):
        return len(self.images)

    def view(self, image):
        shift = torch.randint(-1, 2, (2,)).tolist()
        return torch.roll(image, shift, (1, 2)) + 0.2 * torch.randn_like(image)

    def __getitem__(self, index):
        return [self.view(self.images[index]), self.view(self.images[index])], f"{index}.png"


class BYOL(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.student = nn.Sequential(
            nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(576, 32)
        )
        self.predictor = nn.Sequential(nn.Linear(32, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 32))
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)

    def half(self, a, b):
        with torch.no_grad():
            target = self.teacher(b)
        return -F.cosine_similarity(self.predictor(self.student(a)), target).mean()

    def training_step(self, batch, batch_idx):
        (a, b), _ = batch
        loss = 0.5 * (self.half(a, b) + self.half(b, a))
        self.log("train/byol", loss, batch_size=len(a))
        return loss

    def on_train_batch_end(self, outputs, batch, batch_idx):
        with torch.no_grad():
            pairs = zip(self.teacher.state_dict().values(), self.student.state_dict().values(), strict=True)
            for slow, fast in pairs:
                if slow.is_floating_point():
                    slow.lerp_(fast, 0.02)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


trainer = pl.Trainer(max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(BYOL(), DataLoader(Views(), 64, shuffle=True, drop_last=True))
