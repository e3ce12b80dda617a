"""How much DataAuditor reads, and that reading less changes nothing of what is found."""

from types import SimpleNamespace

import numpy
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lightning_debug.callbacks._data_parts import PARTS_OF_DATA
from lightning_debug.callbacks._data_run import DataRun
from lightning_debug.evidence.data_relations import LabelAlignment
from lightning_debug.finding import Claim
from lightning_debug.probes.batch_roles import batch_roles
from lightning_debug.probes.batch_samples import size_at
from lightning_debug.probes.data_counts import ClassCounts
from lightning_debug.probes.data_values import ValueMoments
from lightning_debug.probes.held_batches import FULL
from lightning_debug.probes.relation_alignment import best_shift, label_alignment
from lightning_debug.probes.relation_epochs import LaterEpoch
from lightning_debug.probes.relation_raw import raw_samples
from lightning_debug.probes.relation_stream import LARGE, SampleStream
from lightning_debug.record import Record
from lightning_debug.registry import get
from tests.data_programs import Context, codes, loader


def streamed(batches):
    stream = SampleStream()
    for batch in batches:
        fields = batch_roles(batch)
        stream.add(fields, fields[0].size)
    return stream


@pytest.mark.parametrize("width", [3, 5000])
def test_keys_do_not_depend_on_how_many_batches_are_taken_together(width):
    inputs, labels = torch.randn(300, width), torch.arange(300) % 3
    together, one = streamed([(inputs, labels)]), streamed([(inputs[:7], labels[:7])])
    for size in (1, 7, 64):
        parts = streamed(zip(inputs.split(size), labels.split(size), strict=True))
        assert numpy.array_equal(parts.samples().keys, together.samples().keys)
        assert parts.everything == together.everything
        assert parts.samples().labels.tolist() == labels.tolist()
    assert one.everything != together.everything


@pytest.mark.parametrize("width", [3, LARGE // 8])
def test_a_batch_that_the_run_writes_to_afterwards_keeps_its_keys(width):
    inputs = torch.randn(4, width)
    stream, kept = streamed([(inputs, torch.arange(4))]), inputs.clone()
    inputs.zero_()
    assert numpy.array_equal(stream.samples().keys, streamed([(kept, torch.arange(4))]).samples().keys)


def test_batches_of_other_shapes_and_dtypes_wait_apart():
    batches = [
        (torch.randn(4, width, dtype=dtype), torch.arange(4)) for width in (3, 5) for dtype in (None, torch.half)
    ]
    keys = streamed(batches).samples().keys
    assert keys.tolist() == [key for batch in batches for key in streamed([batch]).samples().keys.tolist()]


def test_labels_counted_together():
    counts = ClassCounts()
    for start in range(0, 1000, 8):
        counts.add(torch.arange(start, start + 8) % 5)
    assert counts.evidence("train", 0, "y", complete=True).counts == (200,) * 5


def later(first, batches, *, same):
    epoch = LaterEpoch(first, same=same)
    for batch in batches:
        fields = batch_roles(batch)
        epoch.add(fields, fields[0].size)
    return epoch


def test_a_later_epoch_is_read_until_it_is_known_to_be_another():
    inputs, labels = torch.randn(2000, 4), torch.randint(0, 3, (2000,))
    order = torch.randperm(2000)
    batches = list(zip(inputs.split(20), labels.split(20), strict=True))
    mixed = list(zip(inputs[order].split(20), labels[order].split(20), strict=True))
    first = streamed(batches)
    whole = later(first.samples(), batches, same=False)
    assert whole.count == 2000
    assert later(first.samples(), batches, same=True).mark().everything == first.everything
    assert later(first.samples(), mixed, same=False).count == 260
    alike = later(first.samples(), mixed, same=True)
    assert (alike.count, alike.mark().everything) == (2000, first.everything)
    fresh = [(item + 1, label) for item, label in mixed]
    assert later(first.samples(), fresh, same=True).count == 260
    assert later(first.samples(), fresh, same=True).mark() == later(first.samples(), fresh, same=True).mark()


class Loop:
    """What DataRun asks of a Trainer."""

    def __init__(self, train):
        self.state = SimpleNamespace(stage=SimpleNamespace(value="train"), status=SimpleNamespace(value="running"))
        self.train_dataloader, self.val_dataloaders, self.current_epoch = train, None, 0
        self.overfit_batches = self.fast_dev_run = self.global_rank = 0


def test_batches_are_passed_over_when_nobody_wants_them(monkeypatch):
    train = loader(torch.randn(640, 4), torch.randint(0, 3, (640,)))
    context = Context(train)
    context.trainer = Loop(train)
    session = SimpleNamespace(observe=lambda evidence: None, settings=SimpleNamespace(strict=True))
    run = DataRun(SimpleNamespace(session=session), context, PARTS_OF_DATA)
    monkeypatch.setattr("lightning_debug.callbacks._data_run.moment", lambda trainer: None)
    run.begin()
    reads, epochs = [], []
    monkeypatch.setattr(run, "_hand_on", lambda *args: reads.append(1) or DataRun._hand_on(run, *args))
    for epoch in range(8):
        context.trainer.current_epoch = epoch
        run.restart("train")
        for batch in train:
            run.see(batch, 0)
        run.end_of_epoch("train")
        epochs.append(len(reads))
        reads.clear()
    assert epochs[0] == 32
    most = 18 + FULL  # the order of 256 samples, the audited ones, and those that were held by then
    assert all(13 <= count <= most for count in epochs[1:4])
    assert max(epochs[4:]) <= 2
    assert run.delivered["train"] == 8 * 640


def test_the_size_of_a_batch_is_asked_for_by_one_key_only():
    inner = {"a": torch.zeros(3), "b": torch.zeros(5)}
    assert size_at("batch['a']['b']", 0, inner) is None
    assert size_at("batch[0][1]", 0, (0, torch.zeros(5))) is None
    assert size_at("batch", 0, torch.zeros(5)) == 5
    assert size_at("batch['c']", 0, inner) is None


class Lazy(Dataset):
    def __init__(self, *columns):
        self.get = lambda index: tuple(item[index] for item in columns)
        self.length = len(columns[0])

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return self.get(index)


def dots(count):
    """A square on black, and in which quarter it is: most samples have the same few neighbours."""
    images, places = torch.zeros(count, 1, 128, 128), torch.randint(0, 122, (count, 2))
    for image, (row, column) in zip(images, places.tolist(), strict=True):
        image[0, row : row + 6, column : column + 6] = 1
    return images, (places[:, 0] > 64).long() * 2 + (places[:, 1] > 64).long()


@pytest.mark.parametrize("seed", [0, 2])
def test_neighbours_that_all_samples_share_move_no_labels(seed):
    torch.manual_seed(seed)
    images, labels = dots(400)
    found = label_alignment(raw_samples(TensorDataset(images, labels)), "epoch")
    assert isinstance(found, LabelAlignment)
    assert found.shifted_p > 1e-3
    assert not codes(loader(Lazy(images[:300], labels[:300])), loader(Lazy(images[300:], labels[300:])))


def test_labels_of_episodes_come_in_one_order():
    torch.manual_seed(0)
    centres = torch.randn(40, 8)

    class Episodes(Dataset):
        def __len__(self):
            return 80

        def __getitem__(self, index):
            chosen = torch.randperm(40)[:5].repeat_interleave(3)
            return {"x": centres[chosen] + 0.3 * torch.randn(15, 8), "y": torch.arange(5).repeat_interleave(3)}

    assert not codes(DataLoader(Episodes(), batch_size=None, shuffle=True), epochs=3)


@pytest.mark.parametrize("agents", [1, 8])
def test_states_that_follow_from_the_action_before_are_no_shift(agents):
    torch.manual_seed(0)
    actions = torch.randint(0, 2, (100, agents))
    moved = torch.cat([torch.zeros(1, agents), 2.0 * actions[:-1] - 1])
    states = torch.stack([moved, *(0.3 * torch.randn(3, 100, agents)).cumsum(1)], -1)
    found = label_alignment(raw_samples(TensorDataset(states.flatten(0, 1), actions.flatten())), "epoch")
    assert found.shift == 0
    order = torch.randperm(100 * agents)
    mixed, given = states.flatten(0, 1)[order], moved.flatten()[order].long() + 1
    assert label_alignment(raw_samples(TensorDataset(mixed, given.roll(8)))).shift == 8


def test_states_of_agents_in_turn_need_not_be_each_others_nearest():
    """Two numbers, in which 512 states lie close: the nearest are seldom those of the same agent."""
    torch.manual_seed(0)
    actions = torch.randint(0, 2, (64, 8))
    states = [0.2 * torch.rand(8, 2) - 0.1]
    for step in actions[:-1]:  # pendulums that fall, and are put up again
        angle, speed = states[-1].T
        speed = speed + 0.45 * angle.sin() + 0.3 * (2.0 * step - 1)
        moved = torch.stack([angle + 0.05 * speed, speed], 1)
        states.append(torch.where(moved[:, :1].abs() > 0.5, 0.2 * torch.rand(8, 2) - 0.1, moved))
    rows = torch.stack(states)
    found = label_alignment(raw_samples(TensorDataset(rows.flatten(0, 1), actions.flatten())), "epoch")
    assert found.shift == 0
    order = torch.randperm(512)
    signs = (rows[..., 1].flatten()[order] > 0).long()
    assert label_alignment(raw_samples(TensorDataset(rows.flatten(0, 1)[order], signs.roll(8)))).shift == 8


def test_best_shift_leaves_short_data_alone():
    assert best_shift(None, numpy.zeros(20), 20).rows == 0


def values_told(train, val, code):
    record = Record()
    for stage, inputs in (("train", train), ("validate", val)):
        field = batch_roles((inputs, torch.arange(len(inputs)) % 2))[0]
        moments = ValueMoments(field, stage, 0)
        moments.add(field)
        record.add(moments.evidence())
    return [item for item in get(code).function(record) if isinstance(item, Claim)]


def test_a_level_that_wanders_is_no_other_preparation():
    time = torch.linspace(0, 1, 2400)
    wandering = 4 * (6 * time).sin() + 0.05 * torch.randn(2400)
    windows = wandering.unfold(0, 24, 12)[..., None]
    train, val = windows[:150], windows[40:55]
    assert train.std() > 2.8 * val.std()
    assert val.min() > 0
    assert not values_told(train, val, "LD515")
    assert values_told(train, train * 12 + 9, "LD515")


def test_two_features_are_often_alike_in_a_sample():
    corners = torch.randint(0, 2, (64, 2)) * 2.0 - 1
    assert not values_told(corners, corners, "LD509")
    assert values_told(corners[:, :1].expand(-1, 12), corners, "LD509")
