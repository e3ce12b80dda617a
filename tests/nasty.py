"""A module that keeps every kind of state, and the harness that compares a run around an experiment."""

from __future__ import annotations

import array
import collections
import dataclasses
import functools
import io
import random
import types
import warnings
import weakref

import numpy
import pytorch_lightning as pl
import torch
import torchmetrics
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from lightning_debug.experiments.isolation import in_sandbox, isolated
from tests.fingerprint import differences, entries, generators, lines
from tests.helpers import trainer as make_trainer

COUNT = 0
SEEN: list[int] = []


class Slotted:
    __slots__ = ("later", "value")

    def __init__(self) -> None:
        self.value = [1]


@dataclasses.dataclass
class Tracker:
    total: float = 0.0
    history: list = dataclasses.field(default_factory=list)
    inner: Slotted = dataclasses.field(default_factory=Slotted)


class Counting(nn.Module):
    calls = 0
    shared: list = []

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running", torch.zeros(2))
        self.register_buffer("replaced", torch.zeros(2))
        self.lazily = None

    def forward(self, x):
        type(self).calls += 1
        Counting.shared.append(self.calls)
        self.running.add_(x.detach().mean())
        self.replaced = self.replaced * 0.9 + x.detach().mean()
        self.lazily = self.lazily or {"made": torch.ones(1)}
        return x + 0.0 * self.running.sum()


class Nasty(pl.LightningModule):
    """Keeps every kind of state that a module of somebody's could keep."""

    def __init__(self, automatic: bool = True) -> None:
        super().__init__()
        self.automatic_optimization = automatic
        self.net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), Counting(), nn.Linear(8, 2))
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.embedding = nn.Parameter(torch.randn(3, 4), requires_grad=False)  # VQ: written in forward
        self.rnn = nn.LSTM(4, 4)
        self.normed = nn.utils.spectral_norm(nn.Linear(4, 4))
        self.accuracy = torchmetrics.Accuracy("multiclass", num_classes=2)
        self.confusion = torchmetrics.CatMetric()
        self.register_buffer("ema", torch.zeros(1))
        self.register_buffer("attached", torch.zeros(1))
        self.register_buffer("sparse", torch.eye(3).to_sparse())
        base = torch.arange(12.0)
        self.view, self.base, self.strided = base[3:6], base, base.view(3, 4).t()
        self.numbers, self.losses, self.number = [1, 2], [], 0
        self.mapping = collections.defaultdict(list, a=[1])
        self.ordered = collections.OrderedDict(a=1, b=2)
        self.counter, self.queue = collections.Counter("abc"), collections.deque([1, 2], maxlen=3)
        self.members, self.frozenset = {1, 2}, frozenset({(1, 2)})
        self.tracker, self.slotted = Tracker(), Slotted()
        self.array, self.objects = numpy.arange(5.0), numpy.array([[1], {"a": 2}, None], dtype=object)
        self.raw, self.typed = bytearray(b"abc"), array.array("d", [1.0, 2.0])
        self.text, self.bytes = io.StringIO("abc"), io.BytesIO(b"abc")
        self.torch_generator = torch.Generator().manual_seed(1)
        self.numpy_generator, self.numpy_legacy = numpy.random.default_rng(1), numpy.random.RandomState(1)
        self.python_generator = random.Random(1)
        self.hidden = None
        self.space = types.SimpleNamespace(a=[1])
        self.reference = weakref.ref(self.tracker)
        self.callbacks = [self.tracker.history.append]
        self.remembered = functools.lru_cache(drawn)
        self.count_calls = self._closure()
        self.hooked = {}
        self.net[0].register_forward_hook(self._hook())
        self.cyclic = []
        self.cyclic.append(self.cyclic)
        self.removed = 0
        self.numbers_again = self.numbers  # an alias
        self.nonleaf = (torch.ones(2, requires_grad=True) * 2, "kept with its graph")

    @staticmethod
    def _closure():
        count = 0

        def call():
            nonlocal count
            count += 1
            call.calls = count
            return count

        return call

    def _hook(self):
        kept = self.hooked

        def hook(module, args, output):
            kept["last"] = output.detach()

        return hook

    def _touch(self, loss):
        global COUNT
        COUNT += 1
        SEEN.append(COUNT)
        self.number += 1
        self.fresh = 1 + self.remembered(3)
        self.ema = 0.9 * self.ema + loss.detach()
        self.attached.add_(loss)
        self.view.add_(1.0)
        self.strided[0, 0] = self.number
        self.embedding.data.mul_(1.01)
        self.embedding.note = "an attribute of a parameter"
        self.numbers.append(3)
        self.numbers_again[0] = 7
        self.losses.append(loss)
        self.mapping["a"].append(2)
        self.mapping["new"].append(2)
        self.ordered.move_to_end("a")
        self.counter.update("abz")
        self.queue.append(self.number)
        self.members.add(self.number + 10)
        self.members.discard(1)
        self.tracker.total += 1
        self.tracker.history.append(self.number)
        self.slotted.later = 1
        self.slotted.value.append(2)
        self.tracker.inner.value = None
        self.array += 1
        self.objects[0].append(2)
        self.objects[2] = "changed"
        self.raw.extend(b"d")
        self.typed[0] = 5.0
        self.typed.append(1.0)
        self.text.write("xyz")
        self.bytes.seek(1)
        torch.randn(2, generator=self.torch_generator)
        self.numpy_generator.random(), self.numpy_legacy.rand(), self.python_generator.random()
        torch.randn(1), numpy.random.rand(), random.random()
        self.space.b = 1
        self.callbacks[0](5)
        self.count_calls()
        vars(self).pop("removed", None)
        self.frozen.requires_grad_(True)
        self.frozen.eval()
        self.frozen.weight.register_hook(lambda grad: grad)
        self.net.register_forward_hook(lambda *_: None)
        self.extra = nn.Linear(1, 1)
        torch.set_default_dtype(torch.float64)
        torch.set_default_dtype(torch.float32)
        torch.set_grad_enabled(True)
        torch.use_deterministic_algorithms(True)

    def training_step(self, batch, batch_idx):
        x, y = batch["x"].mul_(2.0), batch["y"]  # changes the batch itself
        batch["extra"] = 1
        h = self.normed(x) + self.embedding.mean(0)
        out, self.hidden = self.rnn(h[None], self.hidden)
        logits = self.net(out[0])
        loss = F.cross_entropy(logits, y)
        loss = loss + self.nonleaf[0].sum() if in_sandbox() else loss
        self.hidden = tuple(item.detach() for item in self.hidden)
        self.accuracy(logits, y)
        self.confusion.update(loss.detach())
        self.log("loss", loss)
        self.log_dict({"accuracy": self.accuracy, "twice": 2.0})
        self.logger.experiment.add_scalar("direct", 1.0)
        print("said aloud")
        warnings.warn("said once", stacklevel=2)
        self.trainer.should_stop = in_sandbox()
        if not self.automatic_optimization:
            first, second = self.optimizers()
            self.toggle_optimizer(first)
            first.zero_grad()
            self.manual_backward(loss)
            self.clip_gradients(first, gradient_clip_val=0.5, gradient_clip_algorithm="norm")
            first.step()
            self.untoggle_optimizer(first)
            self.lr_schedulers().step()
            second.param_groups[0]["lr"] *= 0.5
        self._touch(loss)
        return {"loss": loss, "logits": logits}

    def validation_step(self, batch):
        self.number += 1
        self.log("val_loss", 1.0)
        assert not torch.is_grad_enabled()
        return self.net(self.normed(batch["x"]))

    def configure_optimizers(self):
        rest = [item for item in self.parameters() if item.requires_grad]
        first = torch.optim.AdamW(rest[:4], lr=1e-2)
        second = torch.optim.SGD(rest[4:], lr=1e-2, momentum=0.9)
        schedule = torch.optim.lr_scheduler.OneCycleLR(first, 0.1, total_steps=100)
        if self.automatic_optimization:
            first.add_param_group({"params": rest[4:], "lr": 1e-3, "max_lr": 0.1, "min_lr": 0.0, "initial_lr": 1e-3})
            return {"optimizer": first, "lr_scheduler": {"scheduler": torch.optim.lr_scheduler.StepLR(first, 1)}}
        return [first, second], [schedule]


def drawn(scale):
    return scale * float(torch.rand(()))


def state(trainer, module) -> list[str]:
    """All that a run is."""
    metrics = tuple(f"{name} {value}" for name, value in trainer.callback_metrics.items())
    return [
        *entries({name: value for name, value in vars(module).items() if name != "_trainer"}),
        *lines((trainer.optimizers, *(item.scheduler for item in trainer.lr_scheduler_configs))),
        *lines((trainer.global_step, trainer.should_stop, trainer.state.stage.value, id(trainer.callbacks))),
        *lines((id(trainer.logger), id(trainer.profiler), metrics, id(trainer._results))),
        *lines(str(module.remembered.cache_info().currsize)),
        *lines((COUNT, SEEN, Counting.calls, Counting.shared, torch.is_grad_enabled())),
        *lines((torch.are_deterministic_algorithms_enabled(), module._current_fx_name)),
        *generators(),
    ]


def data(count: int = 12):
    torch.manual_seed(1)
    return [{"x": torch.randn(6, 4), "y": torch.randint(0, 2, (6,))} for _ in range(count)]


class Experiment(pl.Callback):
    """Runs an experiment at the start of batch ``at`` and compares the run's state around it."""

    def __init__(self, run, at: int = 0, **options) -> None:
        self.run, self.at, self.options = run, at, options
        self.found: list[str] | None = None
        self.raised: BaseException | None = None

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx != self.at:
            return
        before = state(trainer, pl_module) + lines(batch)
        try:
            with isolated(trainer, pl_module, **self.options) as sandbox:
                self.run(sandbox, trainer, pl_module, batch)
        except (Exception, KeyboardInterrupt) as error:
            self.raised = error
        self.found = differences(before, state(trainer, pl_module) + lines(batch))


class Quiet(pl.loggers.logger.DummyLogger):
    """A logger that must not be reached."""


def fit(module, experiment, batches=None, **options):
    options = {"max_epochs": 1, "logger": Quiet(), **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make_trainer(experiment, **options).fit(module, DataLoader(batches or data(), batch_size=None))
    torch.use_deterministic_algorithms(False)


def everything(sandbox, trainer, module, batch):
    assert in_sandbox()
    with sandbox.mode(True):
        for _ in range(3):
            loss = sandbox.loss(sandbox.training_step(batch, 1))
            if module.automatic_optimization:
                loss.backward()
                trainer.optimizers[0].step()
                trainer.optimizers[0].zero_grad()
    with sandbox.mode(False):
        assert sandbox.validation_step(batch).requires_grad is False
