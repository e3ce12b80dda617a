"""Evidence about whether the loss is the right one, has the right size, and means the same everywhere."""

from __future__ import annotations

from dataclasses import dataclass

from lightning_debug.evidence._base import Evidence


@dataclass(frozen=True, kw_only=True)
class BatchField:
    """One tensor of a training batch.

    Args:
        name: Where it is, such as ``"batch['label']"``; named as in :class:`LossGraph`.
        dtype: Its dtype, such as ``"int64"``.
        shape: Its shape.
        equals: Name of an earlier field of the same shape and values; ``""`` if none.
        lowest: Least value, for whole numbers; ``None`` for others.
        highest: Greatest value, likewise.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] = ()
    equals: str = ""
    lowest: int | None = None
    highest: int | None = None


@dataclass(frozen=True, kw_only=True)
class StatedIntent(Evidence):
    """What the program says it is doing: names, and words in its source.

    Args:
        fields: The tensors of the training batch.
        logged: Names that ``self.log`` received in the steps watched, in order of first sight.
        metrics: Class names of the torchmetrics metrics among the modules.
        words: Which of the words that were looked for stand in the source of the user's classes
            (methods, docstrings and names), in lower case.
    """

    fields: tuple[BatchField, ...] = ()
    logged: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LabelOrder(Evidence):
    """Whether the order of integer labels shows in the inputs, measured over the first training batches.

    Args:
        field: The labels' batch field, such as ``"batch[1]"``.
        classes: Distinct labels seen.
        lowest: Least label.
        highest: Greatest label.
        samples: How many samples were measured.
        fewest: Samples of the rarest class seen.
        separation: Ratio of the inputs' variance between classes to that within (pseudo F); ``None`` where
            there is no floating-point input, or too few samples.
        separation_p: Share of label permutations with at least that separation, counting the labels as given.
        rank_correlation: Spearman correlation over pairs of classes between the distance of their mean inputs
            (less what sampling adds) and the difference of their labels; ``None`` with fewer than 3 pairs.
        pairs: How many pairs of classes that is.
    """

    field: str
    classes: int
    lowest: int
    highest: int
    samples: int
    fewest: int = 0
    separation: float | None = None
    separation_p: float | None = None
    rank_correlation: float | None = None
    pairs: int = 0


@dataclass(frozen=True, kw_only=True)
class EarlierTraining(Evidence):
    """Whether the weights were trained before this fit, read off normalisation and frozen layers when it starts.

    Args:
        layers: How many normalisation layers with weights or running statistics there are.
        trained: Paths of those whose statistics or weights no initialisation leaves behind, at most 8; else of frozen
            layers with weights above what torch draws; or that it was in an earlier fit of this process.
        tied: Linear layers whose weight is an embedding's, and that embedding, by path.
    """

    layers: int = 0
    trained: tuple[str, ...] = ()
    tied: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class BatchScaling(Evidence):
    """The loss of one batch, whole and in two parts: eval mode, same weights, same random numbers.

    Args:
        samples: Samples in the whole batch.
        whole: Its loss.
        cuts: Where it was cut: samples in the first part of each cut.
        parts: Loss of the first and of the second part, by cut.
        function: The call that the loss is the value of: ``"cross_entropy"``, ``"sum"`` …
        line: The user's line of that call.
        reduction: Its ``reduction`` argument, if it has one.
        terms: How many calls with a value for the whole batch the loss was added up from.
        draws: Whether the step draws random numbers in eval mode, as a variational autoencoder does.
        drawn: Where it does and one call sums: the losses of the whole and of its halves, each with numbers of its own,
            several times.
        batches: Batches in one epoch; ``None`` when not known.
        rescaled: Whether a hook between backward and the update is seen to scale gradients.
    """

    samples: int
    whole: float
    cuts: tuple[int, ...] = ()
    parts: tuple[tuple[float, float], ...] = ()
    function: str = ""
    line: str = ""
    reduction: str = ""
    terms: int = 1
    draws: bool = False
    drawn: tuple[tuple[float, ...], ...] = ()
    batches: int | None = None
    rescaled: bool = False


@dataclass(frozen=True, kw_only=True)
class ValidationLossComparison(Evidence):
    """The same batch in ``training_step`` and ``validation_step``: eval mode, same weights, same random numbers.

    Args:
        relation: How what the validation's loss call was given relates to what the training's was given:
            ``"equal"``; ``"softmax"``, ``"sigmoid"`` (of the training's scores); ``"unnormalised"`` (scores for
            log-probabilities); ``"rearranged"`` (the same numbers in another order against the same targets);
            ``"shifted"`` (the same scores against targets moved by one position); ``"summed"`` (the training's
            value times the number of its elements or samples, logged as the loss); ``"divided"`` (by it);
            ``"unknown"``.
        samples: Samples in the batch.
        function: The validation's loss function.
        line: The user's line of that call.
        value: Its value.
        training_function: The training's loss function.
        training_line: The user's line of that call.
        training_value: Its value.
        key: The name under which the deviating value was logged, if it was.
        factor: For ``"summed"``: how often the training's value the logged value is; the reverse for ``"divided"``.
    """

    relation: str
    samples: int | None = None
    function: str = ""
    line: str = ""
    value: float | None = None
    training_function: str = ""
    training_line: str = ""
    training_value: float | None = None
    key: str = ""
    factor: float | None = None


@dataclass(frozen=True, kw_only=True)
class UnevenCounts(Evidence):
    """Losses that were means over targets, of the micro-batches of one accumulation window.

    Args:
        accumulate: Micro-batches an optimizer step.
        counts: Targets that the mean of each micro-batch was taken over (at most 12 of them are watched).
        losses: Their losses.
        samples: Samples in each; ``None`` where that is not known.
        masked: Whether targets are left out by a mask or ``ignore_index``.
        function: The call that took the mean: ``"cross_entropy"``, ``"div"``, ``"mean"``.
        line: The user's line of that call.
    """

    accumulate: int
    counts: tuple[float, ...] = ()
    losses: tuple[float, ...] = ()
    samples: tuple[int | None, ...] = ()
    masked: bool = False
    function: str = ""
    line: str = ""
