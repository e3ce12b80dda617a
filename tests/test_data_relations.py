"""Order, alignment, copies and leaks: found in four types of data, and quiet on healthy look-alikes."""

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    IterableDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    random_split,
)

from lightning_debug.finding import Severity
from tests.data_programs import KINDS, codes, found, loader, make

kinds = pytest.mark.parametrize("kind", KINDS)


# ------------------------------------------------------------------------------------------------ healthy


@kinds
def test_healthy_data_are_told_nothing(kind):
    inputs, labels = make(kind)
    assert not codes(loader(inputs[:500], labels[:500]), loader(inputs[500:], labels[500:], shuffle=False), epochs=2)


@kinds
def test_data_that_lie_shuffled_need_no_shuffling(kind):
    assert not codes(loader(*make(kind), shuffle=False), epochs=2)


def test_windows_of_a_series_in_their_order_are_quiet():
    wave = torch.sin(torch.arange(700) / 9) + 0.1 * torch.randn(700).cumsum(0)
    windows = wave.unfold(0, 24, 1)
    assert not codes(loader(windows[:500, :-1], windows[:500, -1], shuffle=False))
    assert not codes(loader(windows[:500, :-1], windows[:500, -1]), loader(windows[530:, :-1], windows[530:, -1]))


class Stream(IterableDataset):
    """Sorted by label, and again the same."""

    def __init__(self, *columns):
        self.columns = columns

    def __iter__(self):
        return zip(*self.columns, strict=True)


def test_streams_are_not_judged_by_their_order():
    inputs, labels = make("tabular", 200)
    order = labels.argsort()
    verdict = found(DataLoader(Stream(inputs[order], labels[order]), batch_size=20))
    assert "LD503" not in [item.code for item in verdict.findings]
    assert any("stream" in skip.reason for skip in verdict.skips if skip.code == "LD503")


class ClassesAndSamples(BatchSampler):
    """Four classes of five samples in each batch, as metric learning wants them."""

    def __init__(self, labels):
        self.places = [torch.where(labels == label)[0] for label in range(4)]

    def __iter__(self):
        for _ in range(20):
            yield [int(place[torch.randint(len(place), ())]) for place in self.places for _ in range(5)]

    def __len__(self):
        return 20


def test_samplers_of_a_few_classes_a_batch_are_quiet():
    inputs, labels = make("tabular")
    given = DataLoader(TensorDataset(inputs, labels), batch_sampler=ClassesAndSamples(labels))
    assert not set(codes(given)) & {"LD503", "LD504"}


def test_class_incremental_blocks_are_no_single_label_batches():
    inputs, labels = make("tabular")
    order = torch.cat([torch.where(labels < 2)[0], torch.where(labels >= 2)[0]])
    batches = [part.tolist() for part in order.split(20)]
    assert "LD504" not in codes(DataLoader(TensorDataset(inputs, labels), batch_sampler=batches))


@pytest.mark.parametrize("name", ["bits", "pairs of ids", "one-hot", "counting", "short texts", "one feature"])
def test_equal_samples_that_chance_makes_are_quiet(name):
    torch.manual_seed(1)
    start, step = torch.randint(0, 20, (600, 1)), torch.randint(1, 4, (600, 1))
    inputs = {
        "bits": torch.randint(0, 2, (600, 6)).float(),
        "pairs of ids": torch.randint(0, 30, (600, 2)),
        "one-hot": torch.eye(10)[torch.randint(0, 10, (600,))],
        "counting": (start + step * torch.arange(12)) % 20,
        "short texts": torch.nn.functional.pad(torch.randint(1, 6, (600, 4)), (0, 8)),
        "one feature": torch.randint(0, 50, (600, 1)).float(),
    }[name]
    labels = (inputs.float().sum(1) > inputs.float().sum(1).median()).long()
    noisy = torch.where(torch.rand(600) < 0.1, 1 - labels, labels)
    train, validation = loader(inputs[:400], noisy[:400]), loader(inputs[400:], noisy[400:])
    assert not {"LD507", "LD510", "LD520"} & set(codes(train, validation))


def test_oversampling_is_no_duplication():
    inputs, labels = make("tabular")
    weights = torch.where(labels == 0, 5.0, 1.0)
    assert not codes(loader(inputs, labels, shuffle=False, sampler=WeightedRandomSampler(weights, 600)))
    rare = torch.where(labels == 0)[0][:30]
    kept = torch.cat([rare, torch.where(labels > 0)[0]])
    data = TensorDataset(inputs[kept], labels[kept])
    balanced = ConcatDataset([data, *[Subset(data, range(30))] * 4])
    assert severities(loader(balanced))["LD507"] is Severity.INFO


def test_a_small_set_that_is_repeated_whole_is_no_duplication():
    inputs, labels = (item[:8] for item in make("tabular"))
    assert severities(loader(inputs.repeat(20, 1), labels.repeat(20)))["LD507"] is Severity.INFO
    assert severities(loader(inputs.repeat(20, 1)[:150], labels.repeat(20)[:150]))["LD507"] is Severity.WARNING


def test_a_bootstrap_sample_is_no_duplication():
    inputs, labels = make("tabular")
    drawn = torch.randint(0, 600, (600,))
    assert severities(loader(inputs[drawn], labels[drawn]))["LD507"] is Severity.INFO


def severities(train):
    return {item.code: item.severity for item in found(train).findings}


def test_parts_that_bags_share_are_no_duplicates():
    pool = torch.randn(60, 12)
    bags = [(pool[torch.randint(60, (5 + index % 4,))], float(index % 2)) for index in range(80)]
    assert "LD507" not in codes(loader(bags, batch_size=None))


def test_overfitting_a_batch_on_purpose_is_quiet():
    inputs, labels = make("tabular", 40)
    order = labels.argsort()
    data = TensorDataset(inputs[order], labels[order])
    assert not codes(loader(data, shuffle=False), loader(data, shuffle=False), epochs=3, overfit_batches=1)


def test_a_loader_that_shows_the_training_error_beside_another_is_quiet():
    inputs, labels = make("tabular")
    train = TensorDataset(inputs[:400], labels[:400])
    assert "LD510" not in codes(loader(train), [loader(inputs[400:], labels[400:]), loader(train, shuffle=False)])


def test_samplers_of_disjoint_indices_leak_nothing():
    data = TensorDataset(*make("tabular"))
    parts = [SubsetRandomSampler(list(places)) for places in (range(400), range(400, 600))]
    assert not codes(*(loader(data, shuffle=False, sampler=part) for part in parts))


# ------------------------------------------------------------------------------------------------ faults


@kinds
def test_sorted_labels_without_shuffling(kind):
    inputs, labels = make(kind)
    order = labels.argsort()
    assert codes(loader(inputs[order], labels[order], shuffle=False))[0] == "LD503"


def test_sorted_amounts_without_shuffling():
    inputs = torch.randn(400, 6)
    amounts = inputs[:, 0] + 0.1 * torch.randn(400)
    order = amounts.argsort()
    assert codes(loader(inputs[order], amounts[order], shuffle=False)) == ["LD503"]
    assert not codes(loader(inputs[order], amounts[order]))


@kinds
def test_batches_of_one_label(kind):
    inputs, labels = make(kind)
    batches = [part.tolist() for label in range(4) for part in torch.where(labels == label)[0].split(20)]
    shuffled = [batches[place] for place in torch.randperm(len(batches)).tolist()]
    assert codes(DataLoader(TensorDataset(inputs, labels), batch_sampler=shuffled)) == ["LD504"]


@kinds
@pytest.mark.parametrize(
    "rows", [pytest.param(1, marks=pytest.mark.slow), pytest.param(-2, marks=pytest.mark.slow), 50]
)
def test_labels_moved_by_some_rows(kind, rows):
    inputs, labels = make(kind)
    verdict = found(loader(inputs, labels.roll(rows)))
    assert [item.code for item in verdict.findings] == ["LD505"]
    assert verdict.findings[0].measured["shift"] == rows
    assert verdict.findings[0].subject == "labels batch[1]"


def test_labels_moved_within_batches():
    inputs, labels = make("tabular")

    def collate(samples):
        columns = [torch.stack(column) for column in zip(*samples, strict=True)]
        return columns[0], columns[1].roll(1)

    assert codes(loader(inputs, labels, collate_fn=collate)) == ["LD505"]


@kinds
def test_copies_in_the_training_data(kind):
    inputs, labels = make(kind)
    again = torch.randperm(600)[:40]
    assert codes(loader(torch.cat([inputs, inputs[again]]), torch.cat([labels, labels[again]]))) == ["LD507"]


@kinds
def test_copies_with_other_labels(kind):
    inputs, labels = make(kind)
    again = torch.randperm(600)[:40]
    train = loader(torch.cat([inputs, inputs[again]]), torch.cat([labels, (labels[again] + 1) % 4]))
    assert codes(train) == ["LD520", "LD507"]


@kinds
@pytest.mark.parametrize("how", ["some rows", "the same dataset", "indices", "copies of lists", "almost"])
def test_training_samples_in_validation(kind, how):
    inputs, labels = make(kind)
    data = TensorDataset(inputs, labels)
    if how == "almost" and kind == "token":
        pytest.skip("there is no next to nothing between ids")
    train, validation = {
        "some rows": lambda: (loader(inputs, labels), loader(inputs[550:], labels[550:])),
        "the same dataset": lambda: (loader(data), loader(data, shuffle=False)),
        "indices": lambda: (loader(Subset(data, range(500))), loader(Subset(data, range(450, 600)))),
        "copies of lists": lambda: (loader(list(data)), loader([(one.clone(), two) for one, two in list(data)[:60]])),
        "almost": lambda: (loader(inputs, labels), loader(inputs[500:] + 1e-4 * torch.randn(()), labels[500:])),
    }[how]()
    assert codes(train, validation) == ["LD510"]


def test_histories_that_go_on_where_training_ends_are_quiet():
    """Leave-one-out: the validation input is the training input and the item that was its label."""
    items = torch.randint(1, 5000, (300, 25))
    train = loader(items[:, :-2], items[:, -2])
    assert "LD510" not in codes(train, loader(items[:, 1:-1], items[:, -1], shuffle=False))


def test_overlapping_windows_split_at_random():
    torch.manual_seed(3)
    wave = torch.sin(torch.arange(700) / 9) + 0.1 * torch.randn(700).cumsum(0)
    windows = wave.unfold(0, 25, 1)
    train, validation = random_split(TensorDataset(windows[:, :-1, None], windows[:, -1]), [500, 176])
    verdict = found(loader(train), loader(validation, shuffle=False))
    assert [item.code for item in verdict.findings] == ["LD510"]
    assert verdict.findings[0].measured["overlapping"] > 0.9


def test_sequences_of_a_small_grammar_share_their_stretches():
    """Each sequence is drawn anew; but few exist, as many training sequences hold the same stretch as each other."""
    torch.manual_seed(3)
    starts, lengths = torch.randint(0, 24, (700,)), torch.randint(9, 17, (700,))
    steps = torch.arange(16)
    tokens = torch.where(steps < lengths[:, None], 1 + (starts[:, None] + steps) % 24, 0)
    tokens[torch.rand(tokens.shape) < 0.05] = 25
    train, validation = TensorDataset(tokens[:550], starts[:550]), TensorDataset(tokens[550:], starts[550:])
    assert "LD510" not in codes(loader(train), loader(validation, shuffle=False))


def test_one_graph_for_both_stages_is_no_leak():
    """Its nodes are in both; a mask says which of them count."""
    nodes = torch.randn(80, 6)
    graph = {"x": nodes, "y": (nodes[:, 0] > 0).long(), "train_mask": torch.arange(80) % 2 == 0}
    one = DataLoader([graph], batch_size=None)
    assert "LD510" not in codes(one, one)
    twice = DataLoader(TensorDataset(nodes, graph["y"]), batch_size=20)
    assert "LD510" in codes(twice, twice)


def test_equal_pairs_of_users_and_items_are_chance():
    """As many users as samples, nearly; some meet the same item again."""
    torch.manual_seed(0)
    users, items = torch.randint(0, 200, (1400,)), torch.randint(0, 25, (1400,))
    pairs = [{"user": user, "item": item} for user, item in zip(users, items, strict=True)]
    train, val = DataLoader(pairs[:1120], batch_size=20, shuffle=True), DataLoader(pairs[1120:], batch_size=20)
    assert "LD510" not in codes(train, val)


@pytest.mark.parametrize("seed", [0, 1])
def test_pairs_that_one_seed_draws_twice_leak(seed):
    """Pairs of small discrete pictures: those that share one are near, and only the order tells copies from chance."""
    pictures = torch.randint(0, 4, (120, 8, 8), generator=torch.Generator().manual_seed(7)).float()

    def pairs(count, seed):
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randint(0, 120, (count, 2), generator=generator)
        chosen[:, 1] = chosen[:, 0] // 4 * 4  # four first pictures for each second one
        return TensorDataset(pictures[chosen[:, 0]], pictures[chosen[:, 1]], (chosen[:, 0] > 60).long())

    train, validation = loader(pairs(400, 0)), loader(pairs(80, seed), shuffle=False)
    assert ("LD510" in codes(train, validation)) is (seed == 0)
