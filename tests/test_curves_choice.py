"""The choice of the epoch on curves that leave nothing to choose."""

from lightning_debug.curves.validation import Validations, best_epoch


def test_no_epoch_is_kept_where_validation_never_changes():
    same = [2.302585] * 5
    seen = Validations(list(range(5)), list(range(5)), same, [0.1] * 5, "val_loss", "val_acc")
    assert best_epoch(seen) is None
    moved = Validations(list(range(5)), list(range(5)), [*same[:4], 2.2], [0.1] * 5, "val_loss", "val_acc")
    assert best_epoch(moved).epoch == 4
