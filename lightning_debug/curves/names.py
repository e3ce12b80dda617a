"""Which logged value is what: training loss, validation loss, validation metric, by the names people give them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

Mode = Literal["min", "max"]

_VALIDATION = re.compile(
    r"(^|[/_.\- ])(val|valid|validation|eval|dev)([/_.\- ]|$)|^(val|valid|eval|dev)(?=[A-Z])", re.I
)
_TRAINING = re.compile(r"(^|[/_.\- ])(train|training|tr|fit)([/_.\- ]|$)|^train(?=[A-Z])", re.I)
_TEST = re.compile(r"(^|[/_.\- ])(test|predict)([/_.\- ]|$)", re.I)
_LOSS = re.compile(r"(^|[/_.\- ]|val|train)(loss|nll|n?elbo|objective)([/_.\- ]|$)", re.I)
_HIGHER = re.compile(
    r"(^|[/_.\- ])(acc|acc@?1|top1|accuracy|f1|f1[_-]?score|auc|auroc|roc_?auc|ap|map|iou|miou|jaccard|dice|bleu|r2|"
    r"recall|precision|mcc|kappa|psnr|ssim|balanced_acc(uracy)?)([/_.\- ]|$)",
    re.I,
)
_LOWER = re.compile(r"(^|[/_.\- ])(error|err|mae|mse|rmse|mape|wer|cer|ppl|perplexity|fid|eer|rmsle)([/_.\- ]|$)", re.I)
_UNCLEAR = re.compile(
    r"(^|[/_.\- ])(neg|negative|minus|inv|inverse|gap|diff|difference|delta|drop|std|var|variance|elbo|"
    r"objective|reward)([/_.\- ]|$)",
    re.I,
)
_ONE_SIDED = re.compile(r"(^|[/_.\- ])(recall|precision)([/_.\- ]|$)", re.I)
"""What an answer that is always the same can have at its best."""
_OF_A_LOSS = re.compile(r"(^|[/_.\- ])(ppl|perplexity)([/_.\- ]|$)", re.I)
"""Of a language model the exponential of its loss, of a codebook how much of it is used: no metric beside a loss."""
_EITHER_WAY = re.compile(r"(?<!neg)(?<!neg[/_.\- ])(?<!negative[/_.\- ])(?<!minus[/_.\- ])(?<!n)(elbo|objective)", re.I)
"""What some log to be minimised and others to be maximised."""
_FUNCTION = re.compile(
    r"(^|[/_.\- ]|val|train)(bce|ce|xe|xent|cross_?entropy|huber|smooth_?l1|ctc|hinge|focal)([/_.\- ]|$)", re.I
)
"""Functions that are losses and nothing else."""
_DISTANCE = re.compile(r"(^|[/_.\- ])(mae|l1|mse|l2)([/_.\- ]|$)", re.I)
"""Functions that are losses or metrics."""
_DISTANCES = {"mae": "l1_loss", "l1": "l1_loss", "mse": "mse_loss", "l2": "mse_loss"}
_OURS = "lightning_debug/"
_ENDS = re.compile(r"([/_.\- ](epoch|dataloader_idx_\d+))+$", re.I)
_STEP = re.compile(r"[/_.\- ]step$", re.I)


def plain(name: str) -> str:
    """A name without what Lightning puts at its end.

    >>> plain("val_loss_epoch/dataloader_idx_0")
    'val_loss'
    """
    return _ENDS.sub("", name)


def better(name: str) -> Mode | None:
    """Which values of a name are better, where the name alone is sure to tell.

    >>> better("val/acc_epoch"), better("valid_loss"), better("val_f1_loss"), better("neg_mse")
    ('max', 'min', None, None)
    """
    words = plain(name)
    higher, lower = _HIGHER.search(words), _LOSS.search(words) or _LOWER.search(words)
    if _UNCLEAR.search(words) or bool(higher) == bool(lower):
        return None
    return "max" if higher else "min"


@dataclass(frozen=True)
class Names:
    """The names that were recognised; ``""`` for none.

    Args:
        train: Training loss.
        val: Validation loss.
        metric: Validation metric.
        mode: Whether a larger or a smaller metric is better.
    """

    train: str = ""
    val: str = ""
    metric: str = ""
    mode: Mode = "max"


def recognised(
    names: Iterable[str], train: str = "", val: str = "", metric: str = "", *, function: str | None = None
) -> Names:
    """Picks names; what is given is taken as it is.

    A loss that bears no better name bears that of its function. A distance may as well be a metric: it is the loss
    where it is known to be what training minimises, or is logged of both sides and training logs no other loss.

    Args:
        names: All names that have values.
        train: Name of the training loss, if known.
        val: Name of the validation loss, if known.
        metric: Name of the validation metric, if known.
        function: What training minimises, such as ``"mse_loss"``; ``""`` for something else, ``None`` if not known.

    >>> recognised(["epoch", "train_loss_step", "train_loss_epoch", "val/loss", "val/acc", "lr-Adam"])
    Names(train='train_loss_epoch', val='val/loss', metric='val/acc', mode='max')
    >>> recognised(["loss", "loss/val", "valid_mae"]).metric
    'valid_mae'
    """
    own = sorted({name for name in names if not name.startswith(_OURS) and not _TEST.search(name)})
    validation = [name for name in own if _VALIDATION.search(name)]
    rest = [name for name in own if not _VALIDATION.search(name)]
    train = train or _training_loss(rest, validation)
    losses = [name for name in validation if _LOSS.search(name) and not _STEP.search(name)]
    losses = [name for name in losses if not either_way(name) or not train or either_way(train)]
    val = val or _first(losses, key=lambda name: (either_way(name), *_plainest(name)))
    if not val:
        functions = [name for name in validation if _FUNCTION.search(name)]
        distances = [name for name in validation if name != metric and _is_minimised(name, train, function)]
        val = _first(functions, key=_plainest) or _first(distances, key=_plainest)
    higher = [name for name in validation if _HIGHER.search(name) and not _LOSS.search(name)]
    lower = [name for name in validation if _LOWER.search(name) and not _LOSS.search(name) and name != val]
    lower = [name for name in lower if not (val and (_OF_A_LOSS.search(name) or plain(name) == plain(val)))]
    metric = metric or _first(higher, key=_metric_order) or _first(lower, key=_plainest)
    return Names(train, val, metric, mode_of(metric))


def _training_loss(rest: list[str], validation: list[str]) -> str:
    """The name of the training loss among those that are not of validation."""
    losses = [name for name in rest if _LOSS.search(name)]
    training = [name for name in rest if _TRAINING.search(name)]
    stems = {_stem(name, _VALIDATION) for name in validation if _DISTANCE.search(name)}
    for found in (
        [name for name in losses if name in training]
        or [name for name in losses if plain(_STEP.sub("", name)).lower() == "loss"],
        [name for name in training if _FUNCTION.search(name)],
        [name for name in training if _DISTANCE.search(name) and _stem(name, _TRAINING) in stems],
    ):
        if found:
            return _first(
                found,
                key=lambda name: (either_way(name), bool(_STEP.search(name)), "epoch" not in name, len(name), name),
            )
    return ""


def _is_minimised(name: str, train: str, function: str | None) -> bool:
    """Whether a distance of validation is what training minimises."""
    found = _DISTANCE.search(name)
    if found is None or _STEP.search(name):
        return False
    if function is not None:
        return _DISTANCES[found[2].lower()] == function
    return bool(_DISTANCE.search(train)) and _stem(name, _VALIDATION) == _stem(train, _TRAINING)


def _stem(name: str, side: re.Pattern[str]) -> str:
    return side.sub("@", plain(_STEP.sub("", name))).lower()


def monitored(names: Collection[str], monitors: Sequence[tuple[str, Mode]], *, function: str | None = None) -> Names:
    """Picks names; what the user's own callbacks monitor goes first, where it is of validation.

    Args:
        names: All names that have values.
        monitors: What is monitored, and which values of it are better, the most important first.
        function: What training minimises, as :func:`recognised` takes it.

    >>> monitored(["val_loss", "val_acc", "val_f1"], [("val_f1", "max")])
    Names(train='', val='val_loss', metric='val_f1', mode='max')
    >>> monitored(["val_loss", "val_rate", "val_loss_total"], [("val_loss_total", "min"), ("val_rate", "min")])
    Names(train='', val='val_loss_total', metric='val_rate', mode='min')
    """
    own = [(name, mode) for name, mode in monitors if name in names and not _TRAINING.search(name)]
    losses = [name for name, mode in own if _LOSS.search(name) and _VALIDATION.search(name) and mode == "min"]
    metrics = [(name, mode) for name, mode in own if not _LOSS.search(name)]
    given = {"val": losses[0] if losses else "", "metric": metrics[0][0] if metrics else ""}
    found = recognised(names, **given, function=function)
    return replace(found, mode=metrics[0][1]) if metrics else found


def beside(found: Names, names: Iterable[str], minimised: str) -> Names:
    """Takes for the losses what bears one name on both sides, where no name says which they are.

    Args:
        found: What was recognised.
        names: All names that have values.
        minimised: What training logs the very loss as that its steps return; ``""`` where it is not known.

    >>> beside(recognised(["pinball", "val_pinball"]), ["pinball", "val_pinball", "val_spread"], "pinball").val
    'val_pinball'
    """
    if found.val or found.train or not minimised:
        return found
    stem = _stem(minimised, _TRAINING).strip("@/_.- ")
    alike = [name for name in names if _VALIDATION.search(name) and not _STEP.search(name)]
    alike = [name for name in alike if stem and _stem(name, _VALIDATION).strip("@/_.- ") == stem]
    return replace(found, train=minimised, val=_first(alike, key=_plainest)) if alike else found


def by_stage(found: Names, evaluated: Collection[str], *, function: str | None = None) -> Names:
    """Takes for the validation loss what is logged in validation alone, where no name says that it is of validation.

    Args:
        found: What was recognised.
        evaluated: The names that validation has values of, and training has not.
        function: What training minimises, as :func:`recognised` takes it.

    Only one may bear the name of a loss, or be the distance that training minimises: parts of a sum are none.

    >>> by_stage(Names(train="tr.huber"), ["mae", "huber_out"]).val, by_stage(Names(), ["recon_loss", "kl_loss"]).val
    ('huber_out', '')
    """
    if found.val:
        return found
    own = [name for name in evaluated if not _TRAINING.search(name) and not _TEST.search(name) and not either_way(name)]
    own = [name for name in own if not _STEP.search(name) and not name.startswith(_OURS)]
    losses = [name for name in own if _LOSS.search(name) or _FUNCTION.search(name)]
    losses = losses or [name for name in own if function and _is_minimised(name, "", function)]
    return replace(found, val=losses[0]) if len({plain(name) for name in losses}) == 1 else found


def either_way(name: str) -> bool:
    """Whether a name of a loss is also that of what others maximise.

    >>> either_way("val/elbo"), either_way("val/neg_elbo"), either_way("val/elbo_loss"), either_way("val/loss")
    (True, False, False, False)
    """
    return bool(_EITHER_WAY.search(name)) and "loss" not in name.lower()


def role(name: str) -> bool:
    """Whether a name may be one of those that :func:`recognised` picks.

    >>> role("train_loss"), role("val_acc"), role("lr-Adam"), role("test_loss")
    (True, True, False, False)
    """
    if name.startswith(_OURS) or _TEST.search(name):
        return False
    training = _TRAINING.search(name) and (_FUNCTION.search(name) or _DISTANCE.search(name))
    return bool(_VALIDATION.search(name) or _LOSS.search(name) or training)


def mode_of(metric: str) -> Mode:
    """Whether a metric of that name is better when larger.

    >>> mode_of("val_rmse"), mode_of("valid/f1")
    ('min', 'max')
    """
    lower = _LOWER.search(metric) or _LOSS.search(metric)
    return "min" if lower and not _HIGHER.search(metric) else "max"


def _plainest(name: str) -> tuple[int, int, str]:
    words = len(re.split(r"[/_.\- ]", plain(name)))
    suffix = re.search(r"dataloader_idx_(\d+)", name)
    return int(suffix[1]) if suffix else 0, words, name


def _metric_order(name: str) -> tuple[bool, bool, int, int, str]:
    return (not re.search(r"acc", name, re.I), bool(_ONE_SIDED.search(name)), *_plainest(name))


def _first(names: list[str], key: object) -> str:
    return min(names, key=key) if names else ""  # type: ignore[call-overload]
