"""What programs for ModelInspector are made of."""

import pytorch_lightning as pl
import torch

COUNT = 96


class Program(pl.LightningModule):
    """A net with a step; subclasses say what it is given."""

    lr = 1e-3

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.lr)


def vectors():
    inputs = torch.randn(COUNT, 8)
    return inputs, (inputs[:, 0] > 0).long()
