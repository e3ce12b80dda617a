"""Labels of more than one number a sample: their order, and whether they belong to their inputs."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lightning_debug.callbacks._data_alignment import alignment_when_asked
from lightning_debug.callbacks._data_part import Source
from lightning_debug.probes.batch_roles import batch_roles, with_tensors
from lightning_debug.probes.relation_alignment import ENOUGH, label_alignment
from lightning_debug.probes.relation_knowledge import knowledge
from lightning_debug.probes.relation_several import several_of
from lightning_debug.probes.relation_stream import SampleStream
from tests.data_programs import SEVERAL, codes, found, loader, make

SOME = [pytest.param(kind, marks=[pytest.mark.slow] * (kind in ("tags", "vectors"))) for kind in SEVERAL]


class Pair(NamedTuple):
    image: torch.Tensor
    target: torch.Tensor


def by_label(kind, count=300):
    inputs, labels = make(kind, count)
    order = torch.tensor(sorted(range(count), key=lambda place: labels[place].flatten().tolist()))
    return inputs[order], labels[order]


@pytest.mark.parametrize("kind", SOME)
def test_healthy_orders_are_silent(kind):
    inputs, labels = make(kind, 300)
    assert codes(loader(inputs, labels), loader(*make(kind, 100, seed=1))) == []
    assert codes(loader(inputs, labels, shuffle=False)) == []  # lies shuffled on disk
    assert codes(loader(*by_label(kind), shuffle=True)) == []


@pytest.mark.parametrize("kind", SOME)
def test_sorted_labels_are_told(kind):
    assert codes(loader(*by_label(kind), shuffle=False)) == ["LD503"]


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind != "maps")) for kind in SEVERAL])
def test_moved_labels_are_told(kind):
    inputs, labels = make(kind, 400)
    report = found(loader(inputs, labels.roll(2, 0))).findings
    assert [(item.code, item.measured["shift"]) for item in report] == [("LD505", 2)]


def test_fields_of_any_structure_are_read():
    inputs, labels = make("multi-hot", 40)
    for batch in ({"x": inputs, "labels": labels}, Pair(inputs, labels), (inputs, labels.long()), (inputs, labels > 0)):
        name, kind, values = several_of(batch_roles(batch, labels=["labels", "target", "1"]), 40)
        assert kind == "hot"
        assert torch.equal(values.float(), labels), name


def test_rare_classes_and_groups_of_four_are_no_blocks():
    """A class of a few rows that lie together, and recordings of one person that follow each other."""
    inputs, labels = make("multi-hot", 400)
    labels[:, 5] = 0
    labels[100:112, 5] = 1
    assert codes(loader(inputs, labels, shuffle=False)) == []
    few = torch.arange(100).repeat_interleave(4)
    assert codes(loader(inputs[few] + 0.5 * torch.randn(400, 12), labels[few], shuffle=False)) == []


def test_forecasts_in_their_order_are_silent():
    """Targets are the next six values: a stretch that the next sample's inputs hold, on a trend."""
    series = torch.sin(torch.arange(500) / 7) + torch.arange(500) / 50
    inputs = torch.stack([series[at : at + 16] for at in range(470)])
    labels = torch.stack([series[at + 16 : at + 22] for at in range(470)])
    assert codes(loader(inputs, labels, shuffle=False)) == []


def test_the_next_basket_is_not_a_moved_label():
    baskets = torch.randint(0, 2, (401, 10), generator=torch.Generator().manual_seed(0)).float()
    assert codes(loader(baskets[:-1], baskets[1:])) == []


def test_labels_of_missing_values_or_changing_width_are_not_judged():
    inputs, labels = make("vectors", 200)
    labels[3, 1] = torch.nan
    assert codes(loader(inputs, labels.roll(1, 0))) == []
    stream = SampleStream()
    for width in (2, 3):
        stream.add(batch_roles({"x": torch.randn(8, 4), "y": torch.randn(8, width)}), 8)
    assert not stream.samples().several.kind


def test_one_hot_by_chance_in_the_first_batch():
    labels = torch.cat([torch.eye(4).repeat(5, 1), make("multi-hot", 380)[1][:, :4]])
    stream = SampleStream()
    known = batch_roles((torch.randn(20, 3), labels[:20]))
    assert known[1].kind == "one-hot"
    for part in labels.split(20):
        stream.add(with_tensors(known, (torch.randn(20, 3), part)), 20)
    samples = stream.samples()
    assert (samples.kind, samples.several.kind, len(samples.several.table)) == ("", "hot", 400)


class Late(Dataset):
    """Labels are off by one in ``__getitem__``, and inputs are changed there."""

    def __init__(self, kind):
        self.inputs, self.targets = make(kind, 300)

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        return self.inputs[index] / 2 + 0.01 * torch.rand(()), self.targets[index - 1]


@pytest.mark.parametrize("kind", ["multi-hot", pytest.param("image", marks=pytest.mark.slow)])
def test_samples_are_asked_for_where_those_that_came_tell_nothing(kind):
    dataset = Late(kind)
    assert codes(DataLoader(dataset, 20, shuffle=True)) == ["LD505"]
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert alignment_when_asked(Source("train", 0, DataLoader(dataset, 20))).shift == 1
    assert torch.equal(state, torch.get_rng_state())


def test_datasets_that_do_not_answer_are_let_be():
    class Strange(Late):
        def __getitem__(self, index):
            raise RuntimeError("by the loader only")

    assert alignment_when_asked(Source("train", 0, DataLoader(Strange("image"), 20))) is None
    assert alignment_when_asked(None) is None


def test_what_a_net_knows_of_several_labels():
    random = np.random.default_rng(0)
    labels = (random.random((300, 12)) < 0.2).astype(float)
    outputs = random.normal(size=(300, 12))
    assert knowledge([(outputs, labels)])[1] > 0.05
    outputs[:, 3] += labels[:, 3]  # one of twelve
    assert knowledge([(outputs[:150], labels[:150]), (outputs[150:], labels[150:])])[1] < 0.05
    assert knowledge([(outputs, np.zeros_like(labels))]) is None


def test_independent_labels_are_called_so():
    inputs, labels = make("tags", 600)
    stream = SampleStream()
    shuffled = labels[torch.randperm(600, generator=torch.Generator().manual_seed(0))]
    stream.add(batch_roles((inputs, shuffled)), 600)
    told = label_alignment(stream.samples())
    assert min(told.p_values.values()) > ENOUGH
    assert told.kind == "several"
    assert told.shifted_p > 1e-6
    assert codes(DataLoader(TensorDataset(inputs, shuffled), 20, shuffle=True)) == []  # a net has to be asked


class Named(Dataset):
    """Inputs, and a string for each."""

    def __init__(self, inputs, names):
        self.inputs, self.names = inputs, names

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        return self.inputs[index], self.names[index]


def test_strings_are_read_as_classes():
    inputs, labels = make("tabular", 400)
    names = [f"class {int(label)}" for label in labels]
    order = labels.argsort().tolist()
    held_out = DataLoader(Named(make("tabular", 100, seed=1)[0], ["val"] * 100), batch_size=25)
    assert codes(DataLoader(Named(inputs, names), batch_size=20, shuffle=True)) == []
    assert codes(DataLoader(Named(inputs, ["train"] * 400), batch_size=20), held_out) == []
    assert codes(DataLoader(Named(inputs, [f"{place}.png" for place in range(400)]), batch_size=20)) == []
    assert "LD503" in codes(DataLoader(Named(inputs[order], sorted(names)), batch_size=20))
    assert codes(DataLoader(Named(inputs, names[-1:] + names[:-1]), batch_size=20)) == ["LD505"]


def of_tasks(count, seed=0):
    """Three questions about each sample, of three, four and two answers; some of the first are not known."""
    inputs = torch.randn(count, 12, generator=torch.Generator().manual_seed(seed))
    cuts = [torch.tensor(item) for item in ([-0.6, 0.6], [-1.0, 0.0, 1.0], [0.0])]
    labels = torch.stack([torch.bucketize(column.clone(), cut) for column, cut in zip(inputs.T, cuts, strict=False)], 1)
    labels[::7, 0] = -100
    return inputs, labels


def test_columns_of_classes_are_several_tasks():
    inputs, labels = of_tasks(400)
    assert several_of(batch_roles((inputs, labels)), 400)[1] == "hot"
    assert codes(loader(inputs, labels), loader(*of_tasks(100, seed=1))) == []
    assert codes(loader(inputs, labels, shuffle=False)) == []
    order = labels[:, 0].argsort()
    assert codes(loader(inputs[order], labels[order], shuffle=True)) == []
    report = found(loader(inputs, labels.roll(2, 0))).findings
    assert [(item.code, item.measured["shift"]) for item in report] == [("LD505", 2)]


def test_corners_of_boxes_are_amounts_and_sentences_are_neither():
    boxes = torch.randint(0, 200, (40, 4))
    assert several_of(batch_roles((torch.randn(40, 3, 8, 8), boxes)), 40)[1] == "amounts"
    sentences = torch.randint(0, 200, (40, 12))
    assert several_of(batch_roles((sentences, sentences.roll(-1, 1))), 40) is None
