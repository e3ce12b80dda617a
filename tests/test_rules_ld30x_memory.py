"""Memory that nothing was written to: it is an origin where it is read before it is written, and nowhere else.

Deterministic algorithms make torch fill fresh memory with NaN: the worst that memory may happen to hold.
"""

import pytest
import torch

from tests.guarded import Program, found, run, scores


@pytest.fixture(autouse=True)
def _spoiled_memory(monkeypatch):
    monkeypatch.setenv("LIGHTNING_DEBUG_STRICT", "1")
    monkeypatch.setenv("LIGHTNING_DEBUG_CONSOLE", "0")
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def read_unwritten(module, batch):
    return (scores(module, batch) * torch.empty(4)).mean()


def written_in_part(module, batch):
    weights = scores(module, batch).new_empty(16, 4)
    weights[:8] = 1.0
    return (scores(module, batch) * weights).mean()


def stacked_rows(module, batch):
    h = scores(module, batch)
    rows = torch.empty_like(h)
    for index in range(16):
        rows[index] = torch.log(h[index]) if index == 3 else h[index]
    return rows.mean()


def copied(module, batch):
    h = scores(module, batch)
    kept = torch.empty(16, 4)
    kept.copy_(torch.log(h - 100).detach())
    return (h * kept).mean()


def into_out(module, batch):
    h = scores(module, batch)
    kept = torch.empty(16, 4)
    torch.sqrt(h.detach() - 100, out=kept)
    return (h * kept).mean()


def filled_through_a_view(module, batch):
    weights = torch.empty(4, 4)
    weights.zero_()
    weights[1].fill_(torch.nan)
    return (scores(module, batch) @ weights).mean()


def divisor(module, batch):
    weights = torch.empty(4).zero_()
    return (scores(module, batch) / weights).mean()


ORIGINS = {
    read_unwritten: ("empty", "uninitialised-memory"),
    written_in_part: ("new_empty", "uninitialised-memory"),
    stacked_rows: ("log", "log-of-negative"),
    copied: ("log", "log-of-negative"),
    into_out: ("sqrt", "sqrt-of-negative"),
    filled_through_a_view: ("fill", "written"),
    divisor: ("div", "division-by-zero"),
}


@pytest.mark.parametrize("step", ORIGINS, ids=lambda step: step.__name__)
def test_what_is_named(step):
    (headline,) = found(step, limit_train_batches=1)
    assert headline.code == "LD302"
    assert (headline.measured["operation"], headline.measured["reason"]) == ORIGINS[step]


def noise(module, batch):
    h, kept = scores(module, batch), torch.empty(16, 4).normal_()
    for index in range(2):
        torch.add(h.detach(), 1.0, out=kept)
        kept[index] = 0.0
    return (h * kept * torch.empty(4).uniform_()).mean()


def test_memory_that_is_written_first_is_no_fault():
    guard, raised = run(Program(noise), limit_train_batches=1)
    assert raised is None
    assert guard.report.findings == ()
