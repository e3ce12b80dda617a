# expect: none
"""L-BFGS, which calls the closure many times a step, on sparse inputs."""

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_iris
from torch import nn


class Log(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.w = nn.Linear(4, 3)

    def training_step(self, batch, i):
        return nn.functional.cross_entropy(self.w(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.LBFGS(self.parameters(), lr=0.5, max_iter=5)


class Emb(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.e = nn.Embedding(100, 8, sparse=True)
        self.o = nn.Linear(8, 1)

    def training_step(self, batch, i):
        a, c = self.optimizers()
        loss = nn.functional.binary_cross_entropy_with_logits(self.o(self.e(batch[0]).mean(1)).squeeze(1), batch[1])
        a.zero_grad()
        c.zero_grad()
        self.manual_backward(loss)
        a.step()
        c.step()
        self.log("loss", loss)

    def configure_optimizers(self):
        return [torch.optim.SparseAdam(self.e.parameters(), 1e-2), torch.optim.Adam(self.o.parameters(), 1e-2)]


d = load_iris()
x = torch.tensor((d.data - d.data.mean(0)) / d.data.std(0)).float()
DL = torch.utils.data.DataLoader
TD = torch.utils.data.TensorDataset
pl.Trainer(max_epochs=3, enable_progress_bar=False, logger=False).fit(
    Log(), DL(TD(x, torch.tensor(d.target)), 50, shuffle=True)
)
t = torch.randint(0, 100, (800, 6))
w = torch.randn(100)
y = (w[t].sum(1) > 0).float()
pl.Trainer(max_epochs=3, enable_progress_bar=False, logger=False).fit(Emb(), DL(TD(t, y), 40, shuffle=True))
