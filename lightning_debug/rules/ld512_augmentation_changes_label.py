"""Augmented samples look like another class.

What it sees: training samples of a dataset that has a transform, or gives others when it is asked again, are compared
    with validation samples, which are not augmented. Of those that lie as near to one as these do to each other (at
    least ``samples``), more than ``wrong`` have a nearest neighbour with another label, and ``times`` as many as among
    validation samples themselves. So are training samples that the step, or a hook before it, was seen to flip, turn,
    reverse in time or negate on their way from the loader to the net, where it leaves their labels as they are. Or it
    mixes samples of a batch (mixup, CutMix) and compares them with the label of one alone. Or a map beside the picture
    (the mask of a segmentation) stays as it is in at least ``pairs`` draws of one sample that differ by a flip or a
    turn of the picture, and never follows it, or is turned in another way than the picture in some of them.
Why it hurts: a flipped b is a d, an inverted ECG is another finding: the net is shown the picture of one class under
    the name of another, and cannot tell the two any more.
How to fix: leave out the transform that carries one class into the other (flips of letters, digits, arrows and
    signals; strong crops; inversion), or have it change the label as well: flip picture and mask by one draw.
When to ignore: when labels are that noisy, and when samples are mixed without their labels on purpose. Silent on
    augmentations that keep neighbours, on those that carry samples far from any real one, and where validation lacks
    common labels of training or gives samples of another make: it asks for something else.
Broken:
    class ArrowNet(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2))

        def training_step(self, batch, batch_idx):
            loss = F.cross_entropy(self.net(batch[0]), batch[1])
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", F.cross_entropy(self.net(batch[0]), batch[1]))

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    class Arrows(Dataset):
        def __init__(self, images, labels, transform=None):
            self.images, self.labels, self.transform = images, labels, transform

        def __len__(self):
            return len(self.images)

        def __getitem__(self, index):
            image = self.images[index]
            return (self.transform(image) if self.transform else image), self.labels[index]

    def flip(image):
        return image.flip(-1) if torch.rand(()) < 0.5 else image

    labels = torch.randint(0, 2, (700,))
    arrow = torch.zeros(1, 8, 8)
    arrow[0, :, 5:] = 2.0
    images = torch.where(labels[:, None, None, None] == 1, arrow, arrow.flip(-1))
    images = images - 0.75 + 0.3 * torch.randn(700, 1, 8, 8)
    loader = DataLoader(Arrows(images[:500], labels[:500], flip), batch_size=32, shuffle=True)
    val_loader = DataLoader(Arrows(images[500:], labels[500:]), batch_size=50)
    trainer = Trainer(max_epochs=3)
    trainer.fit(ArrowNet(), loader, val_loader)
Repaired:
    class ArrowNet(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2))

        def training_step(self, batch, batch_idx):
            loss = F.cross_entropy(self.net(batch[0]), batch[1])
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", F.cross_entropy(self.net(batch[0]), batch[1]))

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    class Arrows(Dataset):
        def __init__(self, images, labels, transform=None):
            self.images, self.labels, self.transform = images, labels, transform

        def __len__(self):
            return len(self.images)

        def __getitem__(self, index):
            image = self.images[index]
            return (self.transform(image) if self.transform else image), self.labels[index]

    def flip(image):
        return image.flip(-2) if torch.rand(()) < 0.5 else image

    labels = torch.randint(0, 2, (700,))
    arrow = torch.zeros(1, 8, 8)
    arrow[0, :, 5:] = 2.0
    images = torch.where(labels[:, None, None, None] == 1, arrow, arrow.flip(-1))
    images = images - 0.75 + 0.3 * torch.randn(700, 1, 8, 8)
    loader = DataLoader(Arrows(images[:500], labels[:500], flip), batch_size=32, shuffle=True)
    val_loader = DataLoader(Arrows(images[500:], labels[500:]), batch_size=50)
    trainer = Trainer(max_epochs=3)
    trainer.fit(ArrowNet(), loader, val_loader)

Example:
    >>> from lightning_debug.evidence.data_augmentation import AugmentedNeighbours
    >>> from lightning_debug.record import Record
    >>> found = AugmentedNeighbours(samples=300, wrong=0.5, raw_samples=200, raw_wrong=0.0,
    ...                            pair=("0", "1"), pair_share=1.0, transform="RandomFlip")
    >>> [claim.measured["wrong"] for claim in augmentation_changes_label(Record([found]))]
    [0.5]
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lightning_debug.evidence.data_augmentation import (
    AugmentationDraws,
    AugmentedMaps,
    AugmentedNeighbours,
    MixedSamples,
)
from lightning_debug.finding import WARNING, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule


@rule("LD512", severity=WARNING, needs=AugmentedNeighbours, explains=("LD702", "LD705", "LD712"))
def augmentation_changes_label(
    record: Record, *, samples: int = 40, wrong: float = 0.15, times: float = 3.0, pairs: int = 4
) -> Iterator[Claim | Skip]:
    """Claims one finding if augmented samples land among another class, or pictures are turned without their maps."""
    maps = record.last(AugmentedMaps)
    if maps is not None and maps.samples >= 2:
        if maps.kept == maps.turned >= pairs:
            yield _kept(maps)
            return
        if maps.astray >= 2 and maps.astray + maps.kept >= pairs:
            yield _astray(maps)
            return
    met = _met(record, samples, wrong, times)
    if met is not None:
        yield met
        return
    own = _neighbours(record, turned=False)
    if not own:
        return
    found = own[-1]
    draws = record.last(AugmentationDraws)
    if not found.transform and (draws is None or not draws.redrawn):
        yield Skip("the dataset has no transform, and gives its samples alike when it is asked again")
        return
    if found.samples < samples or found.raw_samples < 2 * samples:
        yield Skip("too few augmented samples lie near samples that are not augmented")
        return
    if message := _astray_among(found, samples, wrong, times):
        yield Claim(
            message=message,
            subject=found.transform or f"{draws.dataset if draws else ''}.__getitem__",
            measured=_measured(found),
            fix="Leave out the transform that turns one class into the other, or have it change the label too.",
            at=found.at,
        )


def _neighbours(record: Record, *, turned: bool) -> list[AugmentedNeighbours]:
    """Those of samples turned on their way to the net, or of samples as their dataset makes them."""
    return [item for item in record.of(AugmentedNeighbours) if bool(item.turn) == turned]


def _astray_among(found: AugmentedNeighbours, samples: int, wrong: float, times: float) -> str:
    """How many land among another class, if those are too many; of all labels, or of the two most often confused."""
    if found.samples < samples or found.raw_samples < 2 * samples:
        return ""
    pair = f"labels {found.pair[0]} and {found.pair[1]}"
    if _is_more(found.wrong, found.raw_wrong, found.raw_samples, wrong, times):
        return (
            f"{found.wrong:.0%} of {found.samples} augmented samples are nearest to a sample of another label, "
            f"where {found.raw_wrong:.0%} of samples that are not augmented are (most often {pair})."
        )
    if min(found.pair_samples, found.raw_pair_samples) >= samples and _is_more(
        found.pair_wrong, found.raw_pair_wrong, found.raw_pair_samples, wrong, times
    ):
        return (
            f"Among {pair}, {found.pair_wrong:.0%} of {found.pair_samples} augmented samples are nearest to a sample "
            f"of the other one, where {found.raw_pair_wrong:.0%} of samples that are not augmented are."
        )
    return ""


def _measured(found: AugmentedNeighbours) -> dict[str, Any]:
    return {
        "wrong": found.wrong,
        "samples": found.samples,
        "wrong without augmentation": found.raw_wrong,
        "samples without augmentation": found.raw_samples,
        "pair": list(found.pair),
        "wrong in that pair": found.pair_wrong,
        "share of that pair": found.pair_share,
    }


def _met(record: Record, samples: int, wrong: float, times: float) -> Claim | None:
    """What becomes of samples on their way from the loader to the net."""
    mixed = record.last(MixedSamples)
    if mixed is not None:
        return _mixed(mixed)
    for turned in _neighbours(record, turned=True):
        if message := _astray_among(turned, samples, wrong, times):
            return _turned(turned, message)
    return None


def _mixed(found: MixedSamples) -> Claim:
    return Claim(
        message=f"{found.mixed} of {found.samples} training samples meet the net mixed with another one of their batch "
        f"(to {found.share:.0%} on average), and validation samples do not; but every loss compares them with their "
        "own label alone.",
        subject="training_step",
        measured={"mixed": found.mixed, "samples": found.samples, "share of the other": found.share},
        fix="Mix the loss as well: `lam * loss(scores, y) + (1 - lam) * loss(scores, y[order])`, with the same order.",
        at=found.at,
    )


def _turned(found: AugmentedNeighbours, message: str) -> Claim:
    return Claim(
        message=f"On their way from the loader to the net training samples are {found.turn}, and validation samples "
        f"are not. {message}",
        subject="training_step",
        measured={**_measured(found), "turn": found.turn},
        fix=f"In the training step, or in the hook before it, leave out what makes samples {found.turn}, or have it "
        "change the label too.",
        at=found.at,
    )


def _kept(maps: AugmentedMaps) -> Claim:
    return Claim(
        message=f"In {maps.kept} of {maps.turned} pairs of draws of one sample, {maps.image} is {maps.turn} or the "
        f"like, while {maps.target} beside it is as it was: it does not belong to that picture any more.",
        subject=f"{maps.dataset}.__getitem__",
        measured={
            "pairs": maps.turned,
            "kept": maps.kept,
            "samples": maps.samples,
            "image": maps.image,
            "target": maps.target,
            "turn": maps.turn,
        },
        fix=f"Flip and turn {maps.target} with {maps.image}, by the same random draw.",
        at=maps.at,
    )


def _is_more(share: float, raw: float, samples: int, least: float, times: float) -> bool:
    error = 3 * (raw * (1 - raw) / samples) ** 0.5
    return share > least + raw and share > times * (raw + error)


def _astray(maps: AugmentedMaps) -> Claim:
    return Claim(
        message=f"In {maps.kept + maps.astray} of {maps.turned} pairs of draws of one sample, {maps.target} does not "
        f"follow {maps.image}: {maps.image} is {maps.turn} or the like, and {maps.target} is turned in another way "
        f"({maps.astray}) or as it was ({maps.kept}). Each is transformed by a random draw of its own.",
        subject=f"{maps.dataset}.__getitem__",
        measured={
            "pairs": maps.turned,
            "kept": maps.kept,
            "astray": maps.astray,
            "samples": maps.samples,
            "image": maps.image,
            "target": maps.target,
            "turn": maps.turn,
        },
        fix=f"Transform {maps.image} and {maps.target} by one random draw that both share.",
        at=maps.at,
    )
