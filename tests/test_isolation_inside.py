"""What a sandbox offers, and what happens around it: logging, modes, warnings, interrupts, nesting."""

from __future__ import annotations

import signal
import warnings

import torch
from torch import nn
from torch.utils.data import DataLoader

from lightning_debug.experiments.isolation import Sandbox, Unrepeatable, in_sandbox, isolated
from tests.fingerprint import differences
from tests.helpers import trainer as make_trainer
from tests.nasty import Experiment, Nasty, data, everything, fit, state


def test_what_the_step_logs_and_returns_reaches_the_sandbox_only(capsys):
    kept = {}

    def run(sandbox, trainer, module, batch):
        output = sandbox.training_step(batch)
        kept.update(sandbox.logged, output=output)
        kept["same"] = bool(torch.equal(sandbox.loss(output).detach(), sandbox.logged["loss"]))
        assert trainer.callbacks == []
        assert type(trainer.logger).__name__ == "DummyLogger"

    experiment = Experiment(run)

    class Once(Nasty):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx) if in_sandbox() else None

    fit(Once(), experiment)
    assert experiment.raised is None
    assert kept["same"]
    assert kept["twice"] == 2.0
    assert set(kept["output"]) == {"loss", "logits"}
    assert "said aloud" not in capsys.readouterr().out


def test_reseed_and_rewind_repeat_a_step():
    losses = []

    def run(sandbox, trainer, module, batch):
        with sandbox.mode(True):
            for _ in range(2):
                loss = sandbox.loss(sandbox.training_step(batch))
                losses.append(loss.item())
                loss.backward()
                trainer.optimizers[0].step()
                sandbox.rewind()
            sandbox.training_step(batch)
            first = torch.rand(1), module.numpy_generator.random()
            sandbox.reseed()
            sandbox.training_step(batch)
            assert (torch.rand(1), module.numpy_generator.random()) == first

    experiment = Experiment(run, 1, updates=True)
    fit(Nasty(), experiment)
    assert experiment.raised is None
    assert experiment.found == []
    assert losses[0] == losses[1]


def test_the_mode_is_set_flag_by_flag():
    class Stubborn(Nasty):
        def train(self, mode=True):
            raise AssertionError("train() is the user's")

    def run(sandbox, trainer, module, batch):
        flags = [item.training for item in module.modules()]
        with sandbox.mode(False):
            assert not any(item.training for item in module.modules())
        assert flags == [item.training for item in module.modules()]

    experiment = Experiment(run)
    fit(Stubborn(), experiment, max_steps=1)
    assert experiment.raised is None


def test_warnings_appear_as_often_as_without_us():
    def live(experiments: bool) -> list[str]:
        class Warning1(Nasty):
            def training_step(self, batch, batch_idx):
                warnings.warn("once per place", stacklevel=1)
                return self.net(batch["x"]).sum()

        globals().pop("__warningregistry__", None)
        callbacks = [Experiment(lambda box, t, m, batch: box.training_step(batch), at) for at in (0, 2)]
        with warnings.catch_warnings(record=True) as shown:
            warnings.simplefilter("default")
            make_trainer(*callbacks[: 2 * experiments], max_epochs=1).fit(
                Warning1(), DataLoader(data(), batch_size=None)
            )
        return [str(item.message) for item in shown if "once per place" in str(item.message)]

    assert live(True) == live(False) == ["once per place"]


def test_a_million_strings_are_no_burden():
    import time

    module = Nasty()
    module.vocabulary = [str(index) for index in range(1_000_000)]
    module.index = {word: index for index, word in enumerate(module.vocabulary)}
    module.pairs = [(word, 1) for word in module.vocabulary]
    took = []

    def run(sandbox, trainer, module, batch):
        sandbox.training_step(batch)
        module.vocabulary.append("new")

    class Timed(Experiment):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if batch_idx == 0:
                begin = time.perf_counter()
                with isolated(trainer, pl_module) as sandbox:
                    self.run(sandbox, trainer, pl_module, batch)
                took.append(time.perf_counter() - begin)

    fit(module, Timed(run), max_steps=1)
    assert len(module.vocabulary) == 1_000_000
    assert took[0] < 3.0


def test_loss_of_an_output():
    loss = torch.ones(1)
    assert Sandbox.loss(loss) is loss
    assert Sandbox.loss({"loss": loss}) is loss
    assert Sandbox.loss({"other": loss}) is None
    assert Sandbox.loss(None) is None
    assert Sandbox.loss((loss,)) is None


def test_unrepeatable_names_what_stands_in_the_way():
    error = Unrepeatable(["a", "b", "a"])
    assert error.reasons == ("a", "b")
    assert "a; b" in str(error)


def test_isolation_within_isolation():
    def run(sandbox, trainer, module, batch):
        sandbox.training_step(batch)
        middle = state(trainer, module)
        with isolated(trainer, module, updates=True) as inner:
            everything(inner, trainer, module, batch)
        assert differences(middle, state(trainer, module)) == []
        assert in_sandbox()

    experiment = Experiment(run, 1)
    fit(Nasty(), experiment)
    assert experiment.raised is None
    assert experiment.found == []


def test_an_interrupt_while_putting_back_waits_until_all_is_back(monkeypatch):
    from lightning_debug.experiments import _keepers

    original, sent = _keepers.Mapping.restore, []

    def restore(self):
        if in_sandbox() is False and not sent:
            sent.append(1)
            signal.raise_signal(signal.SIGINT)
        original(self)

    monkeypatch.setattr(_keepers.Mapping, "restore", restore)
    experiment = Experiment(everything, 1, updates=True)
    fit(Nasty(), experiment)
    assert sent
    assert isinstance(experiment.raised, KeyboardInterrupt)
    assert experiment.found == []


def test_a_change_to_what_was_not_copied_is_owned_up_to():
    def run(sandbox, trainer, module, batch):
        sandbox.loss(sandbox.training_step(batch)).backward()
        trainer.optimizers[0].step()  # although updates=False

    experiment = Experiment(run, 3)
    fit(Nasty(), experiment)
    assert "had not been copied" in str(experiment.raised)


def test_hooks_that_update_in_the_backward_pass_are_put_back():
    class Eager(Nasty):
        def on_train_start(self):
            self.eager = {item: torch.optim.SGD([item], lr=0.1, momentum=0.9) for item in self.normed.parameters()}
            for item in self.eager:
                item.register_post_accumulate_grad_hook(lambda item: self.eager[item].step())

    experiment = Experiment(everything, 2)
    experiment.run = lambda sandbox, trainer, module, batch: sandbox.loss(sandbox.training_step(batch)).backward()
    fit(Eager(), experiment)
    assert experiment.raised is None
    assert experiment.found == []


def test_with_the_other_package():
    import lightning as other

    class Module(other.LightningModule):
        def __init__(self):
            super().__init__()
            self.net, self.count = nn.Linear(4, 1), 0

        def training_step(self, batch, batch_idx):
            self.count += 1
            self.log("loss", 1.0)
            self.logger.log_metrics({"direct": 1.0})
            return self.net(batch["x"]).mean()

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters())

    class Callback(other.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            with isolated(trainer, pl_module, updates=True) as sandbox:
                sandbox.loss(sandbox.training_step(batch)).backward()
                trainer.optimizers[0].step()
                found.append((pl_module.count, sandbox.logged, type(trainer.logger).__module__))

    found = []
    module = Module()
    options = {"enable_progress_bar": False, "enable_checkpointing": False, "enable_model_summary": False}
    logger = other.pytorch.loggers.CSVLogger(".")
    other.Trainer(accelerator="cpu", max_steps=2, logger=logger, callbacks=[Callback()], **options).fit(
        module, DataLoader(data(), batch_size=None)
    )
    assert found == [
        (1, {"loss": 1.0}, "lightning.pytorch.loggers.logger"),
        (2, {"loss": 1.0}, "lightning.pytorch.loggers.logger"),
    ]
    assert module.count == 2
