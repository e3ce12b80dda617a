"""Draws that repeat, orders that repeat, and augmentation that changes the label."""

import numpy
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, TensorDataset

from lightning_debug.evidence.data import FieldValues
from lightning_debug.evidence.data_relations import SampleCopies
from lightning_debug.finding import Claim
from lightning_debug.record import Record
from lightning_debug.registry import get
from tests.data_programs import KINDS, codes, loader, make

kinds = pytest.mark.parametrize("kind", ["image", "tabular", "series"])


class Augmented(Dataset):
    """Adds noise that a method of a subclass draws."""

    def __init__(self, kind):
        self.inputs, self.labels = make(kind, 200)

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        return self.inputs[index] + 0.1 * self.noise(self.inputs[index].shape), self.labels[index]

    def noise(self, shape):
        return torch.randn(shape)


class OfNumpy(Augmented):
    def noise(self, shape):
        return torch.from_numpy(numpy.random.normal(size=shape).astype("float32"))


class OwnGenerator(Augmented):
    def __init__(self, kind):
        super().__init__(kind)
        self.rng = numpy.random.default_rng(0)

    def noise(self, shape):
        return torch.from_numpy(self.rng.normal(size=shape).astype("float32"))


class Seeds(OfNumpy):
    def noise(self, shape):
        numpy.random.seed(3)
        return super().noise(shape)


class OfIndex(Augmented):
    """The same noise for the same sample, by design."""

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return self.inputs[index] + 0.1 * torch.randn(self.inputs[index].shape, generator=generator), self.labels[index]


class Stated(DataLoader):
    """Says that it has two workers, and reads without them."""

    def __iter__(self):
        return iter(DataLoader(self.dataset, batch_size=20, shuffle=True))


def stated(dataset, **options):
    return Stated(dataset, batch_size=20, shuffle=True, num_workers=2, **options)


@kinds
@pytest.mark.parametrize("dataset", [Augmented, OfNumpy, OfIndex])
def test_healthy_augmentation_is_quiet(dataset, kind):
    assert not codes(loader(dataset(kind)), epochs=2)
    assert not codes(stated(dataset(kind)))


@kinds
def test_a_generator_that_is_copied_into_workers(kind):
    assert not codes(loader(OwnGenerator(kind)))  # one process: it draws on and on
    assert codes(stated(OwnGenerator(kind))) == ["LD513"]
    assert not codes(stated(OwnGenerator(kind), worker_init_fn=print))


@kinds
def test_a_seed_in_each_draw(kind):
    assert codes(loader(Seeds(kind))) == ["LD513"]


def test_what_is_drawn_beside_the_inputs_counts():
    """Users and items are the same in each epoch; the item that the user never met is drawn anew."""

    class Pairs(Dataset):
        def __init__(self, beside):
            self.beside = beside

        def __len__(self):
            return 200

        def __getitem__(self, index):
            return index % 20, index % 31, self.beside()

    for beside in (lambda: int(torch.randint(90, ())), lambda: torch.rand(3, 3) < 0.5, lambda: torch.rand(())):
        assert not codes(loader(Pairs(beside)), epochs=3)


def test_drawing_leaves_no_trace():
    given, left = loader(OfNumpy("tabular")), []
    for look in (codes, list):
        torch.manual_seed(0)
        numpy.random.seed(0)
        look(given)
        left.append((torch.rand(3).tolist(), numpy.random.rand()))
    assert left[0] == left[1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seeded", [False, True])
def test_the_same_order_in_each_epoch(kind, seeded):
    class Seeded(DataLoader):
        def __iter__(self):
            if seeded:
                torch.manual_seed(0)
            return super().__iter__()

    inputs, labels = make(kind, 200)
    given = Seeded(torch.utils.data.TensorDataset(inputs, labels), batch_size=20, shuffle=True)
    assert codes(given, epochs=3) == ["LD517"] * seeded


def test_a_fixed_order_on_purpose_is_quiet():
    assert not codes(loader(*make("tabular", 200), shuffle=False), epochs=3)
    assert not codes(loader(*make("tabular", 200), generator=torch.Generator().manual_seed(0)), epochs=3)


def test_samples_that_are_all_alike_have_no_order():
    inputs, labels = torch.zeros(200, 8), torch.arange(200) % 2
    assert "LD517" not in codes(loader(inputs, labels, shuffle=True), epochs=3)


@pytest.mark.parametrize("far", [torch.full((200,), 4.2), (torch.arange(200) % 50 == 0) * 0.3 + 4.2])
def test_amounts_that_are_nearly_all_alike_have_no_order(far):
    rows = [{"ray": torch.randn(6), "far": one} for one in far]
    assert "LD517" not in codes(DataLoader(rows, batch_size=20, shuffle=True), epochs=3)


@pytest.mark.parametrize(("role", "copies", "said"), [("tokens", 30, 0), ("tokens", 200, 1), ("input", 30, 1)])
def test_lines_of_a_text_recur(role, copies, said):
    copied = SampleCopies(samples=1000, copies=copies, exact=copies, expected=0.01, compared=32)
    record = Record([FieldValues(stage="train", field="batch[0]", role=role), copied])
    assert len(list(get("LD507").function(record))) == said


@pytest.mark.parametrize(("copies", "conflicting", "said"), [(750, 900, 0), (700, 900, 1), (750, 100, 1)])
def test_several_actions_are_tried_in_each_context(copies, conflicting, said):
    copied = SampleCopies(
        samples=1000, copies=copies, largest=4, exact=copies, expected=0.01, compared=32, labelled=True,
        conflicting=conflicting, fewest_conflicting=conflicting // 2,
    )  # fmt: skip
    assert len([item for item in get("LD520").function(Record([copied])) if isinstance(item, Claim)]) == said
    assert len([item for item in get("LD507").function(Record([copied])) if isinstance(item, Claim)]) == said


class Flipped(Dataset):
    """A step up or down, in space or time; turned round along one dimension now and then."""

    def __init__(self, shape, dim, low, high):
        labels = torch.randint(0, 2, (600,), generator=torch.Generator().manual_seed(1))
        ramp = torch.linspace(-1, 1, shape[-1]).expand(shape)
        noise = 0.3 * torch.randn(600, *shape, generator=torch.Generator().manual_seed(2))
        signs = (2.0 * labels - 1).reshape(-1, *[1] * len(shape))
        self.inputs, self.labels = (signs * ramp + noise)[low:high], labels[low:high]
        self.transform = None if dim is None else self.flip
        self.dim = dim

    def flip(self, sample):
        return sample.flip(self.dim) if torch.rand(()) < 0.5 else sample

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        sample = self.inputs[index]
        return (self.transform(sample) if self.transform else sample), self.labels[index]


@pytest.mark.parametrize(("shape", "wrong", "right"), [((1, 8, 8), -1, -2), ((2, 16), -1, -2), ((12,), -1, None)])
def test_a_flip_that_changes_the_label(shape, wrong, right):
    validation = loader(Flipped(shape, None, 400, 600), shuffle=False)
    assert codes(loader(Flipped(shape, wrong, 0, 400)), validation) == ["LD512"]
    assert not codes(loader(Flipped(shape, right, 0, 400)), validation)


class Dealt(Dataset):
    """Makes its batches itself, of other rows in each epoch."""

    def __init__(self):
        self.inputs, self.labels = make("tabular", 200)
        self.order = torch.arange(200)

    def __len__(self):
        return 10

    def __getitem__(self, index):
        if index == 0:
            self.order = torch.randperm(200)
        rows = self.order[20 * index : 20 * index + 20]
        return self.inputs[rows], self.labels[rows]


def test_a_dataset_that_deals_its_rows_anew_does_not_augment():
    assert not codes(DataLoader(Dealt(), batch_size=None), epochs=3)


class Replay(Dataset):
    """A memory from which an epoch is drawn, whatever the index."""

    def __init__(self, kind):
        self.inputs, self.labels = make(kind, 100)

    def __len__(self):
        return 256

    def __getitem__(self, index):
        drawn = numpy.random.randint(len(self.inputs))
        return self.inputs[drawn], self.labels[drawn]


def test_a_dataset_that_draws_its_samples_itself_holds_no_copies():
    assert "LD507" not in codes(DataLoader(Replay("tabular"), 32))


class Read(Dataset):
    """Reads its samples one by one, as from files, so that nobody else knows which one it gave."""

    def __init__(self, inputs, labels):
        self.inputs, self.labels = inputs, labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {"image": self.inputs[index] * 2, "label": int(self.labels[index])}


class SomeOfSomeClasses(Sampler):
    """Five samples of each of four classes, again and again: some come twice in an epoch, as metric learning wants."""

    def __init__(self, labels):
        self.places = [torch.where(labels == label)[0].tolist() for label in range(4)]

    def __len__(self):
        return 400

    def __iter__(self):
        for _ in range(20):
            for place in self.places:
                yield from numpy.random.choice(place, 5, replace=False).tolist()


def test_a_sampler_of_ones_own_may_draw_a_sample_twice():
    inputs, labels = make("tabular")
    again = torch.cat([torch.arange(600), torch.arange(100)])
    assert not codes(DataLoader(Read(inputs, labels), 20, sampler=SomeOfSomeClasses(labels)))
    assert "LD507" in codes(DataLoader(Read(inputs[again], labels[again]), 20, shuffle=True))
    held = DataLoader(TensorDataset(inputs[again], labels[again]), 20, sampler=SomeOfSomeClasses(labels[again]))
    assert "LD507" in codes(held)


class PointsOfShapes(Dataset):
    """Points with their distances from shapes that four numbers describe; another seed draws other points."""

    def __init__(self, seed):
        self.shapes = torch.rand(200, 4, generator=torch.Generator().manual_seed(0))
        self.seed = seed

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, index):
        points = 2 * torch.rand(32, 2, generator=torch.Generator().manual_seed(1000 * self.seed + index)) - 1
        x, y, wide, high = self.shapes[index]
        distances = torch.maximum((points[:, 0] - x).abs() - wide, (points[:, 1] - y).abs() - high)
        return torch.cat([points, distances[:, None]], 1), index


def test_other_points_of_the_same_shapes_are_no_leak():
    assert "LD510" not in codes(DataLoader(PointsOfShapes(0), 20, shuffle=True), DataLoader(PointsOfShapes(1), 20))
    assert "LD510" in codes(DataLoader(PointsOfShapes(0), 20, shuffle=True), DataLoader(PointsOfShapes(0), 20))
