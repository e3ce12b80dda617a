"""Batches that are held back and read together: the same is found as when each is read at once."""

from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch

from lightning_debug.callbacks._data_parts import PARTS_OF_DATA
from lightning_debug.callbacks._data_run import MISFITS, DataRun
from lightning_debug.probes.batch_roles import batch_roles
from lightning_debug.probes.held_batches import FULL, LARGE, HeldBatches
from lightning_debug.probes.relation_fingerprints import fingerprints
from lightning_debug.probes.relation_stream import SampleStream
from tests.data_programs import Context, loader
from tests.test_data_cadence import Loop

Pair = namedtuple("Pair", "x y")


def held_like(batch):
    return HeldBatches.like(batch, batch_roles(batch))


def pictures(count=1280):
    labels = torch.randint(0, 3, (count,))
    return torch.randn(count, 3, 12, 12) + labels.view(-1, 1, 1, 1), labels


def texts(count=1280):
    tokens = torch.randint(0, 50, (count, 40))
    return tokens[:, :-1], tokens[:, 1:]


def rows(count=1280):
    inputs = torch.randn(count, 6)
    return inputs, inputs.sum(1, keepdim=True)


def hot(count=1280):
    inputs = torch.randn(count, 80)
    return inputs, torch.nn.functional.one_hot(inputs[:, :4].argmax(1), 4).float()


def everything_found(train, validation, monkeypatch, holds, *, spoil=False, as_dict=False):
    context, found = Context(train, validation), []
    context.trainer = Loop(train)
    context.trainer.val_dataloaders = validation
    monkeypatch.setattr("lightning_debug.callbacks._data_run.moment", lambda trainer: None)
    session = SimpleNamespace(observe=found.append, settings=SimpleNamespace(strict=True))
    parts = [part for part in PARTS_OF_DATA if part.__name__ != "DataLanguage"]  # it runs the model
    run, held = DataRun(SimpleNamespace(session=session), context, parts), []
    take = HeldBatches.take
    monkeypatch.setattr(HeldBatches, "take", lambda self, batch: holds and take(self, batch) and not held.append(1))
    run.begin()
    for epoch in range(3):
        torch.manual_seed(epoch)
        context.trainer.current_epoch = epoch
        for stage, batches in (("train", train), ("validate", validation)):
            context.trainer.state.stage.value = stage
            run.restart(stage)
            for batch in batches:
                run.see(dict(zip("ab", batch, strict=True)) if as_dict else batch, 0)
                for tensor in batch if spoil else ():
                    tensor.zero_()
            run.end_of_epoch(stage)
    run.finish()
    monkeypatch.undo()
    return [str(item) for item in found], len(held), dict(run.delivered)


@pytest.mark.parametrize(("as_dict", "shuffle"), [(False, True), (True, False)])
@pytest.mark.parametrize("make", [pictures, texts, rows, hot])
def test_the_same_is_found(make, as_dict, shuffle, monkeypatch):
    torch.manual_seed(0)
    train, validation = loader(*make(), shuffle=shuffle, batch_size=16), loader(*make(400), batch_size=16)
    at_once, none, delivered = everything_found(train, validation, monkeypatch, False, as_dict=as_dict)
    together, held, same = everything_found(train, validation, monkeypatch, True, as_dict=as_dict, spoil=True)
    assert at_once == together
    assert delivered == same == {"train": 3840, "validate": 1200}
    assert not none
    assert held > 30


def test_batches_that_all_differ_are_soon_not_compared_any_more(monkeypatch):
    made, like = [], HeldBatches.like
    monkeypatch.setattr(HeldBatches, "like", lambda *args: made.append(1) or like(*args))
    lengths = [30, *(5 + count % 2 for count in range(200))]
    batches = [(torch.randint(0, 50, (16, length)), torch.arange(16) % 3) for length in lengths]
    _, held, delivered = everything_found(batches, batches[:1], monkeypatch, True)
    assert delivered["train"] == 3 * 201 * 16
    assert not held
    assert len(made) == MISFITS


def test_values_are_those_that_the_batch_had():
    batch = torch.randn(8, 100), torch.arange(8)
    held = held_like(batch)
    keys, other = fingerprints([batch[0]]), [batch[0].clone(), batch[1].clone()]
    assert held.take(tuple(other))
    other[0].zero_(), other[1].zero_()
    (fields,) = held.release()
    stream, plain = SampleStream(rows=0), SampleStream(rows=0)
    stream.add(fields, 8)
    plain.add(batch_roles(batch), 8)
    assert stream.samples().keys.tolist() == plain.samples().keys.tolist() == keys.tolist()
    assert stream.samples().labels.tolist() == list(range(8))
    assert stream.everything == plain.everything


def test_what_is_not_like_the_one_before_is_not_held():
    batch = torch.randn(8, 3), torch.arange(8)
    held = held_like(batch)
    others = [
        list(batch),
        (*batch, torch.zeros(8)),
        (torch.randn(7, 3), torch.arange(7)),
        (torch.randn(8, 3).double(), torch.arange(8)),
        (torch.randn(8, 3, device="meta"), torch.arange(8)),
        (torch.randn(8, 3).to_sparse(), torch.arange(8)),
        (torch.nn.Parameter(torch.randn(8, 3)), torch.arange(8)),
        {"x": batch[0], "y": batch[1]},
        Pair(*batch),
        batch[0],
        None,
    ]
    assert not any(map(held.take, others))
    assert not len(held)
    named = held_like({"x": batch[0], "y": batch[1]})
    assert named.take({"x": batch[0], "y": batch[1]})
    assert not named.take({"y": batch[0], "x": batch[1]})


@pytest.mark.parametrize(
    "batch",
    [
        Pair(torch.randn(8, 3), torch.arange(8)),
        (torch.randn(8, 3), torch.arange(8), ["text"] * 8),
        (torch.randn(8, 3), torch.arange(8), 0.5),
        (torch.randn(8, 3), torch.tensor(1.0)),
        (torch.randn(8, 3).bfloat16(), torch.arange(8)),
        (torch.randn(8, 3, dtype=torch.complex64), torch.arange(8)),
        (torch.randn(8, 3), (torch.arange(8), torch.arange(8))),
        (torch.randn(8, 1, 128, 128), torch.zeros(8, 1, 128, 128).long()),
        (torch.randn(LARGE // 4, 2), torch.arange(LARGE // 4)),
    ],
)
def test_batches_of_other_kinds_are_never_held(batch):
    assert held_like(batch) is None


def test_it_is_full_after_some():
    batch = torch.randn(8, 3), torch.arange(8)
    held = held_like(batch)
    for count in range(FULL):
        assert not held.is_full
        assert held.take(batch)
        assert len(held) == count + 1
    assert held.is_full
    assert sum(1 for _ in held.release()) == FULL
    assert not held.is_full
