"""SimCLR and BYOL on handwritten digits, as lightly's examples have them."""

import copy

import pytorch_lightning as pl
import torch
from lightly.loss import NegativeCosineSimilarity, NTXentLoss
from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead, SimCLRProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from result import metrics, told
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset

NEEDS = "lightly sklearn"


def backbone():
    return nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())  # fmt: skip


class Views(Dataset):
    def __init__(self):
        self.images = torch.tensor(load_digits().images[:384], dtype=torch.float32)[:, None] / 8 - 1
        self.targets = load_digits().target[:384]

    def __len__(self):
        return len(self.images)

    def view(self, image):
        shift = torch.randint(-1, 2, (2,)).tolist()
        return torch.roll(image, shift, (1, 2)) + 0.1 * torch.randn_like(image)

    def __getitem__(self, index):
        image = self.images[index]
        return [self.view(image), self.view(image)], int(self.targets[index]), f"digit {index}.png"


class SimCLR(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.backbone = backbone()
        self.projection_head = SimCLRProjectionHead(32, 64, 32)
        self.criterion = NTXentLoss()

    def forward(self, x):
        return self.projection_head(self.backbone(x))

    def training_step(self, batch, batch_index):
        (x0, x1), _, _ = batch
        loss = self.criterion(self(x0), self(x1))
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.06)


class BYOL(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.backbone = backbone()
        self.projection_head = BYOLProjectionHead(32, 64, 32)
        self.prediction_head = BYOLPredictionHead(32, 64, 32)
        self.backbone_momentum = copy.deepcopy(self.backbone)
        self.projection_head_momentum = copy.deepcopy(self.projection_head)
        deactivate_requires_grad(self.backbone_momentum)
        deactivate_requires_grad(self.projection_head_momentum)
        self.criterion = NegativeCosineSimilarity()

    def forward(self, x):
        return self.prediction_head(self.projection_head(self.backbone(x)))

    def forward_momentum(self, x):
        return self.projection_head_momentum(self.backbone_momentum(x)).detach()

    def training_step(self, batch, batch_idx):
        update_momentum(self.backbone, self.backbone_momentum, m=0.99)
        update_momentum(self.projection_head, self.projection_head_momentum, m=0.99)
        (x0, x1), _, _ = batch
        p0, z0, p1, z1 = self(x0), self.forward_momentum(x0), self(x1), self.forward_momentum(x1)
        return 0.5 * (self.criterion(p0, z1) + self.criterion(p1, z0))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.06)


def main():
    modules, numbers = nn.ModuleDict(), {}
    for kind in (SimCLR, BYOL):
        pl.seed_everything(2)
        model = kind()
        trainer = pl.Trainer(max_epochs=3, accelerator="cpu", enable_progress_bar=False)
        trainer.fit(model, DataLoader(Views(), batch_size=64, shuffle=True, drop_last=True))
        modules[kind.__name__] = model
        numbers |= {f"{kind.__name__} {name}": value for name, value in metrics(trainer).items()}
    told(modules, **numbers)


if __name__ == "__main__":
    main()
