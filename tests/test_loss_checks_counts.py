"""LD213: means over uneven numbers of targets, averaged again over micro-batches."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_debug import Debugger, LossInspector
from lightning_debug.evidence.loss_checks import UnevenCounts
from tests.helpers import trainer
from tests.loss_programs import Trained, blobs, findings, loader, mlp, skips

MINE = ("LD213",)


def tagger(outputs=6):
    return nn.Sequential(nn.Embedding(12, 16), nn.Linear(16, outputs))


def padded(lengths, width=40):
    """Tokens, and tags that are -100 behind each text's length."""
    lengths = torch.as_tensor(lengths)
    tokens = torch.randint(0, 12, (len(lengths), width))
    return tokens, (tokens % 6).masked_fill(torch.arange(width) >= lengths[:, None], -100)


def uneven(count=64):
    return padded([40 if index % 4 == 0 else 2 for index in range(count)])


def ignoring(self, batch):
    return F.cross_entropy(self.net(batch[0]).transpose(1, 2), batch[1])


def masked(self, batch):
    losses = F.cross_entropy(self.net(batch[0]).transpose(1, 2), batch[1], reduction="none")
    mask = (batch[1] != -100).float()
    return (losses * mask).sum() / mask.sum().clamp(min=1)


def selected(self, batch):
    keep = batch[1] != -100
    return F.cross_entropy(self.net(batch[0])[keep], batch[1][keep])


def unreduced(self, batch):
    losses = F.cross_entropy(self.net(batch[0]).transpose(1, 2), batch[1], reduction="none")
    return losses[batch[1] != -100].mean()


def run(loss, data, *, net=None, batch_size=1, **options):
    options = {"accumulate_grad_batches": 4, "select": MINE, **options}
    return findings(Trained(net or tagger(), loss), loader(*data, batch_size=batch_size, shuffle=False), **options)


# ------------------------------------------------------------------------------------------------ healthy look-alikes


@pytest.mark.parametrize("loss", [ignoring, masked, selected, unreduced])
def test_quiet_on_equal_lengths(loss):
    assert not run(loss, padded([25] * 32))


@pytest.mark.parametrize("loss", [ignoring, masked])
def test_quiet_on_lengths_that_large_batches_even_out(loss):
    assert not run(loss, padded(torch.randint(5, 40, (256,))), batch_size=16)


def test_quiet_without_accumulation():
    assert not run(ignoring, uneven(), accumulate_grad_batches=1)
    reasons = skips(Trained(tagger(), ignoring), loader(*uneven()), select=MINE)
    assert "not averaged again" in reasons["LD213"]


def test_quiet_on_sums_divided_by_the_total():
    def python_total(self, batch):
        return F.cross_entropy(self.net(batch[0]).transpose(1, 2), batch[1], reduction="sum") * 4 / 46

    def tensor_total(self, batch):
        total = torch.tensor(46.0)
        return 4 * F.cross_entropy(self.net(batch[0]).transpose(1, 2), batch[1], reduction="sum") / total

    for loss in (python_total, tensor_total):
        assert not run(loss, uneven())


def test_quiet_on_one_target_a_sample():
    inputs, labels = blobs()
    rows = [(inputs[a:b], labels[a:b]) for a, b in zip(range(0, 160, 10), [1, 20, 21, 40] * 4, strict=False) if b > a]
    data = torch.utils.data.DataLoader(rows, batch_size=None)
    program = Trained(mlp(8, 5), lambda self, b: F.cross_entropy(self.net(b[0]), b[1]))
    assert not findings(program, data, accumulate_grad_batches=4, select=MINE)


def test_quiet_on_a_short_last_batch():
    inputs, labels = blobs(count=129)
    program = Trained(mlp(8, 5), lambda self, b: F.cross_entropy(self.net(b[0]), b[1]))
    assert not findings(program, loader(inputs, labels, batch_size=16), accumulate_grad_batches=3, max_epochs=3)


def test_quiet_on_a_loss_of_several_terms():
    def loss(self, batch):
        return ignoring(self, batch) + 0.1 * self.net[1].weight.square().mean()

    assert not run(loss, uneven())


def test_says_that_too_few_windows_were_seen():
    program = Trained(tagger(), ignoring)
    assert (
        "windows" in skips(program, loader(*uneven(8), batch_size=1), accumulate_grad_batches=4, select=MINE)["LD213"]
    )


# ------------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize("loss", [ignoring, masked, selected, unreduced])
def test_finds_means_over_uneven_numbers_of_tokens(loss):
    (found,) = run(loss, uneven())["LD213"]
    assert "2 to 40 targets" in found.message
    assert found.measured["effective"] < 0.5
    assert "test_loss_checks_counts.py:" in found.subject


def test_finds_means_over_uneven_numbers_of_pixels():
    inputs = torch.randn(64, 3, 8, 8)
    labels = torch.randint(0, 4, (64, 8, 8))
    labels[::2, 1:] = 255
    labels[::2, :, 2:] = 255

    def loss(self, batch):
        return F.cross_entropy(self.net(batch[0]), batch[1], ignore_index=255)

    assert run(loss, (inputs, labels), net=nn.Conv2d(3, 4, 3, padding=1))["LD213"]


def test_finds_means_over_texts_of_different_lengths():
    texts = [torch.randint(0, 12, (length,)) for length in (3, 60, 4, 5) * 16]
    data = torch.utils.data.DataLoader(texts, batch_size=1)

    def loss(self, batch):
        return F.cross_entropy(self.net(batch)[0, :-1], batch[0, 1:])

    assert findings(Trained(tagger(12), loss), data, accumulate_grad_batches=4, select=MINE)["LD213"]


def test_finds_losses_that_go_with_their_counts():
    """Counts that differ little, of losses that differ much."""
    tokens, tags = padded([40, 12] * 64)
    tags[1::2, :12] = 5  # always the same answer in short texts: soon learned
    tokens[1::2] = 11
    program = Trained(tagger(), ignoring, lr=3e-2)
    found = findings(
        program, loader(tokens, tags, batch_size=1, shuffle=False), accumulate_grad_batches=2, max_epochs=3, select=MINE
    )
    assert found["LD213"][0].measured["shift"] < -0.05


def test_finds_a_hugging_face_model_that_averages():
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=12, n_positions=40, n_embd=16, n_layer=1, n_head=2)
    tokens, tags = uneven(32)

    def loss(self, batch):
        return self.net(input_ids=batch[0], labels=batch[1]).loss

    assert run(loss, (tokens, tags.where(tags < 0, tokens)), net=GPT2LMHeadModel(config))["LD213"]


def test_watches_few_micro_batches_of_long_windows_and_few_windows():
    watched = []

    class Counting(Trained):
        def training_step(self, batch, batch_idx):
            watched.append("training_step" in vars(self))
            return super().training_step(batch, batch_idx)

    debugger = Debugger(strict=True, console=False, select=["LD213"])
    program = Counting(tagger(), ignoring)
    data = loader(*uneven(200), batch_size=1)
    trainer(LossInspector(), debugger, max_epochs=1, accumulate_grad_batches=20).fit(program, data)
    windows = debugger.session.record.of(UnevenCounts)
    assert [len(window.counts) for window in windows] == [12] * 4
    assert not any(watched[-100:])
    assert "training_step" not in vars(program)
