"""What EarlyStoppingSelector makes of the scores of a validation: the loss without confidence in wrong answers."""

import math

import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug import EarlyStoppingSelector
from lightning_debug.curves.stopping import keep_epoch
from lightning_debug.probes.validation_scores import ValidationScores
from tests.helpers import pl, trainer


def heard(*calls):
    scores = ValidationScores()
    for call in calls:
        scores.begin_step()
        with scores:
            call()
    return min(scores.losses())


LOGITS, LABELS = torch.tensor([[6.0, 0.0], [6.0, 0.0], [6.0, 0.0], [0.0, 6.0]]), torch.tensor([0, 0, 1, 1])


def test_confidence_does_not_count():
    sure, mild = (heard(lambda by=by: F.cross_entropy(LOGITS * by, LABELS)) for by in (1.0, 0.1))
    assert math.isclose(sure, mild, rel_tol=0.02)
    assert sure < float(F.cross_entropy(LOGITS, LABELS))
    assert heard(lambda: F.cross_entropy(-LOGITS, LABELS)) > sure


def test_all_ways_to_write_it_are_alike():
    sure = heard(lambda: F.cross_entropy(LOGITS, LABELS))
    apart = LOGITS[:, 1] - LOGITS[:, 0]
    assert math.isclose(heard(lambda: F.nll_loss(LOGITS.log_softmax(1), LABELS)), sure, rel_tol=1e-4)
    assert math.isclose(heard(lambda: F.binary_cross_entropy_with_logits(apart, LABELS.float())), sure, rel_tol=1e-4)
    wide = LOGITS.reshape(2, 2, 2).movedim(2, 1), LABELS.reshape(2, 2)
    assert math.isclose(heard(lambda: F.cross_entropy(*wide)), sure, rel_tol=1e-4)
    halves = [lambda part=part: F.cross_entropy(LOGITS[part], LABELS[part]) for part in (slice(1), slice(1, 4))]
    assert math.isclose(heard(*halves), sure, rel_tol=1e-4)
    masked = torch.tensor([0, 0, 1, 1, -100])
    assert math.isclose(heard(lambda: F.cross_entropy(torch.cat([LOGITS, LOGITS[:1]]), masked)), sure, rel_tol=1e-4)


@pytest.mark.parametrize(
    "call",
    [
        lambda: None,
        lambda: F.mse_loss(LOGITS, LOGITS),
        lambda: F.cross_entropy(LOGITS, LABELS) + F.cross_entropy(LOGITS, LABELS),
        lambda: F.cross_entropy(LOGITS, LABELS, weight=torch.ones(2)),
        lambda: F.cross_entropy(LOGITS, LOGITS.softmax(1)),
    ],
)
def test_where_it_is_not_clear_there_is_no_such_loss(call):
    assert math.isnan(heard(call))


def test_a_loss_that_only_grows_in_confidence_takes_no_epoch_away():
    loss = [1.0, 0.6, 0.4, *[0.4 + 0.03 * step for step in range(27)]]
    accuracy = [0.5, 0.7, *[0.8 + 0.003 * step for step in range(28)]]
    refined = [1.0, 0.6, *[0.4 - 0.004 * step for step in range(28)]]
    assert keep_epoch(loss, accuracy).index < 15
    assert keep_epoch(loss, accuracy, refined=refined).index == 29
    assert keep_epoch(loss, accuracy, refined=[*refined[:-1], math.nan]) == keep_epoch(loss, accuracy)


class Classifier(pl.LightningModule):
    def __init__(self, raises=False):
        super().__init__()
        self.net, self.raises = torch.nn.Linear(3, 2), raises

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        if self.raises and self.current_epoch:
            raise RuntimeError("mine")
        scores = self.net(batch[0])
        self.log("val_loss", F.cross_entropy(scores, batch[1]))
        self.log("val_acc", (scores.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.05)


def loader():
    inputs = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(inputs, (inputs[:, 0] > 0).long()), batch_size=16)


def test_the_scores_of_validation_are_heard_and_nothing_stays_behind():
    weights = []
    for selector in ([], [EarlyStoppingSelector(stop=False, restore=False)]):
        torch.manual_seed(0)
        model = Classifier()
        trainer(*selector, max_epochs=4).fit(model, loader(), loader())
        assert "validation_step" not in vars(model)
        weights.append(model.net.weight.detach().clone())
    assert torch.equal(*weights)
    assert len(selector[0]._refined) == 4
    assert all(
        0 < refined <= loss + 1e-6 for refined, loss in zip(selector[0]._refined, selector[0]._losses, strict=True)
    )
    (finding,) = selector[0].report.findings
    assert "best temperature" in finding.message


def test_a_step_that_raises_leaves_nothing_behind():
    model = Classifier(raises=True)
    with pytest.raises(RuntimeError, match="mine"):
        trainer(EarlyStoppingSelector(), max_epochs=4).fit(model, loader(), loader())
    assert "validation_step" not in vars(model)
    assert torch.overrides._get_current_function_mode() is None


class Attends(pl.LightningModule):
    """In eval mode PyTorch's encoder takes a fused path, which it leaves under a function mode."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(50, 32, padding_idx=0)
        layer = torch.nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.layers, self.head = (
            torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
            torch.nn.Linear(32, 3),
        )
        self.told = []

    def training_step(self, batch, batch_idx):
        tokens, labels = batch
        hidden = self.layers(self.embed(tokens), src_key_padding_mask=tokens == 0)
        return F.cross_entropy(self.head(hidden.mean(1)), labels)

    def validation_step(self, batch, batch_idx):
        loss = self.training_step(batch, batch_idx)
        self.told.append(loss.item())
        self.log("val_loss", loss)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-3)


def test_what_validation_computes_is_not_changed():
    told = []
    for watch in ([], [EarlyStoppingSelector(stop=False, restore=False)]):
        torch.manual_seed(0)
        tokens = torch.randint(1, 50, (96, 12))
        tokens[:, 9:] = 0
        loader = DataLoader(TensorDataset(tokens, tokens[:, 0] % 3), 32)
        model = Attends()
        trainer(*watch, max_epochs=2).fit(model, loader, loader)
        told.append(model.told)
    assert told[0] == told[1]
