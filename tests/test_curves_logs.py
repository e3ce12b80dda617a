"""``lightning-debug curves`` on logs that other programs have written."""

import csv

import numpy as np
import pytest
from torch.utils.tensorboard import SummaryWriter

from lightning_debug import cli
from lightning_debug.curves.finished import curves_of, runs_in
from lightning_debug.curves_cli import NoLogs, diagnose, runs, table

EPOCHS = 12
TRAIN, VAL = np.linspace(2.0, 0.4, EPOCHS), np.linspace(1.9, 0.6, EPOCHS)


def _table(path, header, rows):
    with path.open("w", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(header)
        writer.writerows(rows)


def _losses(read):
    return read.names.train, read.names.val, read.train.length, len(read.validations)


def test_an_export_of_weights_and_biases(tmp_path):
    run = "kind-sun-12 - "
    names = ["train/loss", "train/loss__MIN", "train/loss__MAX", "val/loss", "val/loss__MIN", "val/loss__MAX"]
    rows = [
        [10 * index, train, train, train, val, val, val]
        for index, (train, val) in enumerate(zip(TRAIN, VAL, strict=True))
    ]
    path = tmp_path / "wandb_export.csv"
    _table(path, ["Step", *(run + name for name in names)], rows)
    assert runs_in(tmp_path) == runs([str(path)]) == [path]
    read = curves_of(path)
    assert _losses(read) == ("train/loss", "val/loss", EPOCHS, EPOCHS)
    assert read.present == {"train/loss", "val/loss"}
    assert not read.notes


def test_an_export_of_several_runs_says_which_is_read(tmp_path):
    rows = [[index, train, val] for index, (train, val) in enumerate(zip(TRAIN, VAL, strict=True))]
    _table(tmp_path / "two.csv", ["Step", "first - val_loss", "second - val_loss"], rows)
    read = curves_of(tmp_path / "two.csv")
    assert read.validations.losses == pytest.approx(TRAIN.tolist())
    assert "second left out" in read.notes[0]


def test_a_table_by_epochs(tmp_path):
    rows = [[index, 0.5, train, 0.4, val] for index, (train, val) in enumerate(zip(TRAIN, VAL, strict=True))]
    _table(tmp_path / "training.csv", ["epoch", "accuracy", "loss", "val_accuracy", "val_loss"], rows)
    _table(tmp_path / "data.csv", ["petal", "sepal"], [[1.0, 2.0]])
    (path,) = runs_in(tmp_path)
    read = curves_of(path)
    assert _losses(read) == ("loss", "val_loss", EPOCHS, EPOCHS)
    assert read.validations.epochs == list(range(EPOCHS))


def test_the_folders_of_add_scalars_are_one_run(tmp_path):
    writer = SummaryWriter(str(tmp_path / "run"))
    for epoch, (train, val) in enumerate(zip(TRAIN, VAL, strict=True)):
        writer.add_scalars("Loss/both", {"train": train, "val": val}, epoch)
        writer.add_scalar("acc/val", 0.5, epoch)
    writer.close()
    assert runs_in(tmp_path) == [tmp_path / "run"]
    read = curves_of(tmp_path / "run")
    assert (read.train.length, len(read.validations), read.names.metric) == (EPOCHS, EPOCHS, "acc/val")


def test_what_is_no_log_is_refused(tmp_path):
    _table(tmp_path / "data.csv", ["petal", "sepal"], [[1.0, 2.0]])
    with pytest.raises(NoLogs, match="neither event files"):
        runs([str(tmp_path)])
    with pytest.raises(NoLogs, match="is not there"):
        runs([str(tmp_path / "other.csv")])


def test_training_may_be_logged_more_rarely_than_validation(tmp_path):
    generator = np.random.default_rng(0)
    rows = []
    for step in range(0, 1200, 10):
        fall = np.exp(-step / 150)
        val = 0.75 + 1.2 * np.exp(-step / 20) + 0.8 * max(0, step - 100) / 1100 + 0.01 * generator.normal()
        rows.append([step, 1.6 * fall if step % 50 == 0 else "", val if step % 20 == 0 else ""])
    _table(tmp_path / "rare.csv", ["step", "train/ce", "eval/ce_loss"], rows)
    found = diagnose(tmp_path / "rare.csv")
    assert [item.code for item in found.findings if item.severity >= "warning"] == ["LD707"], found
    assert not found.notes


def test_what_is_too_short_to_be_judged_is_told(tmp_path):
    rows = [[index, train, val] for index, (train, val) in enumerate(zip(TRAIN[:4], VAL[:4], strict=True))]
    _table(tmp_path / "short.csv", ["epoch", "loss", "val_loss"], rows)
    notes = diagnose(tmp_path / "short.csv").notes
    assert notes == [
        "loss is not judged: the log holds too few losses, or none",
        "val_loss is not judged: 4 validations are too few; from 6 on their course is judged",
    ]


@pytest.mark.parametrize(("first", "every", "told"), [(6, 1, True), (0, 1, False), (1, 1, False), (2, 3, False)])
def test_the_log_of_a_resumed_run_says_that_it_is_not_all(tmp_path, first, every, told):
    rows = [[first + every * index, *row] for index, row in enumerate(zip(TRAIN, VAL, strict=True))]
    _table(tmp_path / "log.csv", ["epoch", "loss", "val_loss"], rows)
    note = f"validation begins at epoch {first}: if the run was resumed, another log holds what was before"
    assert (note in diagnose(tmp_path / "log.csv").notes) is told


@pytest.mark.parametrize("mark", [";", "\t"])
def test_fields_may_be_parted_otherwise(tmp_path, mark):
    lines = [
        mark.join(f"{value:.4f}".replace(".", ",") for value in row)
        for row in zip(range(EPOCHS), TRAIN, VAL, strict=True)
    ]
    path = tmp_path / "training.log"
    path.write_text("\n".join([mark.join(("epoch", "loss", "val_loss")), *lines]))
    (found,) = runs([str(path)])
    read = curves_of(found)
    assert _losses(read) == ("loss", "val_loss", EPOCHS, EPOCHS)
    assert read.validations.losses == pytest.approx(VAL.tolist(), abs=1e-3)


def test_names_that_are_not_recognised_are_told(tmp_path):
    _table(tmp_path / "metrics.csv", ["step", "reward", "val_loss"], [[1, 2.0, 3.0]])
    (note, _) = diagnose(tmp_path).notes
    assert note == "no training loss was recognised among reward, val_loss; say which it is: --train NAME"


def test_a_run_of_nan_alone_is_told_once(tmp_path):
    _table(tmp_path / "metrics.csv", ["step", "train_loss", "val_loss"], [[step, "nan", "nan"] for step in range(40)])
    assert all("are NaN or infinite" in note for note in diagnose(tmp_path).notes)


@pytest.mark.parametrize(
    ("tail", "told"),
    [
        (["nan"] * 4, "The loss is NaN"),
        (["inf"] * 4, "The loss is +Inf"),
        ([1e3, 1e6, "nan", "nan", "nan"], "the loss has grown from 0.8"),
        (["nan"] * 2, ""),
        (["nan", "nan", "nan", 0.1], ""),
        (["nan", 0.1, "nan", "nan", "nan"], ""),
    ],
)
def test_a_training_loss_that_ends_in_nan_is_an_error(tmp_path, tail, told):
    rows = [(10 * epoch, epoch, loss, 0.9) for epoch, loss in enumerate([1.0, 0.8, *tail])]
    _table(tmp_path / "metrics.csv", ["step", "epoch", "train_loss", "val_loss"], rows)
    found = {item.code: item.message for item in diagnose(tmp_path).findings}
    assert told in found["LD302"] if told else "LD302" not in found


def test_training_that_ended_in_nan_falls_no_more_while_validation_rises(tmp_path):
    rows = [
        (10 * epoch, epoch, 2 * 0.8**epoch if epoch < 5 else "inf", 0.8 + 0.1 * max(0, epoch - 8))
        for epoch in range(20)
    ]
    _table(tmp_path / "metrics.csv", ["step", "epoch", "train_loss", "val_loss"], rows)
    assert [item.code for item in diagnose(tmp_path).findings if item.severity != "info"] == ["LD302"]


@pytest.mark.parametrize(
    ("tail", "told"),
    [(["nan"] * 5, "NaN after epoch 7 (5 of 12 epochs)"), (["inf"] * 5, "+Inf after epoch 7"), (["nan"] * 2, "")],
)
def test_a_validation_loss_alone_that_ends_in_nan_is_an_error(tmp_path, tail, told):
    falls = [1.6 * 0.8**epoch for epoch in range(12 - len(tail))]
    rows = [(10 * epoch, epoch, 1.5 * 0.75**epoch, loss) for epoch, loss in enumerate([*falls, *tail])]
    _table(tmp_path / "metrics.csv", ["step", "epoch", "train_loss", "val_loss"], rows)
    found = {item.code: item.message for item in diagnose(tmp_path).findings}
    assert told in found["LD302"] if told else "LD302" not in found
    assert ("LD715" in found) is not bool(told)


def test_a_page_that_cannot_be_written_is_refused(tmp_path, capsys):
    _table(tmp_path / "metrics.csv", ["step", "train_loss"], [(1, 2.0), (2, 1.0)])
    assert cli.main(["curves", str(tmp_path), "--html", str(tmp_path / "metrics.csv" / "page.html")]) == cli.USAGE_EXIT
    assert "page.html cannot be written: " in capsys.readouterr().err


def test_an_alarm_has_its_fix_and_empty_logs_are_told(tmp_path):
    rows = [(10 * epoch, epoch, loss, 0.9) for epoch, loss in enumerate([1.0, 0.8, "nan", "nan", "nan"])]
    _table(tmp_path / "metrics.csv", ["step", "epoch", "train_loss", "val_loss"], rows)
    (tmp_path / "empty").mkdir()
    _table(tmp_path / "empty" / "metrics.csv", ["step", "epoch", "train_loss", "val_loss"], [])
    told = table([diagnose(tmp_path), diagnose(tmp_path / "empty")])
    assert "    fix: NonFiniteGuard(action='raise') stops before the update" in told
    assert "note: the logs hold no values" in told
    assert "fix: Keep the checkpoint" not in told, "of a note"


@pytest.mark.parametrize(
    ("own", "read"), [([0.5 + 0.03 * epoch for epoch in range(EPOCHS)], "val_model_acc"), (None, "val_acc")]
)
def test_no_epoch_is_judged_by_a_metric_that_never_moves(tmp_path, own, read):
    """A reference logged beside it, such as the share of the largest class."""
    header, columns = ["epoch", "loss", "val_loss", "val_acc"], [TRAIN, VAL, [0.31] * EPOCHS]
    if own is not None:
        header, columns = [*header, "val_model_acc"], [*columns, own]
    rows = [[epoch, *values] for epoch, values in enumerate(zip(*columns, strict=True))]
    _table(tmp_path / "log.csv", header, rows)
    assert curves_of(tmp_path / "log.csv").names.metric == read
    assert curves_of(tmp_path / "log.csv", metric="val_acc").names.metric == "val_acc"
