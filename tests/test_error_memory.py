"""Memory: a batch that cannot fit is told before the first step, and the host's memory is explained too."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_debug import ErrorExplainer
from lightning_debug.callbacks import error_explainer
from lightning_debug.callbacks._error_foretold import foreseen
from lightning_debug.evidence.errors import ErrorRaised, MemoryOwners
from lightning_debug.probes.memory_forecast import memory_need
from lightning_debug.record import Record
from lightning_debug.rules.ld108_out_of_memory import out_of_memory
from tests.errors.runs import Base, loader
from tests.helpers import trainer

GIB = 2**30


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        ([(1, 3 * GIB), (2, 4 * GIB)], 65 * GIB),
        ([(2, 4 * GIB), (1, 3 * GIB)], 65 * GIB),
        ([(2, 5), (4, 7), (8, 11)], GIB + 64),
        ([(1, 5), (2, 5)], None),  # nothing is kept for a sample
        ([(2, 4), (4, 16), (8, 64)], None),  # every pair
        ([(1, 5)], None),
        ([], None),
    ],
)
def test_the_need_is_the_least_that_is_sure(measured, expected):
    need = memory_need(measured, 64, used=GIB, state_to_come=0)
    assert (need.total if need else None) == expected


def test_what_is_in_use_and_the_optimizers_state_count_too():
    need = memory_need([(1, 10), (2, 20)], 10, used=7, state_to_come=3)
    assert (need.held, need.activations, need.total) == (10, 100, 110)


def owners(**options):
    given = {"parameters": GIB, "gradients": GIB, "optimizer_expected": 2 * GIB, "activations": 64 * GIB,
             "per_sample": GIB, "capacity": 40 * GIB, "batch_size": 64, "used": GIB}  # fmt: skip
    return MemoryOwners(**{**given, **options})


def test_it_names_the_batch_that_would_fit():
    error = ErrorRaised(
        error="OutOfMemoryError", phase="training_step", memory=owners(), foretold="the first batch will not fit"
    )
    [claim] = out_of_memory(Record([error]))
    assert claim.message.startswith("The first batch will not fit: its 64 samples keep 64.0 GiB")
    assert "batch_size=32 with accumulate_grad_batches=2" in claim.fix
    [claim] = out_of_memory(Record([ErrorRaised(
        error="OutOfMemoryError", phase="training_step", memory=owners(capacity=4 * GIB), foretold="it will not fit")]))  # fmt: skip
    assert "Not even one sample" in claim.fix


class Wide(Base):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(16, 256), nn.Tanh(), nn.Linear(256, 256), nn.Tanh(), nn.Linear(256, 3))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())


def data(samples=64, batch_size=32):
    return loader(torch.randn(samples, 16), torch.randint(3, (samples,)), batch_size=batch_size)


@pytest.fixture
def pretended(monkeypatch):
    """The host in a GPU's place, with as much memory as is asked for."""

    def pretend(capacity):
        def experiment(trainer, module, held):
            host = torch.device("cpu")
            return foreseen(trainer, module, held, device=host, used=GIB, capacity=GIB + capacity)

        experiment.__name__ = "batch_too_large"
        monkeypatch.setattr(error_explainer, "batch_too_large", experiment)

    return pretend


def told(model, batches, **options):
    watch = ErrorExplainer()
    trainer(watch, max_epochs=1, **options).fit(model, batches)
    return watch.report


def test_it_is_told_before_the_first_step_and_only_where_it_is_sure(pretended, monkeypatch):
    monkeypatch.setenv("LIGHTNING_DEBUG_STRICT", "1")
    model = Wide()
    state = 2 * sum(item.numel() * item.element_size() for item in model.parameters())
    kept = 32 * (16 + 4 * 256 + 3) * 4  # what its layers keep: inputs of linear layers, outputs of tanh
    pretended(state + kept // 4)
    report = told(model, data())
    assert [(item.code, item.subject, item.at.step) for item in report.findings] == [("LD108", "training_step", 0)]
    assert report.findings[0].measured["per_sample_bytes"] == pytest.approx(kept / 32, rel=0.6)
    pretended(state + 2 * kept)
    assert not told(Wide(), data()).findings


def test_on_the_host_nothing_is_measured():
    assert not told(Wide(), data()).findings


class Greedy(Wide):
    """Asks for one value for every pair of far too many things."""

    def training_step(self, batch, batch_idx):
        pairs = torch.empty(2**24, 2**24)
        return super().training_step(batch, batch_idx) + pairs.mean()


class GreedyArray(Wide):
    def training_step(self, batch, batch_idx):
        import numpy

        numpy.zeros((2**25, 2**25))
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("program", [Greedy, GreedyArray])
def test_one_tensor_that_is_too_large_for_any_batch(program):
    watch = ErrorExplainer()
    with pytest.raises((RuntimeError, MemoryError), match="allocate"):
        trainer(watch, max_epochs=1).fit(program(), data())
    [found] = watch.report.findings
    assert (found.code, found.measured["cause"]) == ("LD108", "tensor-too-large")
    assert "test_error_memory.py:" in found.subject
    assert "host memory (RAM)" in found.message


def test_a_loader_without_memory():
    class Hungry(torch.utils.data.Dataset):
        def __len__(self):
            return 8

        def __getitem__(self, index):
            raise MemoryError

    watch = ErrorExplainer()
    with pytest.raises(MemoryError):
        trainer(watch, max_epochs=1).fit(Wide(), torch.utils.data.DataLoader(Hungry()))
    [found] = watch.report.findings
    assert (found.code, found.measured["cause"]) == ("LD108", "data-too-large")
    assert "mmap_mode" in found.fix


class Greedy(torch.autograd.Function):
    """Finds no memory on its way back."""

    @staticmethod
    def forward(ctx, value):
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_a_backward_of_ones_own_that_finds_no_memory():
    class Net(Base):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(8, 3)

        def training_step(self, batch, batch_idx):
            return Greedy.apply(self.net(batch[0])).mean()

    watch = ErrorExplainer()
    with pytest.raises(torch.OutOfMemoryError):
        trainer(watch, max_epochs=1).fit(Net(), loader(torch.randn(32, 8)))
    [found] = watch.report.findings
    assert found.code == "LD108"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu_the_batch_is_weighed_before_the_first_step():
    free, _ = torch.cuda.mem_get_info()
    width = free // (4 * 4096 * 8)  # eight of these activations fill what is free

    class Huge(Base):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(8, 8)

        def training_step(self, batch, batch_idx):
            hidden = self.net(batch[0]).mean(1, keepdim=True).expand(-1, int(width))
            for _ in range(12):
                hidden = hidden.sin()
            return hidden.mean()

    batches = loader(torch.randn(4096, 8), batch_size=4096)
    watch = ErrorExplainer()
    with pytest.raises(torch.cuda.OutOfMemoryError):
        trainer(watch, max_epochs=1, accelerator="gpu", devices=1).fit(Huge(), batches)
    assert [item.code for item in watch.report.findings][:1] == ["LD108"]
    assert "will not fit" in watch.report.findings[0].message
    torch.cuda.empty_cache()
    watch = ErrorExplainer()
    trainer(watch, max_epochs=1, accelerator="gpu", devices=1).fit(Wide(), data())
    assert not watch.report.findings
