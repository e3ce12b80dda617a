"""What a net knows of labels, asked of steps that make their own updates, and beside validations without a loss."""

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lightning_debug.callbacks import _data_relations
from lightning_debug.callbacks.data_auditor import DataAuditor
from lightning_debug.evidence.curves import CurveReading, Shift, ValidationCourse
from lightning_debug.evidence.data_relations import LabelAlignment, LabelLearning
from lightning_debug.finding import Claim
from lightning_debug.record import Record
from lightning_debug.rules.ld505_labels_misaligned import labels_misaligned
from tests.helpers import trainer


class Manual(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 2))
        self.calls = 0

    def loss(self, scores, labels):
        return F.cross_entropy(scores, labels)

    def training_step(self, batch, batch_idx):
        self.calls += 1
        optimizer = self.optimizers()
        loss = self.loss(self.net(batch[0]), batch[1])
        optimizer.zero_grad()
        self.backwards(loss)
        optimizer.step()
        self.log("train_loss", loss)

    def backwards(self, loss):
        self.manual_backward(loss)

    def validation_step(self, batch, batch_idx):
        self.log("val_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-2)


class Plain(Manual):
    def backwards(self, loss):
        loss.backward()


class Picked(Manual):
    """No known loss function compares anything."""

    def loss(self, scores, labels):
        return -scores.log_softmax(1)[torch.arange(len(labels)), labels].mean()


class PickedPlain(Picked, Plain):
    pass


class Automatic(Manual):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = True

    def training_step(self, batch, batch_idx):
        return self.loss(self.net(batch[0]), batch[1])


def learned(kind, *, strange):
    """Labels of either two classes of signs, or of nothing."""
    pl.seed_everything(1, verbose=False)
    inputs = torch.randn(1200, 10).sign()
    labels = torch.randint(0, 2, (1200,)) if strange else (inputs[:, :3].prod(1) > 0).long()
    train, held_out = TensorDataset(inputs[:960], labels[:960]), TensorDataset(inputs[960:], labels[960:])
    auditor, model = DataAuditor(), kind()
    trainer(auditor, max_epochs=5).fit(model, DataLoader(train, 24, shuffle=True), DataLoader(held_out, 20))
    record = auditor.session.record
    claims = [item for item in labels_misaligned(record) if isinstance(item, Claim)]
    return claims, record.last(LabelLearning), model


@pytest.mark.parametrize("kind", [Manual, Plain, Picked, PickedPlain, Automatic])
def test_strange_labels_are_told(kind):
    claims, known, model = learned(kind, strange=True)
    assert len(claims) == 1
    assert known.held_out
    assert known.by_loss is issubclass(kind, Picked)
    assert model.calls == (0 if kind is Automatic else 5 * 40)  # steps that were run again have left no trace


@pytest.mark.parametrize("kind", [Manual, Picked, Automatic])
def test_labels_that_were_learned_are_known(kind, monkeypatch):
    monkeypatch.setattr(_data_relations, "depend", lambda told: False)  # so that the net is asked all the same
    backward = torch.Tensor.backward
    _, known, _ = learned(kind, strange=False)
    assert known.p_value <= 0.05
    assert torch.Tensor.backward is backward


class Moves(IterableDataset):
    """Actions that the net itself draws, or that another one has drawn."""

    def __init__(self, player):
        self.player = player

    def __iter__(self):
        for _ in range(320):
            state = torch.randn(10)
            with torch.no_grad():
                yield state, torch.distributions.Categorical(logits=self.player(state)).sample()


class Player(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 2))

    def training_step(self, batch, batch_idx):
        chosen = torch.distributions.Categorical(logits=self.net(batch[0])).log_prob(batch[1])
        return -(chosen * torch.randn(len(chosen))).mean()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-3)


@pytest.mark.parametrize(("own", "reloads", "count"), [(True, 0, 0), (False, 0, 1), (False, 1, 0)])
def test_moves_of_the_net_that_is_trained_are_no_strange_labels(own, reloads, count):
    pl.seed_everything(0, verbose=False)
    auditor, model = DataAuditor(), Player()
    loader = DataLoader(Moves(model.net if own else lambda state: torch.zeros(2)), 16)
    run = trainer(auditor, max_epochs=10, reload_dataloaders_every_n_epochs=reloads)
    run.fit(model, loader)
    claims = [item for item in labels_misaligned(auditor.session.record) if isinstance(item, Claim)]
    assert len(claims) == count


@pytest.mark.parametrize(("late", "error", "said"), [(-0.1, 0.01, False), (-0.1, 0.04, True), (-0.01, 0.001, True)])
def test_a_step_that_adapts_the_net_to_each_task_learns_all_the_same(late, error, said):
    """Its outputs before that tell nothing, and the validation loss still falls."""
    alignment = LabelAlignment(field="batch['y']", kind="several", samples=240, p_values={"ridge": 0.4})
    course = ValidationCourse(count=6, first=0.6, end=0.3, late=Shift(amount=late, error=error))
    knows = LabelLearning(epochs=6, steps=240, samples=960, p_value=0.3)
    found = list(labels_misaligned(Record([alignment, knows, CurveReading(final=True, epochs=6, validation=course)])))
    assert any(isinstance(item, Claim) for item in found) is said
