"""LRRangeFinder in a Debugger: rates that are far off are proven so, healthy ones are left alone."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lightning_debug import Debugger
from lightning_debug.callbacks import _experiment_budget as budget
from lightning_debug.callbacks import _lr_experiment as experiment
from lightning_debug.callbacks.lr_range_finder import LRRangeFinder
from lightning_debug.evidence import ProbeFailure
from lightning_debug.evidence.lr_range import LRRange
from lightning_debug.experiments.isolation import in_sandbox
from tests.helpers import codes, trainer


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch):
    """Has a slow machine make the experiment that a fast one makes."""
    measure = experiment._time_steps
    monkeypatch.setattr(budget, "FLOOR", 30.0)
    monkeypatch.setattr(experiment, "_time_steps", lambda *given: 0.06 + 0 * measure(*given))


class Classes(pl.LightningModule):
    """Four clouds of points."""

    def __init__(self, make, schedule=None):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
        self.make, self.schedule = make, schedule

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        optimizer = self.make(self.parameters())
        if self.schedule is None:
            return optimizer
        return [optimizer], [{"scheduler": self.schedule(optimizer), "interval": "step"}]


class Sequences(Classes):
    """A recurrent regression whose batch is a dict and whose loss is in a dict."""

    def __init__(self, make):
        super().__init__(make)
        self.net = nn.GRU(2, 16, batch_first=True)
        self.head = nn.Linear(16, 1)

    def training_step(self, batch, batch_idx):
        inputs, wanted = batch
        return {"loss": F.mse_loss(self.head(self.net(inputs)[0][:, -1])[:, 0], wanted)}


class Images(Classes):
    """A small convolutional net with batch-norm and accumulation."""

    def __init__(self, make):
        super().__init__(make)
        self.net = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 4)
        )


def clouds(count=512, size=32):
    torch.manual_seed(1)
    labels = torch.randint(0, 4, (count,))
    return DataLoader(
        TensorDataset(torch.randn(4, 8)[labels] * 1.5 + torch.randn(count, 8), labels), size, shuffle=True
    )


def waves():
    torch.manual_seed(1)
    inputs = torch.randn(320, 6, 2)
    return DataLoader(TensorDataset(inputs, inputs[:, :, 0].mean(1) * 2), 32, shuffle=True)


def pictures():
    torch.manual_seed(1)
    labels = torch.randint(0, 4, (256,))
    inputs = torch.randn(4, 1, 8, 8)[labels] + 0.5 * torch.randn(256, 1, 8, 8)
    return DataLoader(TensorDataset(inputs, labels), 16, shuffle=True)


PROGRAMS = {
    "clouds": (Classes, clouds, {}),
    "waves": (Sequences, waves, {}),
    "pictures": (Images, pictures, {"accumulate_grad_batches": 2, "gradient_clip_val": 1.0}),
}


def judged(model, loader, **options):
    debugger = Debugger(strict=True, console=False, select=["LD601", "LD602", "LD001"], experiment_seconds=60)
    trainer(debugger, **{"max_epochs": 3, **options}).fit(model, loader)
    return debugger


def adam(lr):
    return lambda parameters: torch.optim.Adam(parameters, lr=lr)


def sgd(lr, momentum=0.9):
    return lambda parameters: torch.optim.SGD(parameters, lr=lr, momentum=momentum)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name != "clouds" else name for name in PROGRAMS]
)
@pytest.mark.parametrize(
    ("make", "code"),
    [(adam(3.0), "LD601"), (sgd(100.0), "LD601"), (adam(1e-7), "LD602"), (sgd(1e-6), "LD602")],
    ids=["adam-high", "sgd-high", "adam-low", "sgd-low"],
)
def test_rates_far_off_are_found(name, make, code):
    if (name, code) == ("pictures", "LD601"):
        make = sgd(3e3, 0.0)  # batch-norm stands much
    model, loader, options = PROGRAMS[name]
    debugger = judged(model(make), loader(), **options)
    assert codes(debugger.report) == [code]
    finding = debugger.report.findings[0]
    seen = debugger.session.record.last(LRRange)
    assert seen.contest.other != seen.in_use
    assert "held-out loss goes from" in finding.message
    assert finding.subject.startswith("lr of ")


def warm_up(optimizer):
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 10))


def one_cycle(optimizer):
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.02, total_steps=48)


@pytest.mark.parametrize(
    ("make", "schedule"),
    [
        (adam(1e-3), None),
        (adam(1e-2), None),
        (adam(2e-4), None),
        (sgd(0.1), None),
        (sgd(0.01), None),
        (sgd(0.1, 0.0), None),
        (adam(3e-2), warm_up),
        (adam(1e-8), one_cycle),
    ],
)
def test_sane_rates_are_left_alone(make, schedule):
    debugger = judged(Classes(make, schedule), clouds())
    assert not debugger.report.findings
    assert debugger.session.record.seen(LRRange)


def test_the_peak_of_a_schedule_counts():
    debugger = judged(Classes(adam(1e-8), one_cycle), clouds())
    assert debugger.session.record.last(LRRange).in_use == pytest.approx(0.02, rel=0.01)


@pytest.mark.parametrize("lr", [1e-5, 1e-3])
def test_fine_tuning_that_improves_is_left_alone(lr):
    model = Classes(adam(1e-2))
    trainer(max_epochs=2).fit(model, clouds())
    model.make = adam(lr)
    assert not judged(model, clouds()).report.findings


@pytest.mark.parametrize("labels", ["constant", "random"])
@pytest.mark.parametrize("make", [adam(1e-3), sgd(0.05)], ids=["adam", "sgd"])
def test_labels_without_anything_to_learn_are_no_matter_of_the_rate(labels, make):
    loader = clouds()
    kept = loader.dataset.tensors[1]
    kept.copy_(torch.zeros(512, dtype=torch.long) if labels == "constant" else torch.randint(0, 4, (512,)))
    assert not judged(Classes(make), loader).report.findings


class Adversaries(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.generator, self.critic = nn.Linear(4, 8), nn.Linear(8, 1)

    def training_step(self, batch, batch_idx):
        for number, optimizer in enumerate(self.optimizers()):
            fake = self.generator(torch.randn(len(batch[0]), 4))
            wanted = torch.ones(len(fake), 1)
            loss = F.binary_cross_entropy_with_logits(self.critic(fake), wanted)
            if number:
                real = F.binary_cross_entropy_with_logits(self.critic(batch[0]), wanted)
                loss = real + F.binary_cross_entropy_with_logits(self.critic(fake.detach()), 1 - wanted)
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()

    def configure_optimizers(self):
        return torch.optim.Adam(self.generator.parameters(), 1e-7), torch.optim.Adam(self.critic.parameters(), 5.0)


def test_adversaries_are_searched_in_turn_and_not_judged():
    finder = LRRangeFinder(progress=False, steps=20, sweeps=1, trial_steps=10)
    trainer(finder, max_epochs=1).fit(Adversaries(), clouds(128))
    assert [(seen.optimizer, seen.in_use) for seen in finder.results] == [(0, 1e-7), (1, 5.0)]
    assert not finder.report.findings
    assert any("several optimizers" in skip.reason for skip in finder.report.skips)
    assert not judged(Adversaries(), clouds(), max_epochs=1).report.findings


class Partners(pl.LightningModule):
    """An encoder that is stepped every second batch, and a head, each with an optimizer."""

    def __init__(self, encoder, head):
        super().__init__()
        self.automatic_optimization = False
        self.encoder, self.head = nn.Sequential(nn.Linear(8, 16), nn.ReLU()), nn.Linear(16, 4)
        self.rates = encoder, head

    def training_step(self, batch, batch_idx):
        encoder, head = self.optimizers()
        self.manual_backward(F.cross_entropy(self.head(self.encoder(batch[0])), batch[1]))
        head.step()
        head.zero_grad()
        if batch_idx % 2:
            encoder.step()
            encoder.zero_grad()

    def configure_optimizers(self):
        parts = zip((self.encoder, self.head), self.rates, strict=True)
        return [torch.optim.SGD(part.parameters(), lr) for part, lr in parts]


@pytest.mark.parametrize(("rates", "expected"), [((0.05, 0.05), []), ((0.05, 3e4), ["LD601"])])
def test_several_optimizers_of_a_manual_step_are_tried_in_turn(rates, expected):
    model = Partners(*rates)
    debugger = judged(model, clouds(), max_epochs=2)
    assert [seen.optimizer for seen in debugger.session.record.of(LRRange)] == [0, 1]
    assert codes(debugger.report) == expected
    assert [finding.subject for finding in debugger.report.findings] == ["lr of optimizers[1] (SGD)"] * len(expected)
    told = [str(finding.message) for finding in debugger.report.findings]
    assert ["training loss goes" in message for message in told] == [True] * len(expected), told
    assert not any(optimizer._optimizer_step_post_hooks for optimizer in model.trainer.optimizers)


def test_it_may_begin_amid_the_training():
    finder = LRRangeFinder(progress=False, steps=12, sweeps=1, trial_steps=10, at_step=5)
    trainer(finder, max_epochs=1).fit(Classes(adam(1e-3)), clouds(256))
    assert [seen.at.step for seen in finder.results] == [5]


class Stream(IterableDataset):
    def __init__(self, loader):
        self.rows = [(x, y) for x, y in zip(*loader.dataset.tensors, strict=True)]

    def __iter__(self):
        return iter(self.rows)


@pytest.mark.parametrize(("lr", "expected"), [(1e-7, ["LD602"]), (1e-3, [])])
def test_streams_are_followed_for_a_few_batches_first(lr, expected):
    debugger = judged(Classes(adam(lr)), DataLoader(Stream(clouds(1024)), 32))
    assert codes(debugger.report) == expected


def test_a_run_that_blows_up_is_seen_without_an_experiment():
    debugger = Debugger(strict=True, console=False, select=["LD601"], experiment_seconds=0)
    trainer(debugger, max_epochs=3).fit(Classes(sgd(300.0)), clouds())
    assert codes(debugger.report) == ["LD601"]
    assert "first update changes the weights" in debugger.report.findings[0].message
    debugger = Debugger(strict=True, console=False, select=["LD601"], experiment_seconds=0)
    trainer(debugger, max_epochs=3).fit(Classes(sgd(0.1)), clouds())
    assert not debugger.report.findings


def test_alone_it_searches_thoroughly_and_writes_a_page(tmp_path, capsys):
    finder = LRRangeFinder(progress=False, trial_steps=30, steps=40, sweeps=2)
    trainer(finder, default_root_dir=tmp_path).fit(Classes(adam(1e-3)), clouds())
    [found] = finder.results
    assert found.lr_min < found.lr_max
    assert 1e-4 < found.suggestion < 0.3
    assert found.confidence == "high"
    assert "is suggested (in use: 0.001)" in capsys.readouterr().out
    assert "<svg" in (tmp_path / "lightning_debug" / "lr_range_0.html").read_text()


def test_a_step_that_fails_later_on_is_told_and_training_goes_on():
    class Failing(Classes):
        calls = 0

        def training_step(self, batch, batch_idx):
            type(self).calls += in_sandbox()
            if type(self).calls == 9:
                raise RuntimeError("the ninth")
            return super().training_step(batch, batch_idx)

    debugger = judged(Failing(adam(1e-3)), clouds())
    assert debugger.report.status == "finished"
    assert "the ninth" in debugger.session.record.last(ProbeFailure).error
