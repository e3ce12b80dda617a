"""LD408 on one of several optimizers that never steps."""

import pytest
import torch

from tests.optimizer_programs import ByHand, Classifier, inspected


class Two(ByHand):
    """An optimizer for the body and one for the head, each zeroed before the backward pass."""

    stepped = (0, 1)

    def configure_optimizers(self):
        return [torch.optim.Adam(self.body.parameters(), 1e-2), torch.optim.Adam(self.head.parameters(), 1e-2)]

    def training_step(self, batch, batch_idx):
        for place, optimizer in enumerate(self.optimizers()):
            self.toggle_optimizer(optimizer)
            optimizer.zero_grad()
            self.manual_backward(Classifier.training_step(self, batch, batch_idx))
            if place in self.stepped:
                optimizer.step()
            self.untoggle_optimizer(optimizer)


class HeadForgotten(Two):
    stepped = (0,)


class HeadLater(Two):
    """The head is trained from the second epoch on."""

    @property
    def stepped(self):
        return (0, 1) if self.current_epoch else (0,)


class HeadAtRateZero(HeadForgotten):
    def configure_optimizers(self):
        body, head = super().configure_optimizers()
        head.param_groups[0]["lr"] = 0.0
        return [body, head]


def test_an_optimizer_that_never_steps_is_named():
    report = inspected(HeadForgotten(), max_epochs=2).report
    [found] = [item for item in report.findings if item.code == "LD408"]
    assert "Adam number 1 (of 2" in found.message
    assert "`head`" in found.fix


@pytest.mark.parametrize("program", [Two, HeadLater, HeadAtRateZero])
def test_quiet(program):
    report = inspected(program(), max_epochs=2).report
    assert "LD408" not in [item.code for item in report.findings]
