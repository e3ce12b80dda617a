# expect: none
"""Images as a list and targets as a list of dictionaries, as detection has them."""

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader


class Detector(pl.LightningModule):
    """Finds the one or two bright spots of an image: a score and an offset for each cell."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(4)
        )
        self.score, self.box = nn.Conv2d(16, 1, 1), nn.Conv2d(16, 2, 1)

    def losses(self, images, targets):
        h = self.body(torch.stack(images))
        score, box = self.score(h)[:, 0], self.box(h)
        wanted, mask = torch.zeros_like(score), torch.zeros_like(score)
        offset = torch.zeros_like(box)
        for row, target in enumerate(targets):
            for centre in target["centres"]:
                i, j = (centre // 4).long().tolist()
                wanted[row, i, j] = mask[row, i, j] = 1
                offset[row, :, i, j] = (centre % 4) / 4
        return {
            "loss_score": F.binary_cross_entropy_with_logits(score, wanted),
            "loss_box": (F.l1_loss(box, offset, reduction="none").sum(1) * mask).sum() / mask.sum().clamp(min=1),
        }

    def training_step(self, batch, batch_idx):
        losses = self.losses(*batch)
        self.log_dict(losses, batch_size=len(batch[0]))
        return sum(losses.values())

    def validation_step(self, batch, batch_idx):
        losses = self.losses(*batch)
        self.log("val_loss", sum(losses.values()), batch_size=len(batch[0]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def scene():
    image, centres = 0.3 * torch.randn(1, 16, 16), torch.randint(1, 15, (int(torch.randint(1, 3, ())), 2))
    for i, j in centres.tolist():
        image[0, i - 1 : i + 2, j - 1 : j + 2] += 2
    return image, {"centres": centres.float(), "labels": torch.ones(len(centres)), "name": "scene"}


def collate(rows):
    return tuple(zip(*rows, strict=True))


scenes = [scene() for _ in range(600)]
trainer = pl.Trainer(max_epochs=5, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(
    Detector(),
    DataLoader(scenes[:480], 20, shuffle=True, collate_fn=collate),
    DataLoader(scenes[480:], 40, collate_fn=collate),
)
