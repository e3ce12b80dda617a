"""Functions that a module, its hooks, its optimizer and its schedule hold: what they count and draw is put back."""

import functools
import itertools

import numpy
import pytest
import torch
from pytorch_lightning import Callback, LightningModule, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug import Debugger
from lightning_debug.experiments.isolation import Unrepeatable, isolated
from tests.helpers import trainer as make_trainer

COUNT, SEEN, TABLE, ENDLESS = 0, [], {}, itertools.count()
GENERATOR = numpy.random.default_rng(0)


class Total:
    count, seen = 0, []

    @classmethod
    def add(cls):
        cls.count += 1
        cls.seen.append(cls.count)
        return 1 + cls.count % 3 / 1000


def held():
    return (
        COUNT,
        list(SEEN),
        dict(TABLE),
        str(ENDLESS),
        str(GENERATOR.bit_generator.state),
        Total.count,
        list(Total.seen),
    )


def begin_anew():
    global COUNT, ENDLESS
    COUNT, ENDLESS, Total.count, Total.seen = 0, itertools.count(), 0, []
    SEEN.clear()
    TABLE.clear()
    GENERATOR.bit_generator.state = numpy.random.default_rng(0).bit_generator.state
    seed_everything(0, verbose=False)


def counting(value, *others):
    global COUNT
    COUNT += 1
    return (value if not others else nn.functional.cross_entropy(value, *others)) * (1 + COUNT % 3 / 1000)


def outer(value):
    return inner(value)


def inner(value):
    TABLE["calls"] = TABLE.get("calls", 0) + 1
    return value + float(GENERATOR.standard_normal()) / 100


def going(value):
    return value * (1 + next(ENDLESS) % 3 / 1000)


def wrapped(function):
    @functools.wraps(function)
    def call(value):
        SEEN.append(1)
        return function(value) * (1 + len(SEEN) % 3 / 1000)

    return call


class Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value):
        SEEN.append("forward")
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        SEEN.append("backward")
        return gradient * (1 + len(SEEN) % 3 / 1000)


class Called(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, value):
        return self.function(value)


class Task(LightningModule):
    def __init__(self, layer=None, loss=nn.functional.cross_entropy, prepare=lambda module: None, schedule=None):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 16), layer or nn.ReLU(), nn.ReLU(), nn.Linear(16, 3))
        self.loss, self.schedule = loss, schedule
        prepare(self)

    def training_step(self, batch, batch_idx):
        loss = self.loss(self.net(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), 3e-3)
        optimizer.register_step_post_hook(lambda *given: TABLE.update(steps=TABLE.get("steps", 0) + 1))
        if self.schedule is None:
            return optimizer
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.schedule)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


class ByClass(Task):
    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx) * Total.add()


class Importing(Task):
    def training_step(self, batch, batch_idx):
        from tests import test_isolation_functions as own

        own.SEEN.append(batch_idx)
        return super().training_step(batch, batch_idx) * (1 + len(own.SEEN) % 3 / 1000)


KINDS = {
    "a loss": lambda: Task(loss=counting),
    "a partial": lambda: Task(loss=functools.partial(counting)),
    "an activation": lambda: Task(Called(counting)),
    "one that calls another": lambda: Task(Called(outer)),
    "in a table": lambda: Task(Called({"one": inner}["one"])),
    "a lambda": lambda: Task(Called(lambda value: inner(value))),
    "decorated": lambda: Task(Called(wrapped(torch.relu))),
    "a function of autograd": lambda: Task(Called(Straight.apply)),
    "a forward hook": lambda: Task(prepare=lambda task: task.net[0].register_forward_hook(lambda *_: SEEN.append(1))),
    "a backward hook": lambda: Task(
        prepare=lambda task: task.net[3].register_full_backward_hook(lambda *_: SEEN.append(2))
    ),
    "a hook of a tensor": lambda: Task(prepare=lambda task: task.net[0].weight.register_hook(counting)),
    "a class": ByClass,
    "imported inside": Importing,
    "a schedule": lambda: Task(schedule=lambda step: 1 / (1 + step + counting(0))),
}


class Look(Callback):
    raised, before, after = None, None, None

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx != 2:
            return
        self.before = held()
        try:
            with isolated(trainer, pl_module, updates=True) as sandbox:
                for _ in range(2):
                    loss = sandbox.loss(sandbox.training_step(batch))
                    optimizer = trainer.optimizers[0]
                    sandbox.optimizer_step(optimizer, lambda loss=loss: sandbox.backward(loss))
        except Unrepeatable as refused:
            self.raised = refused
        self.after = held()


def trained(make, *callbacks, epochs=1):
    begin_anew()
    labels = torch.arange(96) % 3
    rows = TensorDataset(3 * torch.eye(6)[labels] + torch.randn(96, 6), labels)
    module = make()
    make_trainer(max_epochs=epochs, callbacks=list(callbacks)).fit(module, DataLoader(rows, 16, shuffle=True))
    return torch.cat([item.detach().flatten() for item in module.parameters()]), held()


@pytest.mark.parametrize("kind", KINDS)
def test_what_functions_keep_outside_of_objects_is_put_back(kind):
    look = Look()
    trained(KINDS[kind], look)
    assert look.raised is None
    assert look.before is not None
    assert look.after == look.before


def test_a_function_that_takes_the_next_of_an_iterator_is_refused():
    look = Look()
    trained(lambda: Task(Called(going)), look)
    assert "ENDLESS" in str(look.raised)
    assert look.after == look.before


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*KINDS, "going"])
def test_a_run_whose_functions_keep_count_is_the_same_run(kind):
    make = KINDS.get(kind, lambda: Task(Called(going)))
    weights, left = trained(make, epochs=8)
    watched, rest = trained(make, Debugger(console=False), epochs=8)
    assert torch.equal(weights, watched)
    assert left == rest


class Ending(Task):
    def on_validation_epoch_end(self):
        TABLE["ends"] = TABLE.get("ends", 0) + len(SEEN)
        SEEN.append(1)


def test_what_a_hook_at_the_end_counts_is_put_back():
    class Ends(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            before = held()
            with isolated(trainer, pl_module, hooks=["on_validation_epoch_end"]) as sandbox:
                sandbox.hook("on_validation_epoch_end")
            assert held() == before

    trained(Ending, Ends())
