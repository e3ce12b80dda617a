"""OptimizerInspector leaves the run as it is, and nothing installed between the batches it looks at."""

import pickle

import pytest
import pytorch_lightning as pl
import torch
from torch.optim import optimizer as global_optimizer

from lightning_debug.callbacks.optimizer_inspector import OptimizerInspector
from lightning_debug.evidence.optimization import GradientCarryover, UpdateAudit
from lightning_debug.probes.update_watch import UpdateWatch
from tests.helpers import trainer
from tests.optimizer_programs import ByHand, Classifier, inspected, loader


class Dropped(Classifier):
    def __init__(self):
        super().__init__()
        self.body.append(torch.nn.Dropout(0.2))

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), 1e-2)
        steps = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=30)
        return [optimizer], [{"scheduler": steps, "interval": "step"}]


def outcome(model, *callbacks, **options):
    pl.seed_everything(3, verbose=False)
    model = model()
    run = trainer(*callbacks, max_epochs=3, **options)
    run.fit(model, loader())
    state = [item.clone() for item in model.state_dict().values()]
    inner = [
        value for item in run.optimizers for part in item.state_dict()["state"].values() for value in part.values()
    ]
    rates = [group["lr"] for item in run.optimizers for group in item.param_groups]
    return [*state, *inner, torch.tensor(rates), torch.get_rng_state()]


@pytest.mark.parametrize(
    ("model", "options"),
    [(Dropped, {}), (ByHand, {}), (Dropped, {"accumulate_grad_batches": 3, "gradient_clip_val": 0.1})],
)
def test_the_run_is_the_same_to_the_last_bit(model, options):
    with_us, without = outcome(model, OptimizerInspector(), **options), outcome(model, **options)
    assert len(with_us) == len(without)
    assert all(torch.equal(one, other) for one, other in zip(with_us, without, strict=True))


class Hooks(pl.Callback):
    """Counts the hooks that are in place while a batch is trained on."""

    def __init__(self):
        self.seen = []

    def on_before_zero_grad(self, trainer, pl_module, optimizer):
        held = sum(item._backward_hooks is not None for item in pl_module.parameters())  # empty ones cost as well
        self.seen.append(held + len(global_optimizer._global_optimizer_post_hooks))


def test_nothing_is_installed_on_other_batches():
    hooks = Hooks()
    inspected(Classifier(), max_epochs=1, callbacks=[hooks])
    assert all(hooks.seen[:3])
    assert not any(hooks.seen[3:10])


def test_nothing_is_left_behind_after_an_exception():
    class Fails(Classifier):
        def training_step(self, batch, batch_idx):
            raise RuntimeError("stop")

    model = Fails()
    with pytest.raises(RuntimeError, match="stop"):
        inspected(model)
    assert all(item._backward_hooks is None for item in model.parameters())
    assert not global_optimizer._global_optimizer_post_hooks


def test_it_can_be_pickled_after_a_fit():
    assert isinstance(pickle.loads(pickle.dumps(inspected(Classifier(), max_epochs=1))), OptimizerInspector)


def test_ratios_of_update_to_weight_are_those_of_the_real_change():
    class Noted(Classifier):
        def on_train_batch_start(self, batch, batch_idx):
            self.before = [item.detach().clone() for item in self.parameters()]

        def on_train_batch_end(self, outputs, batch, batch_idx):
            if batch_idx == 0:
                pairs = list(zip(self.parameters(), self.before, strict=True))
                self.update = sum((now.detach() - old).double().square().sum() for now, old in pairs).sqrt()
                self.norm = sum(old.double().square().sum() for _, old in pairs).sqrt()

    model = Noted()
    audit = inspected(model, max_epochs=1).session.record.first(UpdateAudit)
    assert audit.groups[0].update_norm == pytest.approx(float(model.update))
    assert audit.scalars() == {"update_to_weight/Adam.0": pytest.approx(float(model.update / model.norm))}


def test_gradients_of_other_losses_are_told_from_carried_ones():
    inspector = inspected(ByHand(), max_epochs=1)
    assert [item.carried for item in inspector.session.record.of(GradientCarryover)] == [0]


def test_what_happens_in_experiments_is_not_looked_at():
    layer = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    watch = UpdateWatch([], [optimizer], lambda: True)
    watch.start(0)
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    watch.stop()
    assert not watch.steps
