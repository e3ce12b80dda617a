"""Programs whose optimisation is right, and looks unusual."""

import copy

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F

from tests.optimizer_programs import ByHand, Classifier, loader
from tests.optimizer_programs_unusual import Decayed, Places, Reversed, Skips, Spare, WarmFromZero


class Gan(pl.LightningModule):
    def __init__(self, toggled=True, zero_first=True, detach=True):
        super().__init__()
        self.automatic_optimization = False
        self.generator = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 8))
        self.critic = nn.Sequential(nn.Linear(8, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
        self.toggled, self.zero_first, self.detach = toggled, zero_first, detach

    def training_step(self, batch, batch_idx):
        first, second = self.optimizers()
        noise = torch.randn(len(batch[0]), 4)
        one, zero = torch.ones(len(noise), 1), torch.zeros(len(noise), 1)
        if self.toggled:
            self.toggle_optimizer(second)
        fake = self.generator(noise)
        fake = fake.detach() if self.detach else fake
        loss = F.binary_cross_entropy_with_logits(self.critic(batch[0]), one)
        loss = loss + F.binary_cross_entropy_with_logits(self.critic(fake), zero)
        self.update(second, loss)
        if self.toggled:
            self.untoggle_optimizer(second)
            self.toggle_optimizer(first)
        self.update(first, -F.binary_cross_entropy_with_logits(self.critic(self.generator(noise)), zero))
        if self.toggled:
            self.untoggle_optimizer(first)

    def update(self, optimizer, loss):
        if self.zero_first:
            optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        if not self.zero_first:
            self.zero_grad()

    def configure_optimizers(self):
        return torch.optim.Adam(self.generator.parameters(), 2e-4), torch.optim.Adam(self.critic.parameters(), 2e-4)


class Finetuned(Classifier):
    def __init__(self):
        super().__init__()
        self.backbone = self.body
        del self.body

    def scores(self, inputs):
        return self.head(self.backbone(inputs))

    def configure_optimizers(self):
        return torch.optim.Adam([item for item in self.parameters() if item.requires_grad], 1e-2)


class Averaged(Classifier):
    """An average of the weights that training steps write."""

    def __init__(self):
        super().__init__()
        self.average = copy.deepcopy(self.body)

    def on_train_batch_end(self, *_):
        with torch.no_grad():
            for mine, theirs in zip(self.average.parameters(), self.body.parameters(), strict=True):
                mine.lerp_(theirs, 0.1)


class Target(Classifier):
    """A target network, copied rarely, in the optimizer and never trained."""

    def __init__(self):
        super().__init__()
        self.target = copy.deepcopy(self.body)

    def training_step(self, batch, batch_idx):
        with torch.no_grad():
            aim = self.target(batch[0])
        return super().training_step(batch, batch_idx) + 0.1 * F.mse_loss(self.body(batch[0]), aim)


class Rows(pl.LightningModule):
    """Embeddings with sparse gradients, stepped by an optimizer of their own."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.table = nn.Embedding(50, 8, sparse=True)
        self.out = nn.Linear(8, 2)

    def training_step(self, batch, batch_idx):
        sparse, dense = self.optimizers()
        loss = F.cross_entropy(self.out(self.table((batch[0] * 10).long().clamp(0, 49)).mean(1)), batch[1])
        sparse.zero_grad()
        dense.zero_grad()
        self.manual_backward(loss)
        sparse.step()
        dense.step()

    def configure_optimizers(self):
        return torch.optim.SparseAdam(self.table.parameters(), 1e-2), torch.optim.Adam(self.out.parameters(), 1e-2)


class LowRank(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(2, inner.in_features) * 0.1)
        self.up = nn.Parameter(torch.zeros(inner.out_features, 2))

    def forward(self, inputs):
        return self.inner(inputs) + inputs @ self.down.T @ self.up.T


class Adapted(Classifier):
    def __init__(self):
        super().__init__()
        self.body[0], self.body[2] = LowRank(self.body[0]), LowRank(self.body[2])

    def configure_optimizers(self):
        return torch.optim.AdamW([item for item in self.parameters() if item.requires_grad], 1e-2)


class Distilled(Classifier):
    """A frozen teacher that hides in a list; a student learns from it."""

    def __init__(self):
        super().__init__()
        self.teacher = [nn.Linear(8, 2).requires_grad_(False)]

    def training_step(self, batch, batch_idx):
        return F.mse_loss(self.scores(batch[0]), self.teacher[0](batch[0]))


class Tied(Classifier):
    def __init__(self):
        super().__init__()
        self.body[2].weight = nn.Parameter(torch.randn(16, 16) * 0.1)
        self.again = nn.Linear(16, 16)
        self.again.weight = self.body[2].weight

    def scores(self, inputs):
        return self.head(self.again(self.body(inputs)))


class Newton(Classifier):
    def configure_optimizers(self):
        return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=4)


class EveryFew(ByHand):
    """Accumulation by hand."""

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        self.manual_backward(Classifier.training_step(self, batch, batch_idx) / 3)
        if batch_idx % 3 == 2:
            optimizer.step()
            optimizer.zero_grad()


class Raw(ByHand):
    """Plain torch inside the step: loss.backward(), and an optimizer that the Trainer does not know."""

    def __init__(self):
        super().__init__()
        self.own = torch.optim.SGD(self.body.parameters(), lr=0.1)

    def training_step(self, batch, batch_idx):
        loss = Classifier.training_step(self, batch, batch_idx)
        self.zero_grad()
        loss.backward()
        self.own.step()
        self.optimizers().step()

    def configure_optimizers(self):
        return torch.optim.SGD(self.head.parameters(), lr=0.1)


class HandMade(ByHand):
    """Weights moved without an optimizer."""

    def training_step(self, batch, batch_idx):
        self.zero_grad()
        self.manual_backward(Classifier.training_step(self, batch, batch_idx))
        with torch.no_grad():
            for item in self.body.parameters():
                item -= 0.1 * item.grad
        self.optimizers().step()

    def configure_optimizers(self):
        return torch.optim.SGD(self.head.parameters(), lr=0.1)


class Ascent(Classifier):
    """A reward, made large by an optimizer that maximises."""

    def training_step(self, batch, batch_idx):
        return -super().training_step(batch, batch_idx)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, maximize=True)


class Extractor(Classifier):
    """Features learned before are used as they are; only the head is in the optimizer."""

    def __init__(self):
        super().__init__()
        optimizer = torch.optim.Adam(self.parameters(), 3e-2)
        for inputs, labels in [*loader(), *loader(), *loader()]:
            optimizer.zero_grad()
            F.cross_entropy(self.scores(inputs), labels).backward()
            optimizer.step()
        self.zero_grad()
        self.head = nn.Linear(16, 2)

    def configure_optimizers(self):
        return torch.optim.Adam(self.head.parameters(), 1e-2)


class Outputs(Classifier):
    """Keeps outputs for the end of the epoch, and clears them there."""

    def __init__(self):
        super().__init__()
        self.outputs = []
        self.recent = []

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.outputs.append(loss)
        self.recent = [*self.recent[-3:], loss]
        return loss

    def on_train_epoch_end(self):
        self.outputs.clear()


class Skipping(ByHand):
    """A gradient scaler of its own that begins far too high, and skips the first steps."""

    def __init__(self):
        super().__init__()
        self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers(use_pl_optimizer=False)
        loss = Classifier.training_step(self, batch, batch_idx)
        optimizer.zero_grad()
        self.scaler.scale(1000 * loss).backward()
        self.scaler.step(optimizer)
        self.scaler.update()


PROGRAMS = {
    "skipping": Skipping,
    "spare": Spare,
    "plain": Classifier,
    "gan": Gan,
    "gan untoggled": lambda: Gan(toggled=False),
    "gan that zeroes last": lambda: Gan(toggled=False, zero_first=False, detach=False),
    "gan without detach": lambda: Gan(toggled=False, detach=False),
    "average": Averaged,
    "target": Target,
    "sparse rows": Rows,
    "low rank": Adapted,
    "distilled": Distilled,
    "tied": Tied,
    "newton": Newton,
    "by hand": ByHand,
    "every few": EveryFew,
    "raw": Raw,
    "hand-made": HandMade,
    "ascent": Ascent,
    "extractor": Extractor,
    "outputs": Outputs,
    "warm-up from zero": WarmFromZero,
    "decay groups": Decayed,
    "reversed": Reversed,
    "skips": Skips,
    "places": Places,
}
