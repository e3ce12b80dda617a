"""Several Trainers in threads of one process, as a study with ``n_jobs=2`` has them."""

import io
import logging
import sys
import threading

import pytest
import torch
from torch.optim import optimizer as torch_optimizer

from lightning_debug import Debugger
from lightning_debug.experiments._surroundings import silence
from lightning_debug.probes.optimizer_coverage import Held
from lightning_debug.probes.update_watch import UpdateWatch
from tests.healthy import make_loaders, make_model, make_trainer, seed
from tests.helpers import alarms


def watched(ignore=lambda: False):
    layer = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    held = [Held(name, item, layer, "") for name, item in layer.named_parameters()]
    return layer, optimizer, UpdateWatch(held, [optimizer], ignore)


def in_thread(function):
    errors = []

    def guarded():
        try:
            function()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def stepped(layer, optimizer):
    layer(torch.ones(4, 2)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def test_a_look_begins_and_ends_while_another_thread_steps():
    *_, other = watched()

    def meanwhile():
        in_thread(lambda: (other.start(0), other.stop()))
        return False

    layer, optimizer, watch = watched(meanwhile)
    watch.start(0)
    stepped(layer, optimizer)
    watch.stop()
    assert watch.steps == 1
    assert not torch_optimizer._global_optimizer_post_hooks
    assert not torch_optimizer._global_optimizer_pre_hooks


def test_a_watch_ends_while_another_thread_steps_on_its_own():
    """A thread without a watch is in the middle of torch's loop over the hooks when the only watch ends."""
    layer, optimizer, watch = watched()
    plain, others, _ = watched()
    watch.start(0)
    seen = []
    handle = others.register_step_pre_hook(lambda *_: seen.append(1))
    in_thread(lambda: stepped(plain, others))
    handle.remove()
    watch.stop()
    assert seen
    watch.start(1)  # nobody else has stepped since: now they go
    stepped(layer, optimizer)
    watch.stop()
    assert not torch_optimizer._global_optimizer_post_hooks


def test_steps_of_another_thread_are_not_this_fits_own():
    layer, optimizer, watch = watched()
    plain, others, _ = watched()
    watch.start(0)
    in_thread(lambda: stepped(plain, others))
    stepped(layer, optimizer)
    watch.stop()
    assert watch.steps == 1
    assert len(watch.steppings) == 1
    watch.start(1)
    watch.stop()


def test_silence_of_two_threads_ends():
    out, entered, leave = io.StringIO(), threading.Event(), threading.Event()
    before, handle = sys.stdout, vars(logging.Logger)["handle"]
    sys.stdout = out
    try:

        def other():
            with silence():
                entered.set()
                leave.wait(10)

        thread = threading.Thread(target=other)
        with silence():
            thread.start()
            entered.wait(10)
        print("still silent: the other thread is inside")
        leave.set()
        thread.join()
        print("heard")
    finally:
        sys.stdout = before
    assert out.getvalue() == "heard\n"
    assert vars(logging.Logger)["handle"] is handle


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_three_fits_at_once():
    debuggers, errors = [Debugger(console=False, strict=True) for _ in range(3)], []
    together = threading.Barrier(3)

    def fit(debugger):
        try:
            model, loaders = make_model(), make_loaders()
            trainer = make_trainer(debugger, max_epochs=4)
            model.setup = lambda stage: together.wait(30) and None
            model.on_train_end = lambda: together.wait(30) and None
            trainer.fit(model, *loaders)
        except BaseException as error:
            errors.append(error)

    seed()
    threads = [threading.Thread(target=fit, args=(debugger,)) for debugger in debuggers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    for debugger in debuggers:
        assert debugger.report.status == "finished"
        assert not alarms(debugger.report)
        assert any("another thread" in skip.reason for skip in debugger.report.skips)


def test_a_fit_in_a_thread_by_itself_is_judged_as_any():
    debugger = Debugger(console=False, strict=True)
    in_thread(lambda: make_trainer(debugger).fit(make_model(), *make_loaders()))
    assert debugger.report.status == "finished"
    assert not any("another thread" in skip.reason for skip in debugger.report.skips)
