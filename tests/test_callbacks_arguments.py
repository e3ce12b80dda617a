"""Arguments that are not accepted: an error before the run that holds the name, the value and what to give."""

import inspect
import math
import re

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from lightning_debug import DataAuditor, Debugger, EarlyStoppingSelector
from lightning_debug.debugger import PARTS
from lightning_debug.settings import Settings
from tests.helpers import trainer

WRONG = {
    "bool": ("maybe", 1, None),
    "int": ("x", -1, 1.5, True, []),
    "float": ("x", -1, math.nan, True, []),
}
WORDS = (-1, 1.5)
"""What no name, choice or path takes."""


@pytest.mark.parametrize("kind", [*PARTS, Debugger, EarlyStoppingSelector], ids=lambda kind: kind.__name__)
def test_a_wrong_argument_is_named_with_its_value_and_what_to_give(kind):
    for name, parameter in inspect.signature(kind).parameters.items():
        for value in WRONG.get(parameter.annotation.removesuffix(" | None"), WORDS):
            if value is None and kind is Debugger and name in Settings.__dataclass_fields__:
                continue  # left to the other sources
            with pytest.raises(ValueError, match=r"is not accepted; |must ") as caught:
                kind(**{name: value})
            assert f"{name}={value!r}" in str(caught.value)


class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(3, 1)

    def training_step(self, batch, batch_idx):
        return self.net(batch["image"]).square().mean()

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize(
    ("callback", "told"),
    [
        (DataAuditor(inputs=["image", "imgae"]), "inputs='imgae' is no field of the batch.*there are batch.*, image"),
        (EarlyStoppingSelector(monitor="val_acc"), "monitor='val_acc' is no logged value.*there are val_loss"),
        (EarlyStoppingSelector(loss="val_los"), "loss='val_los' is no logged value"),
    ],
)
def test_a_name_that_nothing_has_is_told_once(callback, told):
    data = DataLoader([{"image": torch.randn(3)} for _ in range(8)], 4)
    with pytest.warns(UserWarning, match="is passed over|has chosen no epoch") as seen:
        trainer(callback, max_epochs=2).fit(Model(), data, data)
    (message,) = [str(item.message) for item in seen if "is passed over" in str(item.message)]
    assert re.search(told, message)


@pytest.mark.parametrize("callback", [DataAuditor(inputs="batch['image']"), EarlyStoppingSelector(loss="val_loss")])
def test_a_name_that_is_there_is_not_warned_of(callback):
    data = DataLoader([{"image": torch.randn(3)} for _ in range(8)], 4)
    trainer(callback, max_epochs=2).fit(Model(), data, data)
    assert "LD001" not in [item.code for item in callback.report.findings], "a warning in a hook of ours would be that"
