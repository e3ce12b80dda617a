"""F1, Dice, IoU, precision and recall of logits that are compared with 0.5, in the ways people average them."""

import pytest
import torch
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import BinaryF1Score, BinaryJaccardIndex

from lightning_debug import MetricAuditor
from lightning_debug.probes.metric_overlap import OVERLAP, overlap
from lightning_debug.probes.metric_values import Answers
from tests.helpers import pl, trainer


def masks(count):
    """Blobs in noise, some pictures without any."""
    generator = torch.Generator().manual_seed(count)
    wanted = (F.avg_pool2d(torch.rand(count, 1, 18, 18, generator=generator), 5, 1, 0) > 0.52).float()
    wanted = F.pad(wanted, (1, 1, 1, 1))
    wanted[::7] = 0
    return TensorDataset(wanted + 0.7 * torch.randn(wanted.shape, generator=generator), wanted)


def iou(hard, mask):
    both = (hard & mask.bool()).sum()
    return both / ((hard | mask.bool()).sum() + 1e-7)


def dice_of_samples(hard, mask):
    both = (hard & mask.bool()).flatten(1).sum(1)
    return ((2 * both + 1) / (hard.flatten(1).sum(1) + mask.flatten(1).sum(1) + 1)).mean()


def recall(hard, mask):
    return (hard & mask.bool()).sum() / mask.sum()


def soft(hard, mask):
    """No count of anything."""
    return 2 * (hard * mask * 0.9).sum() / (hard.sum() + mask.sum())


class Segmenter(pl.LightningModule):
    def __init__(self, name, value, cut):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1))
        self.name, self.value, self.cut = name, value, cut

    def training_step(self, batch, batch_idx):
        return F.binary_cross_entropy_with_logits(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        logits = self.net(batch[0])
        self.log("val_loss", F.binary_cross_entropy_with_logits(logits, batch[1]))
        self.log(self.name, self.value(self.cut(logits), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-2)


def found(model):
    auditor = MetricAuditor()
    loaders = DataLoader(masks(128), 16, shuffle=True), DataLoader(masks(96), 32)
    trainer(auditor, max_epochs=3).fit(model, *loaders)
    return [(item.code, item.subject) for item in auditor.report.findings]


WRONG = {"compared": lambda logits: logits > 0.5, "elsewhere": lambda logits: torch.tensor(logits.numpy() > 0.5)}
RIGHT = {
    "probabilities": lambda logits: logits.sigmoid() > 0.5,
    "logits": lambda logits: logits > 0,
    "a chosen threshold": lambda logits: logits.sigmoid() > 0.35,
    "rounded": lambda logits: logits.sigmoid().round().bool(),
}


@pytest.mark.parametrize(("name", "value"), [("val_iou", iou), ("val/dice", dice_of_samples), ("recall_val", recall)])
def test_logits_compared_with_a_half(name, value):
    assert found(Segmenter(name, value, WRONG["compared"])) == [("LD804", name)]


def test_logits_compared_with_a_half_where_no_call_of_torch_is_seen():
    assert found(Segmenter("val_iou", iou, WRONG["elsewhere"])) == [("LD804", "val_iou")]


@pytest.mark.parametrize("cut", RIGHT)
def test_quiet_on_thresholds_of_probabilities(cut):
    assert not found(Segmenter("val_iou", iou, RIGHT[cut]))


@pytest.mark.parametrize(("name", "value"), [("val_dice", soft), ("val_dice_loss", lambda *a: 1 - dice_of_samples(*a))])
def test_quiet_on_what_is_no_count(name, value):
    assert not found(Segmenter(name, value, WRONG["compared"]))


class WithObjects(Segmenter):
    """Given logits, torchmetrics takes the sigmoid itself; given what was cut, it does not."""

    def __init__(self, metric, given):
        super().__init__("", None, None)
        self.metric, self.given = metric, given

    def validation_step(self, batch, batch_idx):
        logits = self.net(batch[0])
        self.log("val_loss", F.binary_cross_entropy_with_logits(logits, batch[1]))
        self.metric.update(self.given(logits), batch[1].long())
        self.log("val_f1", self.metric)


@pytest.mark.parametrize("metric", [BinaryF1Score, BinaryJaccardIndex])
def test_objects_of_torchmetrics(metric):
    assert found(WithObjects(metric(), WRONG["compared"])) == (
        [("LD804", "val_f1")] if metric is BinaryF1Score else []  # not what its name says
    )
    assert not found(WithObjects(metric(), lambda logits: logits))


def test_values_are_those_of_other_people():
    torch.manual_seed(0)
    scores, target = torch.randn(60, 5), torch.randint(2, (60, 5)).float()
    target[:9] = 0
    seen = Answers("binary_cross_entropy_with_logits", scores, target)
    for name, function in {
        "f1": f1_score, "val_jaccard": jaccard_score, "precision/val": precision_score, "sensitivity": recall_score
    }.items():  # fmt: skip
        right, wrong = overlap(seen, name)
        for mode, form in {"micro": "all", "samples": "samples", "macro": "labels"}.items():
            for threshold, value in ((0, right[form]), (0.5, wrong[f"overlap at a half | {form}"])):
                hard = (scores > threshold).numpy()
                assert value == pytest.approx(function(target.numpy(), hard, average=mode, zero_division=0))
    assert overlap(Answers("binary_cross_entropy", scores.sigmoid(), target), "f1")[1] == {}
    assert overlap(Answers("cross_entropy", scores, target[:, 0]), "f1") == ({}, {})
    assert overlap(Answers("binary_cross_entropy_with_logits", scores, torch.rand(60, 5)), "f1") == ({}, {})


@pytest.mark.parametrize(
    ("name", "judged"),
    [("val_f1", True), ("valF1Score", True), ("BinaryJaccardIndex", True), ("mean_iou", True), ("val_dice_score", True),
     ("Precision", True), ("precisely", False), ("miou", False), ("prediction", False), ("f10", False)],
)  # fmt: skip
def test_names(name, judged):
    assert bool(OVERLAP.search(name)) is judged
