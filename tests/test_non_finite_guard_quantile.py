"""Clipping to a quantile of the run's own norms: the threshold, its schedule, its checkpoints, and its cost."""

import math

import pytest
import torch
from pytorch_lightning.plugins import MixedPrecision

from lightning_debug import NonFiniteGuard
from lightning_debug.callbacks.non_finite_guard import KEY
from lightning_debug.evidence.numbers import StepWindow
from lightning_debug.probes.norm_history import EVERY, SIZE, NormHistory
from tests.guarded import Program, adam, loader, mse, run, sgd
from tests.helpers import trainer
from tests.test_non_finite_guard import Counter
from tests.test_non_finite_guard_skip import Manual, net, of_gradient


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setenv("LIGHTNING_DEBUG_STRICT", "1")
    monkeypatch.setenv("LIGHTNING_DEBUG_CONSOLE", "0")


class Recorder(Program):
    """Keeps the norm of what its optimizer gets."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.used = []

    def on_before_optimizer_step(self, optimizer):
        self.used.append(float(torch.nn.utils.get_total_norm([p.grad for p in self.net.parameters()])))


def saved(one):
    return one._checkpoint_connector.dump_checkpoint().get(KEY)


def scaled(module, batch):
    """Gradients of very different norms: every seventh batch's is a hundred times as large."""
    module.count = getattr(module, "count", -1) + 1
    return mse(module, batch) * (100.0 if module.count % 7 == 3 else 1.0)


def test_the_threshold_is_a_quantile_of_the_norms_before_clipping():
    torch.manual_seed(3)
    program, guard = Recorder(scaled, sgd(0.001)), NonFiniteGuard(clip_quantile=0.75, clip_warm_up=10)
    _, raised = run(program, loader(batch_size=4), guard, max_epochs=4)
    assert raised is None
    windows = guard.session.record.of(StepWindow)
    norms = [norm for window in windows for norm in window.gradient_norms["gradient_norm"]]
    limit, clipped = math.inf, 0
    for index, (norm, used) in enumerate(zip(norms, program.used, strict=True)):
        assert used == pytest.approx(min(norm, limit), rel=1e-4)
        clipped += norm > limit
        seen = sorted(norms[: index + 1])
        if index + 1 == 10 or (index + 1 > 10 and (index + 1) % EVERY == 0):
            limit = seen[int(0.75 * (len(seen) - 1))]
    assert 0 < sum(window.clipped for window in windows) == clipped
    assert (windows[-1].clip_norm, windows[-1].clipped_by) == (pytest.approx(limit), "NonFiniteGuard(clip_quantile)")
    assert guard.report.findings == ()


def test_max_norm_caps_it_and_bad_norms_do_not_count():
    history = NormHistory(0.5, warm_up=2)
    for value in (torch.nan, torch.inf, 3.0):
        history.add(torch.tensor(value))
    assert not math.isfinite(float(torch.inf if history.limit is None else history.limit))
    for value in range(SIZE + EVERY):
        history.add(torch.tensor(float(value)))
    assert float(history.limit) == pytest.approx(SIZE / 2, abs=2 * EVERY)  # the oldest are forgotten
    program, guard = Recorder(scaled, sgd(0.001)), NonFiniteGuard(clip_quantile=0.75, clip_warm_up=5, max_norm=0.01)
    run(program, loader(batch_size=4), guard)
    assert max(program.used) <= 0.01 * 1.001


@pytest.mark.slow
def test_a_resumed_run_goes_on_from_its_norms(tmp_path):
    def fit(epochs, start=None, **options):
        torch.manual_seed(3)
        program, guard = Program(mse, adam), NonFiniteGuard(clip_quantile=0.5, clip_warm_up=5)
        torch.manual_seed(1)
        one = trainer(guard, max_epochs=epochs, **options)
        one.fit(program, loader(batch_size=4), ckpt_path=start)
        return program, guard, one

    whole, _, _ = fit(2)
    _, _, half = fit(1)
    half.save_checkpoint(tmp_path / "half.ckpt")
    assert saved(half)["norms"][0]["count"] == 16
    resumed, _, _ = fit(2, tmp_path / "half.ckpt")
    assert all(map(torch.equal, whole.net.state_dict().values(), resumed.net.state_dict().values()))


@pytest.mark.slow
def test_several_optimizers_and_a_scaler_each_have_their_own():
    guard = NonFiniteGuard("skip", clip_quantile=0.9, clip_warm_up=3)
    program = Manual(of_gradient, net=net())
    _, raised = run(program, loader(batch_size=4), guard)
    assert raised is None
    assert {index: held["count"] for index, held in saved(program.trainer)["norms"].items()} == {0: 16, 1: 16}
    plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**40))
    guard = NonFiniteGuard(clip_quantile=0.5, clip_warm_up=3)
    program = Program()
    _, raised = run(program, loader(batch_size=4), guard, plugins=[plugin], max_epochs=4)
    assert raised is None
    known = saved(program.trainer)["norms"][0]
    assert sum(map(math.isinf, known["norms"])) > 0  # where the scale was too high
    assert 0 < known["limit"] < 100


def test_it_costs_no_read_on_the_host():
    def calls(guard):
        torch.manual_seed(1)
        with Counter() as counter:
            trainer(guard, max_epochs=2).fit(Program(), loader(batch_size=4))
        return counter.calls

    plain, learned = calls(NonFiniteGuard(max_norm=1.0)), calls(NonFiniteGuard(clip_quantile=0.9, clip_warm_up=4))
    for name in ("_local_scalar_dense", "is_nonzero", "item"):
        assert learned[name] <= plain[name] + 1  # when all is done, for a checkpoint
    assert learned["_foreach_norm"] == plain["_foreach_norm"]
