"""Evidence about the data where it meets the model: at the first weights, and at the loss."""

from __future__ import annotations

from dataclasses import dataclass

from lightning_debug.evidence._base import Evidence


@dataclass(frozen=True, kw_only=True)
class FirstLayerInput(Evidence):
    """A batch's field, or what was computed from it without weights, at the first layer whose weights it meets.

    Args:
        stage: ``"train"`` or ``"validate"``.
        field: The field of the batch.
        module: Path of the module that ran.
        operation: The call: ``"linear"``, ``"conv2d"``, ``"lstm"``, ``"batch_norm"``, ``"embedding"`` …
        line: The user's line.
        shape: Shape of what the layer received.
        samples: Samples measured, over all steps watched.
        steps: Steps watched.
        lowest: Least value.
        highest: Greatest value.
        root_mean_square: Of all values.
        means: Mean of each feature that the weights tell apart (at most 256, evenly chosen).
        deviations: Standard deviation of each.
        zeros: Share of zeros in each.
        weights: Norm of the weights that each meets, relative to their mean; empty where not known.
        whole: Whether all values are whole numbers.
        output: Root mean square of what the layer returned; ``None`` where not measured.
        normalised_after: Whether a normalisation layer is next.
        roughness: By dimension after the first: mean squared difference of neighbours over twice the variance.
        regrouped: Of pictures of 2 to 4 channels, over how unlike neighbouring rows are: how unlike values are that lie
            as many rows apart as there are channels; how unlike the end of a row and the begin of the next are. Of
            series of 2 to 16 channels the same of values, over how unlike neighbouring values are.
        layout: What the layer takes for features: the dimension.
    """

    stage: str = "train"
    field: str = ""
    module: str = ""
    operation: str = ""
    line: str = ""
    shape: tuple[int, ...] = ()
    samples: int = 0
    steps: int = 1
    lowest: float = 0.0
    highest: float = 0.0
    root_mean_square: float = 0.0
    means: tuple[float, ...] = ()
    deviations: tuple[float, ...] = ()
    zeros: tuple[float, ...] = ()
    weights: tuple[float, ...] = ()
    whole: bool = False
    output: float | None = None
    normalised_after: bool = False
    roughness: tuple[float, ...] = ()
    regrouped: tuple[float, ...] = ()
    layout: int = 1


@dataclass(frozen=True, kw_only=True)
class RegressionFit(Evidence):
    """Predictions and targets of one regression loss call.

    Args:
        stage: ``"train"`` or ``"validate"``.
        function: ``"mse_loss"``, ``"l1_loss"`` …; ``"difference"`` for a squared or absolute one written by hand.
        line: The user's line of the call.
        elements: How many numbers were compared.
        target_mean: Mean of the targets.
        target_deviation: Their standard deviation.
        prediction_mean: Mean of the predictions.
        prediction_deviation: Their standard deviation.
        error: Mean squared difference.
        aligned: Whether predictions and targets have one shape.
    """

    stage: str = "train"
    function: str = ""
    line: str = ""
    elements: int = 0
    target_mean: float = 0.0
    target_deviation: float = 0.0
    prediction_mean: float = 0.0
    prediction_deviation: float = 0.0
    error: float = 0.0
    aligned: bool = True


@dataclass(frozen=True, kw_only=True)
class FitsOver(Evidence):
    """Training is over, and predictions are compared with targets no more.

    Args:
        broken_off: Whether something raised before its end.
    """

    broken_off: bool = False


@dataclass(frozen=True, kw_only=True)
class ClassFit(Evidence):
    """Predicted and true classes of the cross-entropy calls that were watched in one epoch.

    Args:
        stage: ``"train"`` or ``"validate"``.
        function: ``"cross_entropy"``, ``"nll_loss"`` …
        line: The user's line of the call.
        units: Classes that the scores tell apart.
        ignored: The ``ignore_index``.
        weighted: Whether the call weighs classes.
        plain: Whether targets are one class a sample.
        true: How often each class was true, among those watched (empty for more than 1000 classes).
        predicted: How often each had the highest score.
        hits: How often both.
        beside: Of each class, the label that stood most often beside it where it had the highest score, and how often.
    """

    stage: str = "train"
    function: str = ""
    line: str = ""
    units: int = 0
    ignored: int = -100
    weighted: bool = False
    plain: bool = True
    true: tuple[int, ...] = ()
    predicted: tuple[int, ...] = ()
    hits: tuple[int, ...] = ()
    beside: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, kw_only=True)
class LabelColumns(Evidence):
    """Columns of a table, or the last step of windows, that hold the label as exactly as a copy in other numbers does.

    Args:
        samples: Samples compared.
        inputs: Name of the field of the first column that holds the label; empty if none does.
        columns: Columns of that field.
        column: Which of them it is, from 0; of windows the place among all values of one.
        holding: How many columns of all fields hold it.
        used: Whether what the net gives to the loss changes with that column.
        field: Name of the labels.
        kind: ``"classes"`` or ``"amounts"``.
        step: The last step, from 0, where samples are windows of a series; -1 for tables.
        channel: Which channel of it; -1 where there is no dimension of channels.
        followed: Windows whose next value is known from another window.
        otherwise: How many of them go on with another value than the last.
    """

    samples: int = 0
    inputs: str = ""
    columns: int = 0
    column: int = -1
    holding: int = 0
    used: bool = False
    field: str = ""
    kind: str = "classes"
    step: int = -1
    channel: int = -1
    followed: int = 0
    otherwise: int = 0
