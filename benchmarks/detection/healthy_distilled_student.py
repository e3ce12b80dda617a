# expect: none
"""A student learns from a teacher's softened probabilities and from labels."""

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

images, digits = load_digits(return_X_y=True)
images, digits = torch.tensor((images - 5) / 6).float(), torch.tensor(digits)


def trained_teacher():
    teacher = nn.Sequential(nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(teacher.parameters(), 3e-3)
    for _ in range(100):
        rows = torch.randint(0, 1400, (64,))
        loss = F.cross_entropy(teacher(images[rows]), digits[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return teacher


class Distill(pl.LightningModule):
    def __init__(self, teacher, temperature=3.0):
        super().__init__()
        self.save_hyperparameters(ignore=["teacher"])
        self.student = nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))
        self.teacher = [teacher.eval()]

    def training_step(self, batch, batch_idx):
        x, y = batch
        t = self.hparams.temperature
        with torch.inference_mode():
            soft = (self.teacher[0](x) / t).softmax(-1)
        scores = self.student(x)
        kd = F.kl_div((scores / t).log_softmax(-1), soft.clone(), reduction="batchmean") * t * t
        loss = 0.7 * kd + 0.3 * F.cross_entropy(scores, y)
        self.log_dict({"train/kd": kd, "train/loss": loss})
        return loss

    def validation_step(self, batch, batch_idx):
        scores = self.student(batch[0])
        self.log("val/loss", F.cross_entropy(scores, batch[1]))
        self.log("val/acc", (scores.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.student.parameters(), lr=2e-3)


train, val = TensorDataset(images[:1400], digits[:1400]), TensorDataset(images[1400:], digits[1400:])
trainer = pl.Trainer(max_epochs=5, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Distill(trained_teacher()), DataLoader(train, 50, shuffle=True), DataLoader(val, 100))
