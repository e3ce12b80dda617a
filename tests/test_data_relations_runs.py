"""What is found by running steps in isolation: shifted targets, and labels that a trained net knows nothing of."""

import random

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F

from lightning_debug.callbacks.data_auditor import DataAuditor
from tests.data_programs import loader, make
from tests.helpers import trainer

TOKENS = 11


class Language(pl.LightningModule):
    """A small language model; ``compare`` makes logits and targets of a batch."""

    def __init__(self, compare, body="gru"):
        super().__init__()
        self.compare, self.body = compare, body
        self.embedding = nn.Embedding(TOKENS + 1, 16)
        self.rnn = nn.GRU(16, 16, batch_first=True)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.1)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(16, TOKENS + 1)

    def forward(self, tokens):
        hidden = self.embedding(tokens)
        if self.body == "gru":
            return self.head(self.rnn(hidden)[0])
        if self.body == "now and then":
            return self.with_own_words(tokens)
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1]) if self.body == "causal" else None
        return self.head(self.encoder(hidden, mask=mask))

    def with_own_words(self, tokens):
        """Scheduled sampling: what the decoder is given is sometimes what it said itself."""
        given, state, scores = tokens[:, 0], None, []
        for place in range(tokens.shape[1]):
            hidden, state = self.rnn(self.embedding(given).unsqueeze(1), state)
            scores.append(self.head(hidden[:, 0]))
            forced = random.random() < 0.7 and place + 1 < tokens.shape[1]
            given = tokens[:, place + 1] if forced else scores[-1].argmax(1)
        return torch.stack(scores, 1)

    def training_step(self, batch, batch_idx):
        logits, targets = self.compare(self, batch)
        return F.cross_entropy(logits.reshape(-1, TOKENS + 1), targets.reshape(-1))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


class Carried(Language):
    """What the last batch left behind is where the next one begins, as in truncated backpropagation."""

    state = None

    def forward(self, tokens):
        known = self.state is not None and self.state.shape[1] == len(tokens)
        hidden, state = self.rnn(self.embedding(tokens), self.state if known else None)
        self.state = state.detach()
        return self.head(hidden)


def texts(length=22):
    torch.manual_seed(0)
    steps = torch.multinomial(torch.tensor([0.6, 0.3, 0.1]), 64 * length, replacement=True).view(64, length)
    return (torch.randint(0, TOKENS, (64, 1)) + steps.cumsum(1)) % TOKENS


def codes_of(model, train, validation=None, **options):
    auditor = DataAuditor()
    pl.seed_everything(0, verbose=False)
    given = [train] if validation is None else [train, validation]
    trainer(auditor, **{"max_epochs": 1, **options}).fit(model, *given)
    mine = ("LD505", "LD506", "LD00")
    return [item.code for item in auditor.report.findings if item.code.startswith(mine)]


def masked(model, batch):
    hidden = torch.rand(batch[0].shape, generator=torch.Generator().manual_seed(0)) < 0.15
    logits = model(batch[0].masked_fill(hidden, TOKENS))
    return logits, batch[0].masked_fill(~hidden, -100)


def with_start(model, batch):
    start = torch.full_like(batch[0][:, :1], TOKENS)
    return model(torch.cat([start, batch[0][:, :-1]], 1)), batch[0]


HEALTHY = {
    "shifted in the dataset": (lambda m, b: (m(b[0][:, :-1]), b[0][:, 1:]), "gru"),
    "shifted in the step": (lambda m, b: (m(b[0])[:, :-1], b[0][:, 1:]), "causal"),
    "start token": (with_start, "gru"),
    "the last ones alone": (lambda m, b: (m(b[0][:, :-1])[:, -10:], b[0][:, -10:]), "gru"),
    "own words now and then": (lambda m, b: (m(b[0])[:, :-1], b[0][:, 1:]), "now and then"),
    "masked language model": (masked, "encoder"),
    "autoencoder": (lambda m, b: (m(b[0]), b[0]), "encoder"),
    "tagger": (lambda m, b: (m(b[0]), (3 * b[0] + 1) % TOKENS), "gru"),
}
FAULTY = {
    "not shifted": (lambda m, b: (m(b[0]), b[0]), "gru"),
    "not shifted, with a mask": (lambda m, b: (m(b[0]), b[0]), "causal"),
    "not shifted, the last ones alone": (lambda m, b: (m(b[0])[:, -10:], b[0][:, -10:]), "gru"),
    "not shifted, own words": (lambda m, b: (m(b[0]), b[0]), "now and then"),
    "shifted twice": (lambda m, b: (m(b[0][:, :-1])[:, :-1], b[0][:, 1:][:, 1:]), "gru"),
    "the wrong way": (lambda m, b: (m(b[0])[:, 1:], b[0][:, :-1]), "causal"),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_language_models(name):
    assert not codes_of(Language(*HEALTHY[name]), loader(texts()))


@pytest.mark.parametrize("name", FAULTY)
def test_targets_at_a_wrong_offset(name):
    assert codes_of(Language(*FAULTY[name]), loader(texts())) == ["LD506"]


@pytest.mark.parametrize("shifted", [True, False])
def test_a_state_that_is_carried_tells_of_no_future(shifted):
    compare = HEALTHY["shifted in the dataset"][0] if shifted else FAULTY["not shifted"][0]
    assert codes_of(Carried(compare), loader(texts())) == ([] if shifted else ["LD506"])


@pytest.mark.parametrize("shifted", [True, False])
def test_words_of_six_letters(shifted):
    compare = HEALTHY["shifted in the dataset"][0] if shifted else FAULTY["not shifted"][0]
    assert codes_of(Language(compare), loader(texts(6))) == ([] if shifted else ["LD506"])


@pytest.mark.slow
@pytest.mark.parametrize("shifted", [False, True])
def test_a_hugging_face_model_shifts_inside(shifted):
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(vocab_size=TOKENS, n_positions=32, n_embd=16, n_layer=1, n_head=2)

    class Wrapped(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = transformers.GPT2LMHeadModel(config)

        def training_step(self, batch, batch_idx):
            return self.net(input_ids=batch["input_ids"], labels=batch["labels"]).loss

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-3)

    tokens = texts()
    columns = (tokens[:, :-1], tokens[:, 1:]) if shifted else (tokens, tokens)
    data = [{"input_ids": one, "labels": two} for one, two in zip(*columns, strict=True)]
    assert codes_of(Wrapped(), loader(data)) == ["LD506"] * shifted


class Classifier(pl.LightningModule):
    """Sees one kind of data, and validates."""

    def __init__(self, sample):
        super().__init__()
        whole = not sample.is_floating_point()
        first = nn.EmbeddingBag(64, 32) if whole else nn.Sequential(nn.Flatten(), nn.Linear(sample.numel(), 32))
        self.net = nn.Sequential(first, nn.ReLU(), nn.Linear(32, 4))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=5e-3)


@pytest.mark.parametrize("kind", ["image", "tabular", "token"])
@pytest.mark.parametrize("order", ["as they are", "shuffled"])
def test_labels_in_an_order_of_their_own(kind, order):
    inputs, labels = make(kind)
    torch.manual_seed(4)
    if order == "shuffled":
        labels = labels[torch.randperm(len(labels))]
    train, validation = loader(inputs[:480], labels[:480]), loader(inputs[480:], labels[480:], shuffle=False)
    expected = [] if order == "as they are" else ["LD505"]
    assert codes_of(Classifier(inputs[0]), train, validation, max_epochs=3) == expected


def test_a_task_that_is_hard_but_learned_is_quiet():
    """Parity of three signs among twelve features: no neighbour and no column tells of it, but a wide net learns it."""
    torch.manual_seed(0)
    inputs = torch.randn(1500, 3).sign() + 0.1 * torch.randn(1500, 3)
    labels = (inputs.prod(1) > 0).long()
    data = loader(inputs[:1200], labels[:1200]), loader(inputs[1200:], labels[1200:], shuffle=False)
    assert not codes_of(Classifier(inputs[0]), *data, max_epochs=3)


@pytest.mark.parametrize("order", ["as they are", "shuffled"])
def test_labels_in_an_order_of_their_own_drawn_with_replacement(order):
    """A sample drawn twice is its own nearest neighbour, with the label that it had before."""
    inputs, labels = make("tabular")
    torch.manual_seed(4)
    if order == "shuffled":
        labels = labels[torch.randperm(len(labels))]
    sampler = torch.utils.data.WeightedRandomSampler([1.0] * 480, 480)
    train, validation = (
        loader(inputs[:480], labels[:480], shuffle=False, sampler=sampler),
        loader(inputs[480:], labels[480:], shuffle=False),
    )
    expected = [] if order == "as they are" else ["LD505"]
    assert codes_of(Classifier(inputs[0]), train, validation, max_epochs=3) == expected


def loads(count=900):
    """A smooth series, its last six values and the hour: neighbours tell the next value, and so does a net soon."""
    torch.manual_seed(2)
    time = torch.arange(count + 6.0)
    series = (time / 4).sin() + 0.5 * (time / 11).cos() + 0.05 * torch.randn(len(time))
    rows = torch.stack([series[place : place + count] for place in range(6)], 1)
    return rows, series[6 : count + 6, None]


class Load(pl.LightningModule):
    """Guesses the next value; what an untrained net says goes with the series as well."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 1))

    def training_step(self, batch, batch_idx):
        return F.l1_loss(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.l1_loss(self.net(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


@pytest.mark.parametrize("seed", [1, 2])
def test_training_rows_that_left_their_targets_while_validation_kept_them(seed):
    rows, targets = loads()
    torch.manual_seed(seed)
    mixed = rows[:600][torch.randperm(600)]
    data = loader(mixed, targets[:600]), loader(rows[620:], targets[620:], shuffle=False)
    assert codes_of(Load(), *data, max_epochs=2) == ["LD505"]


def test_a_series_is_quiet():
    rows, targets = loads()
    data = loader(rows[:600], targets[:600]), loader(rows[620:], targets[620:], shuffle=False)
    assert not codes_of(Load(), *data, max_epochs=2)


def test_augmentation_that_no_neighbour_follows_is_quiet():
    """Bumps rolled about in training only: the net counts them, where near rows tell nothing."""
    torch.manual_seed(5)
    labels = torch.randint(0, 4, (900,))
    inputs = torch.zeros(900, 32)
    for row, label in enumerate(labels):
        inputs[row, : 8 * (int(label) + 1) : 8] = 1.0
    inputs += 0.1 * torch.randn(900, 32)

    class Rolled(torch.utils.data.Dataset):
        def __len__(self):
            return 600

        def __getitem__(self, row):
            order = torch.randperm(32)
            return inputs[row][order], labels[row]

    class Counts(Classifier):
        def __init__(self):
            super().__init__(inputs[0])
            self.net = nn.Sequential(nn.Unflatten(1, (1, 32)), nn.Conv1d(1, 8, 1), nn.ReLU(), Mean(), nn.Linear(8, 4))

    class Mean(nn.Module):
        def forward(self, hidden):
            return hidden.mean(2) * 4

    held_out = loader(inputs[600:], labels[600:], shuffle=False)
    assert not codes_of(Counts(), loader(Rolled()), held_out, max_epochs=2)
