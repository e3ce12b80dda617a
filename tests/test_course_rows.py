"""The classic faults once more, where another reading of the evidence was needed."""

import dataclasses

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from lightning_debug.evidence.curves import Shift, ValidationCourse
from lightning_debug.evidence.data import FieldValues
from lightning_debug.evidence.data_augmentation import AugmentationDraws, AugmentedNeighbours
from lightning_debug.evidence.data_values import FirstLayerInput
from lightning_debug.evidence.model import InputDependence, Place, SampleMixing
from lightning_debug.evidence.numbers import NonFiniteStep, NonFiniteTensor, StepWindow
from lightning_debug.evidence.overfit import OverfitCall, OverfitCheck, OverfitField
from lightning_debug.finding import Claim
from lightning_debug.record import Record
from lightning_debug.registry import get
from lightning_debug.rules._curves import diverges
from tests.data_programs import codes


def claims(code, *evidence):
    return [item for item in get(code).function(Record(list(evidence))) if isinstance(item, Claim)]


class Held(Dataset):
    """Holds 200 samples, and may lead several indices to one of them."""

    def __init__(self, few):
        self.inputs, self.labels = torch.randn(200, 8), torch.arange(200) % 2
        self.few = few

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        return self.inputs[index % self.few], self.labels[index % self.few]


@pytest.mark.parametrize(("few", "found"), [(200, False), (40, True)])
def test_samples_that_a_dataset_keeps_for_itself(few, found):
    assert ("LD507" in codes(DataLoader(Held(few), batch_size=20, shuffle=True))) is found


@pytest.mark.parametrize(
    ("wrong", "raw", "pair", "raw_pair", "claimed"),
    [
        (0.50, 0.21, 0.51, 0.01, True),  # two of three classes change places, the third lies between them
        (0.22, 0.21, 0.15, 0.14, False),  # classes that overlap by nature
        (0.20, 0.02, 0.16, 0.09, True),  # all classes
        (0.10, 0.02, 0.16, 0.06, False),
    ],
)
def test_two_labels_that_change_places_by_augmentation(wrong, raw, pair, raw_pair, claimed):
    near = AugmentedNeighbours(
        samples=500, wrong=wrong, raw_samples=400, raw_wrong=raw, pair=("0", "1"), pair_share=0.6, pair_samples=280,
        pair_wrong=pair, raw_pair_samples=230, raw_pair_wrong=raw_pair,
    )  # fmt: skip
    assert bool(claims("LD512", AugmentationDraws(samples=4, redrawn=4), near)) is claimed


def test_the_input_that_is_alike_is_named_with_the_one_that_is_not():
    call = OverfitCall(function="cross_entropy", line="train.py:9", targets_differ=True, fields=("batch[1]",))
    mask = OverfitField(name="batch[1]", shape=(40, 12), alike=True)
    ids = OverfitField(name="batch[0]", shape=(40, 12))
    constant = InputDependence(
        function="cross_entropy", line="train.py:9", module="head", samples=13, steps=200, change=0.0, scale=0.3,
        targets_vary=True,
    )  # fmt: skip
    [found] = claims("LD309", constant, OverfitCheck(calls=(call,), fields=(ids, mask)))
    assert "batch[1]" in found.message
    assert "batch[0]" in found.fix
    [found] = claims(
        "LD309", constant, OverfitCheck(calls=(call,), fields=(ids, dataclasses.replace(mask, alike=False)))
    )
    assert "batch[0]" not in found.fix


@pytest.mark.parametrize(
    ("rise", "since", "samples", "expected"),
    [
        (0.31, -0.03, 400, True),
        (0.31, -0.005, 400, False),  # the accuracy has kept its level
        (0.31, -0.03, 0, False),  # a score that counts no samples may be the loss by another name
        (0.15, -0.03, 400, False),
        (0.45, 0.0, 400, True),
    ],
)
def test_loss_and_accuracy_that_part_from_training_together(rise, since, samples, expected):
    course = ValidationCourse(
        lowest=0.86, rise=Shift(amount=rise, error=0.001), all_above=True, metric="val_acc",
        metric_since=Shift(amount=since, error=0.001), metric_samples=samples,
    )  # fmt: skip
    assert diverges(course, sigmas=4.0, worse=0.3, price=2.1) is expected


@pytest.mark.parametrize(
    ("lengths", "change", "claimed"),
    [
        ((1.0, 1.0), {}, True),
        ((0.9, 1.1), {}, False),
        ((1.0, 1.0), {"profile": 0.2}, False),  # embeddings, whose columns have no levels of their own
        ((1.0, 1.0), {"profile_roughness": 0.1}, False),  # spectra
        ((1.0, 1.0), {"zeros": 0.9}, False),  # weighted words
        ((1.0, 1.0), {"means": (0.4, 0.3, 0.5, 0.2, 0.45)}, False),  # columns of one unit
    ],
)
def test_rows_of_a_table_that_are_divided_by_their_length(lengths, change, claimed):
    values = FieldValues(
        stage="train", field="batch[0]", role="input", shape=(5,), samples=300, profile=0.9,
        means=(0.7, 0.005, 0.3, 0.1, 0.6), deviations=(0.02, 0.002, 0.03, 0.01, 0.02),
        row_length_lowest=lengths[0], row_length_highest=lengths[1],
    )  # fmt: skip
    assert bool(claims("LD502", dataclasses.replace(values, **change))) is claimed


@pytest.mark.parametrize(
    ("highest", "change", "claimed"), [(1 / 255, 0.0, True), (1 / 255, 0.2, False), (0.3, 0.0, False)]
)
def test_images_that_are_divided_by_255_twice(highest, change, claimed):
    layer = FirstLayerInput(
        field="batch[0]", module="net.0", operation="conv2d", samples=64, lowest=0.0, highest=highest,
        root_mean_square=highest / 2, means=(highest / 3,) * 3, deviations=(highest / 3,) * 3, output=0.07,
    )  # fmt: skip
    now = InputDependence(function="cross_entropy", samples=13, steps=119, change=change, scale=0.5, targets_vary=True)
    found = claims("LD501", layer, now)
    assert bool(found) is claimed
    assert all("255 once" in one.fix for one in found)


@pytest.mark.parametrize(("nan", "columns"), [(78, True), (70, False)])
def test_columns_that_are_divided_by_nothing(nan, columns):
    field = NonFiniteTensor(
        name="batch[0]", shape=(26, 64), numel=26 * 64, nan=nan, rows=(0, 1), row_count=26, columns=(0, 32, 39),
        column_count=3,
    )  # fmt: skip
    step = NonFiniteStep(loss=float("nan"), fields=(field,), causes=("batch[0]",), proved=True)
    [found] = claims("LD301", StepWindow(), step)
    assert ("std(0)" in found.fix) is columns


@pytest.mark.parametrize(("name", "said"), [("linear", "view or reshape"), ("mix", "Keep dimension 0")])
def test_a_linear_layer_mixes_no_samples_itself(name, said):
    place = Place(name=name, module="head", module_type="", line="train.py:9", shape=(13, 2))
    seen = SampleMixing(samples=13, judged=3, mixed=2, first=place, output=place, pair=(1, 2), share=0.08)
    [found] = claims("LD409", seen)
    assert said in found.fix


@pytest.mark.parametrize("code", ["LD408", "LD601", "LD602", "LD606", "LD608"])
def test_a_net_that_cannot_learn_says_nothing_of_its_labels(code):
    assert "LD505" in get(code).explains
