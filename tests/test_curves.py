"""Curve arithmetic, names, and finished runs judged by their logs."""

import json
import math
import re

import numpy as np
import pytest

from lightning_debug import cli, curves_cli
from lightning_debug.curves import csv_logs, event_files, stopping
from lightning_debug.curves.finished import curves_of
from lightning_debug.curves.names import recognised
from lightning_debug.curves.noise import SIGMAS, residual_noise, rise
from lightning_debug.curves.reading import read_curves
from lightning_debug.curves.series import Series
from lightning_debug.curves.training import spikes
from lightning_debug.curves.validation import Validations, best_epoch


def test_noise_of_a_falling_curve_is_its_residuals():
    draw = np.random.default_rng(0)
    curve = 2 * np.exp(-np.arange(200) / 30) + draw.normal(0, 0.05, 200)
    assert residual_noise(curve) == pytest.approx(0.05, rel=0.3)


@pytest.mark.parametrize("length", [1, 4, 10, 40])
def test_a_curve_that_settles_does_not_rise(length):
    draw = np.random.default_rng(1)
    rises = [rise(2 * np.exp(-np.arange(length) / 5) + draw.normal(0, 0.1, length)).sigmas for _ in range(100)]
    assert np.mean(np.array(rises) > SIGMAS) < 0.06  # the noise of ten values is itself uncertain
    assert np.mean(np.array(rises) > 4) < 0.03, "what the rules ask for"


def test_series_is_bounded_and_keeps_the_mean():
    series = Series(most=64)
    values = np.random.default_rng(0).normal(size=10_000)
    series.extend(range(10_000), values)
    assert len(series.means) <= 64
    assert series.between(0, 10_000)[0] == pytest.approx(values.mean())


def test_the_loss_decides_among_equal_metrics():
    loss = [1.0, 0.5, 0.4, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    accuracy = [0.5, 0.7, 0.80, 0.81, 0.80, 0.81, 0.80, 0.82, 0.80, 0.81]
    seen = Validations(list(range(10)), list(range(10)), loss, accuracy, "val_loss", "val_acc")
    found = best_epoch(seen)
    assert found.epoch in (2, 3), "the choice of EarlyStoppingSelector"
    assert "has not degraded" in found.reason


@pytest.mark.parametrize("shared", [True, False])
def test_a_loss_whose_terms_change_does_not_decide(shared):
    loss = [1.26, 1.3, 1.34, 1.38, 1.42, 1.45, 1.47, 1.48]
    accuracy = [0.34, 0.42, 0.5, 0.55, 0.6, 0.64, 0.66, 0.68]
    steps, train = [20 * (index + 1) for index in range(8)], Series()
    levels = np.repeat(np.array(loss) if shared else np.linspace(1.2, 0.3, 8), 20)
    train.extend(range(160), levels + 0.01 * np.random.default_rng(0).normal(size=160))
    reading = read_curves(
        train, Validations(steps, list(range(8)), loss, accuracy, "val_loss", "val_acc"), epochs=8, final=True
    )
    assert (reading.best.rule == "metric") is shared
    assert (reading.best.epoch == 7) is shared


def test_the_last_small_batch_of_an_epoch_is_no_spike():
    series = Series()
    values = [1.0 + 0.01 * (step % 3) for step in range(100)]
    values[60] = 9.0
    series.extend(range(100), values)
    assert [spike.step for spike in spikes(series)] == [60]
    assert spikes(series, range(0, 100, 10)) == ()


def test_names_without_a_validation_are_not_guessed():
    assert recognised(["loss", "acc", "test_loss"]).val == ""


def test_what_is_minimised_by_some_and_maximised_by_others_is_taken_last():
    both = recognised(["train/elbo", "train/loss", "val/elbo", "val/loss"])
    assert (both.train, both.val) == ("train/loss", "val/loss")
    assert recognised(["train/loss", "val/elbo"]).val == "", "it may be the negative of the loss"
    assert recognised(["elbo_train", "elbo_validation"]).val == "elbo_validation"
    assert recognised(["train_loss", "val_neg_elbo"]).val == "val_neg_elbo"


@pytest.mark.parametrize(
    ("names", "function", "loss", "metric"),
    [
        (["train_bce", "val_bce", "val_error_rate"], None, "val_bce", "val_error_rate"),
        (["ce/train", "ce/val", "ce_loss/val"], None, "ce_loss/val", ""),
        (
            ["val/huber/dataloader_idx_0", "val/huber/dataloader_idx_1"],
            "smooth_l1_loss",
            "val/huber/dataloader_idx_0",
            "",
        ),
        (["train_mae", "val_mae"], None, "val_mae", ""),  # what both sides log is what is minimised
        (["train_loss", "train_mae", "val_mae"], None, "", "val_mae"),
        (["val_mae"], None, "", "val_mae"),
        (["val_mae"], "l1_loss", "val_mae", ""),
        (["val_mae", "val_mse"], "mse_loss", "val_mse", "val_mae"),
        (["train_mae", "val_mae"], "mse_loss", "", "val_mae"),
        (["train_mae", "val_mae"], "", "", "val_mae"),  # a loss of one's own
        (["train_mae", "val_mae", "val_loss"], "l1_loss", "val_loss", "val_mae"),
    ],
)
def test_a_loss_may_bear_the_name_of_its_function(names, function, loss, metric):
    found = recognised(names, function=function)
    assert (found.val, found.metric) == (loss, metric)


def test_a_training_loss_may_bear_the_name_of_its_function():
    assert recognised(["mse/train", "mse/val", "rmse/val"]).train == "mse/train"
    assert recognised(["train_bce", "train_acc"]).train == "train_bce"
    assert recognised(["train_mae", "train_loss", "val_mae"]).train == "train_loss"
    assert recognised(["train_mae"]).train == ""


def test_a_metric_of_one_side_is_taken_last():
    assert recognised(["val_recall", "val_pr_auc", "val_precision"]).metric == "val_pr_auc"
    assert recognised(["val_loss", "val_recall"]).metric == "val_recall"


def test_perplexity_is_no_metric_beside_a_loss():
    """Of a language model it says what the loss says; of a codebook, more is better."""
    assert recognised(["val/loss", "val/perplexity"]).metric == ""
    assert recognised(["val/perplexity"]).metric == "val/perplexity"


def _write(folder, rows):
    folder.mkdir(parents=True)
    lines = ["epoch,step,train_loss,val_loss", *(",".join(map(str, row)) for row in rows)]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _overfitting():
    for epoch in range(40):
        validation = 0.5 + 1.5 * math.exp(-epoch / 4) + 0.05 * max(0, epoch - 12)
        yield epoch, 10 * epoch + 9, 2 * math.exp(-epoch / 8), validation


def test_overfitting_is_read_from_a_csv_log(tmp_path, capsys):
    _write(tmp_path / "a" / "version_0", _overfitting())
    _write(tmp_path / "b", ((epoch, epoch, 2 * 0.8**epoch + 0.1, 2 * 0.8**epoch + 0.12) for epoch in range(30)))
    assert cli.main(["curves", "--json", "--fail-on", "warning", str(tmp_path)]) == cli.FAULT_EXIT
    first, second = json.loads(capsys.readouterr().out)
    assert "LD707" in [item["code"] for item in first["findings"]]
    assert not [item for item in second["findings"] if item["severity"] != "info"]


def test_a_damaged_log_is_read_as_far_as_it_goes(tmp_path):
    _write(tmp_path / "run", _overfitting())
    (tmp_path / "run" / "events.out.tfevents.1").write_bytes(b"\x18\0\0\0\0\0\0\0broken")
    found = curves_cli.diagnose(tmp_path / "run")
    assert "LD707" in [item.code for item in found.findings]


def test_a_name_that_is_not_there_is_told(tmp_path):
    _write(tmp_path / "run", _overfitting())
    assert "no values named nonsense" in curves_cli.diagnose(tmp_path / "run", val="nonsense").notes[0]


def test_several_runs_have_a_table_and_one_page_of_pictures(tmp_path, capsys):
    _write(tmp_path / "overfits", _overfitting())
    _write(tmp_path / "empty", [])
    page = tmp_path / "out" / "curves.html"
    assert cli.main(["curves", str(tmp_path), "--html", str(page)]) == 0
    head, _, overfits, *_ = capsys.readouterr().out.splitlines()
    assert head.split() == "run verdict epochs train loss val loss metric keep epoch".split()
    assert "LD707 overfitting-from-epoch" in overfits
    assert overfits.split()[-1] == "11"
    text = page.read_text(encoding="utf-8")
    assert "LD707: epoch 1" in text
    assert text.count("<svg") == 1
    assert '<g class="read">' in text
    assert "<script" not in text
    assert "://" not in re.sub(r'xmlns(:xlink)?="[^"]*"', "", text)


def test_a_folder_without_logs_is_refused(tmp_path, capsys):
    assert cli.main(["curves", str(tmp_path)]) == cli.USAGE_EXIT
    assert "holds neither" in capsys.readouterr().err


def _events(folder, steps, name="events.out.tfevents.1", tag="train_loss", value=lambda step: 2 * 0.97**step):
    """An event file in TensorBoard's own hand."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder / name))
    for step in steps:
        writer.add_scalar(tag, value(step), step)
        writer.add_scalar("lr-Adam", 0.1, step)
        writer.add_scalar("new/style", float(step), step, new_style=True)
        if step % 5 == 4:
            writer.add_scalar("val_loss", value(step) + 0.1, step)
    writer.add_text("note", "some text", 3)
    writer.close()
    (written,) = (folder / name).iterdir()
    written.rename(folder / f"{name}.0")
    (folder / name).rmdir()
    (folder / f"{name}.0").rename(folder / name)
    return folder / name


def test_event_files_hold_what_tensorboard_reads(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    path = _events(tmp_path, range(400))
    notes = []
    found = list(event_files.chunks(path, notes))
    theirs = EventAccumulator(str(path), size_guidance={"scalars": 0, "tensors": 0})
    theirs.Reload()
    for tag in ("train_loss", "lr-Adam", "val_loss"):
        steps, values = (np.concatenate([chunk[tag][part] for chunk in found]) for part in (0, 1))
        assert [(item.step, item.value) for item in theirs.Scalars(tag)] == list(zip(steps, values, strict=True))
    assert np.concatenate([chunk["new/style"][1] for chunk in found]).tolist() == list(range(400))
    assert notes == []


def test_a_damage_in_the_middle_leaves_the_rest(tmp_path, monkeypatch):
    path = _events(tmp_path, range(400))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 500] = b"\xff" * 500
    path.write_bytes(content[:-5])
    monkeypatch.setattr(event_files, "BLOCK", 4096)
    read = curves_of(tmp_path)
    assert 385 <= read.train.length < 400
    assert read.train.steps.max() == 399
    assert any("damaged at byte" in note for note in read.notes)
    assert any("passed over; the rest is read" in note for note in read.notes)
    assert any("ends within an event" in note for note in read.notes)


def test_after_a_restart_the_later_values_count(tmp_path):
    _events(tmp_path, range(60), "events.out.tfevents.1", value=lambda step: 5.0)
    _events(tmp_path, range(40, 100), "events.out.tfevents.2", value=lambda step: 1.0)
    read = curves_of(tmp_path)
    assert read.train.length == 100
    assert read.train.steps.tolist() == list(range(100))
    assert read.train.between(40, 100)[0] == 1.0
    assert read.validations.steps == list(range(4, 100, 5))
    assert any("20 values of train_loss were trained again after a restart" in note for note in read.notes)


def test_a_tail_of_nan_and_broken_lines_are_told(tmp_path):
    rows = [*_overfitting(), *((epoch, 10 * epoch + 9, "nan", "nan") for epoch in range(40, 44))]
    _write(tmp_path / "run", rows)
    with (tmp_path / "run" / "metrics.csv").open("a", encoding="utf-8") as file:
        file.write('44,449,"0.5",\n45,')
    read = curves_of(tmp_path / "run")
    assert read.train.broken_since is None
    assert read.train.nonfinite == 4
    assert len(read.validations) == 40
    assert any("4 values of val_loss are NaN or infinite, all of them from step 409 on" in note for note in read.notes)
    assert any("1 lines are not as the header says" in note for note in read.notes)


def test_the_same_values_at_once_and_one_by_one(tmp_path, monkeypatch):
    draw = np.random.default_rng(0)
    rows = [(step // 50, step, draw.normal(), "" if step % 7 else draw.normal()) for step in range(500)]
    _write(tmp_path / "run", rows)
    path = tmp_path / "run" / "metrics.csv"
    monkeypatch.setattr(csv_logs, "BLOCK", 1000)

    def read():
        return [
            (name, *pair)
            for chunk in csv_logs.chunks(path, [])
            for name, v in chunk.items()
            for pair in zip(*v, strict=True)
        ]

    fast = read()
    monkeypatch.setattr(csv_logs, "_at_once", lambda *_: None)
    assert read() == fast
    assert len(fast) == 500 + 500 + 72


def test_a_long_series_taken_at_once_is_the_same():
    values = np.random.default_rng(0).normal(size=10_000)
    one, two = Series(most=64), Series(most=64)
    one.extend(np.arange(10_000), values)
    for step, value in enumerate(values.tolist()):
        two.extend([step], [value])
    np.testing.assert_allclose(one.means, two.means)
    np.testing.assert_allclose(one.squares, two.squares)
    assert (one.steps == two.steps).all()
    assert (one.highest == two.highest).all()


def test_long_validation_curves_are_smoothed_in_cells(monkeypatch):
    values = np.random.default_rng(0).normal(size=1000) + np.log(np.arange(1000) + 1.0)
    exact = stopping.smooth_in_log(values, 0.1)
    monkeypatch.setattr(stopping, "MOST", 100)
    assert np.abs(stopping.smooth_in_log(values, 0.1) - exact).max() < 0.1 * np.ptp(exact) / 6
