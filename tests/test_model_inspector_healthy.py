"""ModelInspector is silent on healthy programs of many kinds."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug import ModelInspector
from tests.helpers import alarms, trainer
from tests.model_programs import (
    COUNT,
    AlongDimensions,
    Closure,
    MovingAverage,
    Program,
    Transported,
    TransportedByNumpy,
    TwiceABatch,
    vectors,
)
from tests.model_sequences import Causal, CopyTask, MaskedLanguageModel, Pairs


class Mlp(Program):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 2))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    data = staticmethod(vectors)


class TimeMajor(Program):
    """Batches are (time, batch, features) by the collate function, and labels are in dimension 1."""

    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.GRU(3, 8), nn.Linear(8, 2)

    def training_step(self, batch, batch_idx):
        states, _ = self.rnn(batch[0].transpose(0, 1))
        return F.cross_entropy(self.head(states).flatten(0, 1), batch[1].transpose(0, 1).flatten())

    @staticmethod
    def data():
        inputs = torch.randn(COUNT, 5, 3)
        return inputs, (inputs[..., 0] > 0).long()


class HardTriplets(Program):
    """Pairs that do not count are moved out of reach by a huge number, which is no target."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))

    def training_step(self, batch, batch_idx):
        points = F.normalize(self.net(batch[0]), dim=1)
        distances, same = torch.cdist(points, points), batch[1][:, None] == batch[1]
        return F.relu((distances - 1e9 * ~same).amax(1) - (distances + 1e9 * same).amin(1) + 0.3).mean()

    data = staticmethod(vectors)


class TruthValues(Mlp):
    """The targets of a contrast are truth values: whether two samples are of one class."""

    def training_step(self, batch, batch_idx):
        scores, same = self.net(batch[0])[:, 0], batch[1] == 1
        return F.binary_cross_entropy_with_logits(scores, same.float()) + 0.1 * (scores * same).square().mean()


class Packed(Program):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.LSTM(3, 8, batch_first=True), nn.Linear(8, 2)

    def training_step(self, batch, batch_idx):
        inputs, lengths, labels = batch
        packed = nn.utils.rnn.pack_padded_sequence(inputs, lengths.cpu(), batch_first=True, enforce_sorted=False)
        return F.cross_entropy(self.head(self.rnn(packed)[1][0][-1]), labels)

    @staticmethod
    def data():
        return torch.randn(COUNT, 7, 3), torch.randint(1, 8, (COUNT,)), torch.randint(0, 2, (COUNT,))


class Contrastive(Program):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))
        self.temperature = nn.Parameter(torch.tensor(0.1))

    def forward(self, one, two):
        one, two = F.normalize(self.net(one), dim=1), F.normalize(self.net(two), dim=1)
        return one @ two.T / self.temperature

    def training_step(self, batch, batch_idx):
        scores = self(batch[0], batch[0] + 0.1 * torch.randn_like(batch[0]))
        return F.cross_entropy(scores, torch.arange(len(scores)))

    data = staticmethod(vectors)


class Mixup(Mlp):
    def training_step(self, batch, batch_idx):
        inputs, labels = batch
        order, share = torch.randperm(len(inputs)), 0.7
        scores = self.net(share * inputs + (1 - share) * inputs[order])
        return share * F.cross_entropy(scores, labels) + (1 - share) * F.cross_entropy(scores, labels[order])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self.net(batch[0]), batch[1]))


class Triplets(Mlp):
    """Hard negatives are mined in the batch."""

    def training_step(self, batch, batch_idx):
        embedded = self.net(batch[0])
        far = torch.cdist(embedded, embedded).argmin(dim=1)
        return F.triplet_margin_loss(embedded, embedded.roll(1, 0), embedded[far])


class Gan(Program):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.make = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 8))
        self.judge = nn.Sequential(nn.Linear(9, 16), nn.ReLU(), nn.Linear(16, 1))

    def score(self, inputs):  # minibatch standard deviation
        return self.judge(torch.cat([inputs, inputs.std(dim=0).mean().expand(len(inputs), 1)], dim=1))

    def training_step(self, batch, batch_idx):
        first, second = self.optimizers()
        made = self.make(torch.randn(len(batch[0]), 4))
        loss = F.softplus(self.score(made.detach())).mean() + F.softplus(-self.score(batch[0])).mean()
        second.zero_grad()
        self.manual_backward(loss)
        second.step()
        loss = F.softplus(-self.score(made)).mean()
        first.zero_grad()
        self.manual_backward(loss)
        first.step()

    def configure_optimizers(self):
        return [torch.optim.Adam(item.parameters(), lr=1e-3) for item in (self.make, self.judge)]

    data = staticmethod(vectors)


class Vae(Program):
    def __init__(self):
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))
        self.decode = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 8))

    def training_step(self, batch, batch_idx):
        mean, log_variance = self.encode(batch[0]).chunk(2, dim=1)
        code = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        divergence = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(1).mean()
        return F.mse_loss(self.decode(code), batch[0]) + 0.01 * divergence

    data = staticmethod(vectors)


class LinearAutoencoder(Program):
    def __init__(self):
        super().__init__()
        self.encode, self.decode = nn.Linear(8, 3), nn.Linear(3, 8)

    def training_step(self, batch, batch_idx):
        return F.mse_loss(self.decode(self.encode(batch[0])), batch[0])

    data = staticmethod(vectors)


class Segmentation(Program):
    """Depthwise and pointwise convolutions, two heads, a dictionary of outputs, zero start of a residual branch."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.separable = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 8, 1))
        self.branch = nn.Conv2d(8, 8, 1)
        nn.init.zeros_(self.branch.weight)
        self.mask, self.kind = nn.Conv2d(8, 1, 1), nn.Linear(8, 2)

    def training_step(self, batch, batch_idx):
        hidden = self.stem(batch[0])
        hidden = torch.relu(hidden + self.branch(torch.relu(self.separable(hidden))))
        out = {"mask": self.mask(hidden).squeeze(1), "kind": self.kind(hidden.mean(dim=(2, 3)))}
        loss = F.binary_cross_entropy_with_logits(out["mask"], batch[1])
        return {"loss": loss + F.cross_entropy(out["kind"], batch[2])}

    @staticmethod
    def data():
        images = torch.randn(COUNT, 1, 6, 6)
        return images, (images[:, 0] > 0).float(), (images.mean(dim=(1, 2, 3)) > 0).long()


class ZeroHead(Mlp):
    """The last layer starts with zeros, and the learning rate warms up."""

    def __init__(self):
        super().__init__()
        nn.init.zeros_(self.net[-1].weight)

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-2)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 20))
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


class LowRank(Program):
    def __init__(self):
        super().__init__()
        self.frozen = nn.Linear(8, 8).requires_grad_(False)
        self.down, self.up = nn.Linear(8, 2, bias=False), nn.Linear(2, 8, bias=False)
        nn.init.zeros_(self.up.weight)
        self.coefficients, self.basis = nn.Linear(8, 4, bias=False), nn.Linear(4, 2)  # as in N-BEATS

    def training_step(self, batch, batch_idx):
        hidden = torch.relu(self.frozen(batch[0]) + self.up(self.down(batch[0])))
        return F.cross_entropy(self.basis(self.coefficients(hidden)), batch[1])

    data = staticmethod(vectors)


class AttentionOfOnesOwn(Program):
    def __init__(self):
        super().__init__()
        self.enter = nn.Linear(3, 8)
        self.qkv, self.leave, self.head = nn.Linear(8, 24), nn.Linear(8, 8), nn.Linear(8, 2)

    def training_step(self, batch, batch_idx):
        query, key, value = self.qkv(self.enter(batch[0])).chunk(3, dim=-1)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return F.cross_entropy(self.head(self.leave(mixed).mean(dim=1)), batch[1])

    @staticmethod
    def data():
        return torch.randn(COUNT, 6, 3), torch.randint(0, 2, (COUNT,))


class Correlation(Mlp):
    """Predictions and targets are both standardised over the batch."""

    def training_step(self, batch, batch_idx):
        scores, target = self.net(batch[0])[:, 0], batch[0][:, 0]
        scores, target = ((item - item.mean()) / (item.std() + 1e-6) for item in (scores, target))
        return F.mse_loss(scores, target)


class ConstantTargets(Mlp):
    @staticmethod
    def data():
        return torch.randn(COUNT, 8), torch.zeros(COUNT, dtype=torch.long)


class SplitConvolutions(Program):
    """A convolution that looks around and one of size 1 that mixes channels are one step, as in published nets."""

    def __init__(self):
        super().__init__()
        layers = (nn.Conv2d(4, 8, 3, padding=2, dilation=2), nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 3))
        self.net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), *layers, nn.Conv2d(8, 2, 1))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]).mean(dim=(2, 3)), batch[1])

    @staticmethod
    def data():
        inputs = torch.randn(COUNT, 1, 12, 12)
        return inputs, (inputs.mean(dim=(1, 2, 3)) > 0).long()


KINDS = [
    *(Mlp, TimeMajor, Packed, Contrastive, Mixup, Triplets, Gan, Vae, LinearAutoencoder, Segmentation, Causal),
    *(MaskedLanguageModel, CopyTask, Pairs, ZeroHead, LowRank, AttentionOfOnesOwn, Correlation, ConstantTargets),
    *(HardTriplets, TruthValues, Closure, TwiceABatch, SplitConvolutions, MovingAverage),
    *(AlongDimensions, Transported, TransportedByNumpy),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_healthy(kind, monkeypatch):
    monkeypatch.setenv("LIGHTNING_DEBUG_STRICT", "1")
    monkeypatch.setenv("LIGHTNING_DEBUG_CONSOLE", "0")
    torch.manual_seed(0)
    watch = ModelInspector()
    loader = DataLoader(TensorDataset(*kind.data()), batch_size=16, shuffle=True)
    trainer(watch, max_epochs=2).fit(kind(), loader, loader if hasattr(kind, "val") else None)
    assert not alarms(watch.report)
