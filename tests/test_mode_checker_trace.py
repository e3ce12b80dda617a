"""A run with ModeChecker is the run without it: bit for bit, and at no cost per step."""

import copy

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import lightning_debug.probes.training_audit as training_audit
from lightning_debug import ModeChecker
from tests.helpers import trainer
from tests.mode_programs import IGNORED_WARNINGS, Net, data, network

pytestmark = [pytest.mark.filterwarnings(text) for text in IGNORED_WARNINGS]


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setenv("LIGHTNING_DEBUG_STRICT", "1")
    monkeypatch.setenv("LIGHTNING_DEBUG_CONSOLE", "0")


class Logged(Net):
    """Remembers every loss."""

    def __init__(self):
        super().__init__()
        self.losses = []

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.losses.append(loss.detach().clone())
        return loss

    def validation_step(self, batch, batch_idx):
        loss = F.cross_entropy(self(batch[0]), batch[1])
        self.losses.append(loss.detach().clone())
        self.log("val_loss", loss)


class LeftInEval(Logged):
    def __init__(self):
        super().__init__()
        self.net.eval()


class Transforming(Logged):
    """A transformer teacher on PyTorch's fused path in training, and a transformer that validates on it."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.teacher = copy.deepcopy(self.encoder).eval().requires_grad_(False)

    def forward(self, inputs):
        x = self.encoder(inputs[:, None])
        with torch.no_grad():
            target = self.teacher(inputs[:, None])
        return self.net((x + target)[:, 0])


class Functional(Logged):
    def forward(self, inputs):
        return self.net(F.dropout(inputs, 0.1))


class Drifting(Logged):
    def __init__(self):
        super().__init__()
        self.net[0].requires_grad_(False)
        self.net[1].requires_grad_(False)


class Copying(Logged):
    """Copies its network while it is looked at."""

    def __init__(self):
        super().__init__()
        self.net.eval()
        self.copies = []

    def training_step(self, batch, batch_idx):
        if batch_idx < 2:
            self.copies.append(copy.deepcopy(self.net))
        return super().training_step(batch, batch_idx)


def everything(kind, checker, **options):
    torch.manual_seed(3)
    model = kind()
    run = trainer(*([ModeChecker()] if checker else []), **{"max_epochs": 3, "logger": False, **options})
    run.fit(model, data(), data(48))
    state = [value for optimizer in run.optimizers for item in optimizer.state.values() for value in item.values()]
    tensors = [*model.state_dict().values(), *model.losses, *state, torch.get_rng_state()]
    attributes = [
        (name, sorted(vars(module)), module.training, len(module._forward_hooks), len(module._forward_pre_hooks))
        for name, module in model.named_modules()
    ]
    hooks = [(name, item._backward_hooks) for name, item in model.named_parameters()]
    return tensors, attributes, hooks


@pytest.mark.parametrize(
    "options", [{}, {"accumulate_grad_batches": 2, "gradient_clip_val": 0.5}, {"precision": "bf16-mixed"}], ids=str
)
@pytest.mark.parametrize("kind", [Logged, LeftInEval, Transforming, Functional, Drifting, Copying])
def test_same_bits(kind, options):
    tensors, attributes, hooks = everything(kind, checker=True, **options)
    tensors_without, attributes_without, hooks_without = everything(kind, checker=False, **options)
    assert attributes == attributes_without
    assert hooks == hooks_without
    assert len(tensors) == len(tensors_without)
    for mine, other in zip(tensors, tensors_without, strict=True):
        assert torch.equal(torch.as_tensor(mine), torch.as_tensor(other))


class Counting(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.reads = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.reads += func.overloadpacket.__name__ in ("_local_scalar_dense", "equal", "is_nonzero")
        return func(*args, **(kwargs or {}))


class Steady(pl.Callback):
    """Counts what happens in the hooks of every callback from step 10 on."""

    def __init__(self):
        self.mode = None
        self.counting = Counting()

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 10:
            self.counting.__enter__()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx == 50:
            self.counting.__exit__(None, None, None)


@pytest.mark.parametrize("kind", [Logged, LeftInEval, Drifting])
def test_no_value_is_read_and_no_module_walked_in_steady_state(kind, monkeypatch):
    walks = []
    walk = training_audit.mode_modules
    monkeypatch.setattr(training_audit, "mode_modules", lambda model: walks.append(len(model.losses)) or walk(model))
    reads = []
    for callbacks in ([ModeChecker()], []):
        steady, model = Steady(), kind()
        trainer(*callbacks, steady, max_epochs=1).fit(model, data(16 * 60))
        assert len(model.losses) == 60
        reads.append(steady.counting.reads)
    assert reads[0] == reads[1]
    assert not [step for step in walks if 10 <= step < 50]


def test_a_copy_made_while_it_is_looked_at_is_a_plain_one():
    model = Copying()
    trainer(ModeChecker(), max_epochs=1).fit(model, data(), data(32))
    plain = network()
    for made in model.copies:
        assert [sorted(vars(item)) for item in made.modules()] == [sorted(vars(item)) for item in plain.modules()]
