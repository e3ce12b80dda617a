"""Datasets of the user's: pictures that are flipped with their maps or without, and columns of pandas."""

import numpy
import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from lightning_debug import DataAuditor
from lightning_debug.probes.relation_raw import raw_samples
from tests.data_programs import found
from tests.helpers import trainer


def turned(item):
    """Flipped along each dimension or not, by a draw of its own."""
    for dim in (-1, -2):
        item = item.flip(dim) if torch.rand(()) < 0.5 else item
    return item


class Slides(Dataset):
    """Pictures of spots with the mask of each, flipped at random: both, or one of them."""

    def __init__(self, flips="both", count=120):
        generator = torch.Generator().manual_seed(0)
        noise = torch.nn.functional.avg_pool2d(torch.randn(count, 1, 20, 20, generator=generator), 5, 1)
        self.masks = (noise > 0.1).float()
        self.pictures = self.masks + 0.3 * torch.randn(count, 1, 16, 16, generator=generator)
        self.flips, self.weights = flips, torch.rand(16, generator=generator)

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, index):
        picture, mask = self.pictures[index], self.masks[index]
        if self.flips == "views":  # of two views each is flipped by itself
            flipped = [item.flip(-1) if torch.rand(()) < 0.5 else item for item in (picture, picture + 0.1)]
            return {"one": flipped[0], "two": flipped[1]}
        if self.flips == "apart":  # as one transform does that is called for each
            return {"image": turned(picture), "mask": turned(mask)}
        if self.flips == "symmetric":  # turned upside down the mask is as it was
            mask = mask.maximum(mask.flip(-2))
        if self.flips in ("together", "symmetric"):
            return dict(zip(("image", "mask"), turned(torch.cat([picture, mask])).split(1), strict=True))
        if self.flips == "anchor":
            return {"one": picture.flip(-1) if torch.rand(()) < 0.5 else picture, "two": picture}
        if torch.rand(()) < 0.5 and self.flips != "never":
            picture = picture.flip(-1)
            mask = mask.flip(-1) if self.flips == "both" else mask
        if self.flips == "heat":
            return picture, torch.cat([self.masks[index], 0.5 + self.masks[index] * self.weights])
        if self.flips == "lens":
            return {"image": picture, "mask": self.masks[0], "label": index % 2}
        return {"image": picture + 0.1 * torch.rand(()), "mask": mask}


@pytest.mark.parametrize(
    ("flips", "subjects"),
    [
        ("picture", ["Slides.__getitem__"]),
        ("heat", ["Slides.__getitem__"]),
        ("apart", ["Slides.__getitem__"]),
        *((kind, []) for kind in ("both", "together", "symmetric", "views", "anchor", "lens", "never")),
    ],
)
def test_maps_are_flipped_with_their_pictures(flips, subjects):
    training = DataLoader(Slides(flips), batch_size=16, shuffle=True)
    said = found(training, DataLoader(Slides("never"), batch_size=16)).findings
    assert [item.subject for item in said if item.code == "LD512"] == subjects


class TwoLoaders(pl.LightningModule):
    """Pictures with masks beside pictures without."""

    def __init__(self):
        super().__init__()
        self.net = torch.nn.Conv2d(1, 1, 3, padding=1)

    def training_step(self, batch, batch_idx):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            self.net(batch["labeled"]["image"]), batch["labeled"]["mask"]
        )
        return loss + 0.01 * self.net(batch["unlabeled"]["one"]).square().mean()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


@pytest.mark.parametrize(("flips", "codes"), [("picture", ["LD512"]), ("both", [])])
def test_one_of_two_loaders_flips_pictures_alone(flips, codes):
    auditor = DataAuditor()
    loaders = {"labeled": DataLoader(Slides(flips), 16, shuffle=True), "unlabeled": DataLoader(Slides("views"), 16)}
    trainer(auditor, max_epochs=1).fit(TwoLoaders(), loaders)
    assert [item.code for item in auditor.report.findings if item.code.startswith("LD51")] == codes


class Frame(Dataset):
    """Columns as pandas gives them: what they lie in may not be written."""

    def __init__(self):
        self.inputs, self.labels = numpy.random.default_rng(0).normal(size=(40, 3)), numpy.arange(40) % 2
        for column in (self.inputs, self.labels):
            column.flags.writeable = False

    def __len__(self):
        return 40

    def __getitem__(self, index):
        return self.inputs[index], self.labels[index]


def test_columns_that_may_not_be_written_are_read_without_a_warning():
    known = raw_samples(Frame())
    assert known is not None
    assert known.labels.tolist() == [0, 1] * 20
