"""ModelInspector names the call where samples meet, time leaks, or the input is lost."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug import ModelInspector
from tests.helpers import trainer

COUNT = 96


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setenv("LIGHTNING_DEBUG_STRICT", "1")
    monkeypatch.setenv("LIGHTNING_DEBUG_CONSOLE", "0")


class Program(pl.LightningModule):
    """Calls ``step`` of the net it is given."""

    def __init__(self, net, step, lr=1e-2):
        super().__init__()
        self.net, self.step, self.lr = net, step, lr

    def training_step(self, batch, batch_idx):
        return self.step(self.net, *batch)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.lr)


def findings(net, step, *data, batch_size=16, epochs=2, **options):
    torch.manual_seed(0)
    watch = ModelInspector()
    loader = DataLoader(TensorDataset(*data), batch_size=batch_size, shuffle=True)
    trainer(watch, max_epochs=epochs).fit(Program(net, step, **options), loader)
    return {item.code: item for item in watch.report.findings}


def classify(net, inputs, labels):
    return F.cross_entropy(net(inputs), labels)


def vectors():
    inputs = torch.randn(COUNT, 8)
    return inputs, (inputs[:, 0] > 0).long()


class Mixing(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 2)
        self.attention = nn.MultiheadAttention(16, 2) if kind == "attention" else None

    def forward(self, inputs):
        hidden = torch.relu(self.first(inputs))
        if self.kind == "softmax":
            hidden = torch.softmax(hidden, dim=0)
        if self.kind == "mean":
            hidden = hidden - hidden.mean(dim=0)
        if self.kind == "norm":
            hidden = hidden / hidden.norm()
        if self.kind == "reshape":
            hidden = hidden.reshape(16, -1).T
        return self.second(hidden)


@pytest.mark.parametrize(("kind", "call"), [("softmax", "softmax"), ("mean", "sub"), ("norm", "div")])
def test_what_mixes_samples_is_named(kind, call):
    found = findings(Mixing(kind), classify, *vectors())
    assert found["LD409"].measured["first_call"] == call


def test_view_in_place_of_transpose():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.GRU(3, 8), nn.Linear(8, 2)

        def forward(self, inputs):
            count, steps, size = inputs.shape
            return self.head(self.rnn(inputs.reshape(steps, count, size))[0][-1])

    inputs = torch.randn(COUNT, 6, 3)
    assert "LD409" in findings(Net(), classify, inputs, (inputs[:, 0, 0] > 0).long())


class Directions(nn.Module):
    """Last states of two directions, (2, batch, size), brought to (batch, 2 * size)."""

    def __init__(self, *, viewed):
        super().__init__()
        self.rnn, self.head, self.viewed = nn.GRU(3, 8, batch_first=True, bidirectional=True), nn.Linear(16, 2), viewed

    def forward(self, inputs):
        state = self.rnn(inputs)[1]
        return self.head(state.view(-1, 16) if self.viewed else state.transpose(0, 1).reshape(-1, 16))


@pytest.mark.parametrize("viewed", [True, False])
def test_states_of_two_directions(viewed):
    inputs = torch.randn(COUNT, 6, 3)
    found = findings(Directions(viewed=viewed), classify, inputs, (inputs[:, 0, 0] > 0).long())
    assert ("LD409" in found) is viewed
    if viewed:
        assert found["LD409"].measured["first_call"] == "view"
        assert "permute" in found["LD409"].fix


def test_attention_over_the_batch():
    layer = nn.Sequential(nn.Linear(3, 8), nn.TransformerEncoderLayer(8, 2, 16), nn.Linear(8, 2))

    def step(net, inputs, labels):
        return F.cross_entropy(net(inputs).mean(dim=1), labels)

    inputs = torch.randn(COUNT, 6, 3)
    found = findings(layer, step, inputs, (inputs[:, 0, 0] > 0).long())
    assert "batch_first=True" in found["LD409"].fix


@pytest.mark.parametrize("labelled", [False, True])
def test_pairs_of_whole_samples(labelled):
    """A classifier that tells pairs from exchanged ones takes no target from the batch; one with labels mixes them up."""

    def step(net, inputs, labels):
        exchanged = net(torch.cat([inputs[:, :4], inputs[:, 4:].roll(1, 0)], dim=1)).squeeze(1)
        if labelled:
            return F.binary_cross_entropy_with_logits(exchanged, labels.float())
        joint = net(inputs).squeeze(1)
        ones, zeros = torch.ones_like(joint), torch.zeros_like(joint)
        joint = F.binary_cross_entropy_with_logits(joint, ones)
        return joint + F.binary_cross_entropy_with_logits(exchanged, zeros)

    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
    assert ("LD409" in findings(net, step, *vectors())) is labelled


def test_predictions_in_another_layout_than_targets():
    net = nn.GRU(3, 2)

    def step(net, inputs, labels):
        scores = net(inputs.transpose(0, 1))[0]
        return F.cross_entropy(scores.reshape(-1, 2), labels.reshape(-1))

    inputs = torch.randn(COUNT, 6, 3)
    found = findings(net, step, inputs, (inputs[..., 0] > 0).long())
    assert "foreign target" in found["LD409"].message


def next_token(net, tokens):
    return F.cross_entropy(net(tokens[:, :-1]).transpose(1, 2), tokens[:, 1:])


class Net(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.embed, self.head = nn.Embedding(9, 16), nn.Linear(16, 9)
        self.block = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.conv = nn.Conv1d(16, 16, 3, padding=1)

    def forward(self, tokens):
        hidden = self.embed(tokens)
        if self.kind == "attention":
            hidden = self.block(hidden)
        if self.kind == "conv":
            hidden = self.conv(hidden.transpose(1, 2)).transpose(1, 2).relu()
        if self.kind == "mean":
            hidden = hidden + hidden.mean(dim=1, keepdim=True)
        return self.head(hidden)


@pytest.mark.parametrize("kind", ["attention", "conv", "mean"])
def test_the_future_is_seen(kind):
    found = findings(Net(kind), next_token, torch.randint(0, 9, (COUNT, 10)))
    assert "LD410" in found
    assert list(found) == ["LD410"]


def test_the_future_in_two_fields():
    tokens = torch.randint(0, 9, (COUNT, 11))

    def step(net, inputs, labels):
        return F.cross_entropy(net(inputs).flatten(0, 1), labels.flatten())

    assert "LD410" in findings(Net("attention"), step, tokens[:, :-1].clone(), tokens[:, 1:].clone())
    assert "LD410" not in findings(Net(""), step, tokens[:, :-1].clone(), tokens[:, 1:].clone())


@pytest.mark.parametrize("unasked", [5, 8])
def test_the_future_where_only_the_end_is_asked_for(unasked):
    tokens = torch.randint(0, 9, (COUNT, 11))
    targets = tokens[:, 1:].clone()
    targets[:, :unasked] = -100

    def step(net, inputs, labels):
        return F.cross_entropy(net(inputs).flatten(0, 1), labels.flatten())

    assert "LD410" in findings(Net("attention"), step, tokens[:, :-1].clone(), targets)
    assert "LD410" not in findings(Net(""), step, tokens[:, :-1].clone(), targets)


@pytest.mark.parametrize(("kind", "asked"), [("attention", 4), ("conv", 4), ("conv", 6), ("", 4), ("", 6)])
def test_the_future_where_only_the_last_outputs_are_taken(kind, asked):
    tokens = torch.randint(0, 9, (COUNT, 11))

    def step(net, inputs, labels):
        scores, labels = net(inputs)[:, -asked:], labels[:, -asked:]
        return F.cross_entropy(scores.flatten(0, 1), labels.flatten())

    assert ("LD410" in findings(Net(kind), step, tokens[:, :-1].clone(), tokens[:, 1:].clone())) is bool(kind)


def test_dead_units_make_a_constant():
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    nn.init.constant_(net[0].bias, -100.0)
    found = findings(net, classify, *vectors())
    assert "`net.1` (ReLU)" in found["LD309"].message


def test_ids_that_all_become_zero():
    class Bag(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.head = nn.Embedding(10, 8), nn.Linear(8, 2)

        def forward(self, ids):
            return self.head(self.table(ids // 100).mean(1))

    ids = torch.randint(0, 10, (COUNT, 5))
    found = findings(Bag(), classify, ids, (ids[:, 0] > 4).long())["LD309"]
    assert "what `net.table` (Embedding) at" in found.message
    assert "before `net.table`" in found.fix


def test_a_norm_of_one_value():
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1), nn.LayerNorm(1), nn.Linear(1, 2))
    found = findings(net, classify, *vectors())["LD309"]
    assert "normalise more than one value" in found.fix


def test_a_mean_over_samples_is_not_where_they_become_alike():
    def measured(net, inputs, labels):
        scores = net(inputs)
        assert 0 <= (scores.argmax(1) == labels).float().mean() <= 1
        return F.cross_entropy(scores, labels)

    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    nn.init.constant_(net[0].bias, -100.0)
    assert "`net.1` (ReLU)" in findings(net, measured, *vectors())["LD309"].message


def test_last_batch_of_one_is_foretold():
    net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))
    inputs, labels = vectors()
    watch = ModelInspector()
    loader = DataLoader(TensorDataset(inputs[:33], labels[:33]), batch_size=16)
    with pytest.raises(ValueError, match="more than 1 value"):
        trainer(watch, max_epochs=1).fit(Program(net, classify), loader)
    assert [item.code for item in watch.report.findings] == ["LD405"]
    assert "33 samples in batches of 16" in watch.report.findings[0].message


def test_zeros_everywhere():
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    for item in net.parameters():
        nn.init.zeros_(item)
    assert "gradient is exactly 0" in findings(net, classify, *vectors())["LD411"].message


def test_one_value_in_a_list_of_parameters():
    net = nn.Module()
    net.weights = nn.ParameterList([torch.zeros(16, 8), torch.zeros(2, 16)])
    net.forward = lambda x: torch.sigmoid(x @ net.weights[0].T) @ net.weights[1].T
    assert "weights.0" in findings(net, classify, *vectors())["LD411"].message


def test_weights_far_too_large():
    net = nn.Sequential(*[layer for _ in range(3) for layer in (nn.Linear(64, 64), nn.ReLU())], nn.Linear(64, 2))
    for item in net.parameters():
        nn.init.normal_(item)
    inputs = torch.randn(COUNT, 64)
    assert "LD411" in findings(net, classify, inputs, (inputs[:, 0] > 0).long())


def test_a_pair_in_a_deeper_net():
    net = nn.Sequential(nn.Linear(8, 32), nn.Dropout(0.1), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 2))
    found = findings(net, classify, *vectors())
    assert found["LD412"].subject == "net.2"
