"""LD523 in sequences of tokens: the target is their last one."""

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from lightning_debug.callbacks.data_auditor import DataAuditor
from tests.helpers import trainer


class Next(pl.LightningModule):
    """Predicts the token that follows."""

    def __init__(self):
        super().__init__()
        self.embedding, self.rnn, self.head = nn.Embedding(24, 8), nn.GRU(8, 8, batch_first=True), nn.Linear(8, 24)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.head(self.rnn(self.embedding(batch["sequence"]))[0][:, -1]), batch["target"])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-3)


def rows(given, target):
    """Histories of which ``given`` tokens are inputs."""
    torch.manual_seed(0)
    steps = torch.randint(0, 3, (160, 9)).cumsum(1) + torch.randint(0, 8, (160, 1))
    return [{"sequence": row[:given], "target": row[target]} for row in steps % 24]


@pytest.mark.parametrize(
    ("given", "target", "said"),
    [(9, 8, True), (8, 8, False), (9, 0, False)],
    ids=["its last token", "the one after it", "its first, to be recalled"],
)
def test_the_last_token_is_the_target(given, target, said):
    auditor = DataAuditor()
    trainer(auditor, max_epochs=1).fit(Next(), DataLoader(rows(given, target), 16, shuffle=True))
    found = [item for item in auditor.report.findings if item.code == "LD523"]
    assert bool(found) is said
    assert not said or "last token" in found[0].message
