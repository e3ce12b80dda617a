"""Evidence about the model: what its outputs depend on, and how it is built. Most of it comes from interventions."""

from __future__ import annotations

from dataclasses import dataclass

from lightning_debug.evidence._base import Evidence


@dataclass(frozen=True, kw_only=True)
class Place:
    """One call in the model.

    Args:
        name: Canonical name of the call: ``"linear"``, ``"softmax"``.
        module: Path of the innermost module whose ``forward`` ran; ``""`` for the root.
        module_type: Class name of that module.
        line: The user's line, ``train.py:31``.
        shape: Shape of its output.
        dim: The dimension it works along, as the user gave it.
    """

    name: str = ""
    module: str = ""
    module_type: str = ""
    line: str = ""
    shape: tuple[int, ...] = ()
    dim: int | None = None


@dataclass(frozen=True, kw_only=True)
class SampleMixing(Evidence):
    """What became of other samples' outputs when one sample of a batch was replaced, in eval mode.

    Args:
        samples: How many samples the batch held.
        judged: How many outputs of layers, and predictions, were compared.
        reached: Whether a prediction changed with the sample that was replaced.
        mixed: Outputs with elements that changed with each of two samples.
        first: The first call whose output is such a mixture; empty where it was not found.
        output: The output farthest on that mixes.
        pair: The two samples that were replaced in turn.
        share: Share of that output's elements that depend on both.
        misaligned: Share of predictions that belong to one sample and are compared with the target of another.
        prediction: The loss call where that happens.
        batch_first: Whether the module of the first call was built with ``batch_first=True``.
        declared: A name that says samples are meant to meet.
        paired: The line that puts samples in the places of others before the model, for a loss without targets.
        dealt: The line where samples meet first, if it only deals rows anew that none of them made (noise, say).
    """

    samples: int = 0
    judged: int = 0
    reached: bool = False
    mixed: int = 0
    first: Place = Place()
    output: Place = Place()
    pair: tuple[int, int] = (0, 0)
    share: float = 0.0
    misaligned: float = 0.0
    prediction: Place = Place()
    batch_first: bool = False
    declared: str = ""
    paired: str = ""
    dealt: str = ""


@dataclass(frozen=True, kw_only=True)
class FutureLeak(Evidence):
    """What became of earlier outputs when the later part of a sequence was replaced, in eval mode.

    Args:
        field: The batch field whose steps are predicted one ahead, such as ``"batch['input_ids']"``.
        function: The loss call.
        line: The user's line of it.
        steps: Length of the sequence of predictions.
        cut: First position of the input that was replaced.
        next_share: Share of targets that equal the input one step later.
        same_share: Share of targets that equal the input at the same step.
        changed: Share of predictions before ``cut`` that changed.
        after: Share of predictions from ``cut`` on that changed.
        change: Largest change before ``cut``, as a share of the largest prediction.
        first: The first call whose output before ``cut`` changed; empty where it was not found.
        readings: How many calls read that field.
    """

    field: str = ""
    function: str = ""
    line: str = ""
    steps: int = 0
    cut: int = 0
    next_share: float = 0.0
    same_share: float = 0.0
    changed: float = 0.0
    after: float = 0.0
    change: float = 0.0
    first: Place = Place()
    readings: int = 1


@dataclass(frozen=True, kw_only=True)
class InputDependence(Evidence):
    """What became of predictions when every sample was given another's input, in eval mode.

    Args:
        function: The loss call that receives the predictions.
        line: The user's line of it.
        module: Module that made the predictions; ``""`` for the root.
        samples: How many samples were exchanged.
        steps: Optimizer steps so far.
        last: Whether training is over.
        change: Largest change of a prediction.
        scale: Largest magnitude of a prediction.
        spread: What a prediction is to tell apart: standard deviation of its targets, or 1 for class scores.
        targets_vary: Whether the targets of these samples differ.
        cause: The first call on the way whose output no longer changes, though its input does.
        unreached: The first call of the model that takes something of the batch, where none of the model's changes.
    """

    function: str = ""
    line: str = ""
    module: str = ""
    samples: int = 0
    steps: int = 0
    last: bool = False
    change: float = 0.0
    scale: float = 0.0
    spread: float = 1.0
    targets_vary: bool = True
    cause: Place = Place()
    unreached: Place = Place()


@dataclass(frozen=True, kw_only=True)
class NormInput:
    """What a batch-norm in train mode is given.

    Args:
        path: Path in the model.
        class_name: Its class.
        per_sample: Values of a channel that one sample brings.
    """

    path: str
    class_name: str = "BatchNorm1d"
    per_sample: float = 1.0


@dataclass(frozen=True, kw_only=True)
class BatchNormBatches(Evidence):
    """How many values batch-norms in train mode average over.

    Args:
        batch_size: Samples of a full batch on this rank.
        ranks: Over how many ranks synchronised batch-norms average.
        last_batch: Samples of the last batch of an epoch; ``None`` where that cannot be foretold.
        dataset_size: Samples of an epoch on this rank; ``None`` where not known.
        norms: The batch-norms.
    """

    batch_size: int = 0
    ranks: int = 1
    last_batch: int | None = None
    dataset_size: int | None = None
    norms: tuple[NormInput, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AlikeUnits:
    """A weight whose rows, one a unit, are all equal.

    Args:
        name: Parameter's name.
        shape: Its shape.
        value: The value all entries have; ``None`` where only the rows are equal.
        moved: Whether training has changed it since the start.
        gradient_alike: Whether the rows of its gradient are equal too; ``None`` where it got none.
        gradient_zero: Whether its gradient is exactly zero.
        woken: Whether random values in the place of zeros would bring it a gradient.
    """

    name: str
    shape: tuple[int, ...] = ()
    value: float | None = None
    moved: bool = False
    gradient_alike: bool | None = None
    gradient_zero: bool = False
    woken: bool = False


@dataclass(frozen=True, kw_only=True)
class LayerSignal:
    """How a layer scales its input before training.

    Args:
        place: The layer's call.
        before: Root mean square of its input.
        after: Root mean square of its output.
    """

    place: Place = Place()
    before: float = 0.0
    after: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Initialisation(Evidence):
    """How the weights were before training, and whether that still shows after a few steps.

    Args:
        steps: Optimizer steps between the two looks.
        loss: The loss at the second look.
        others_move: Whether some parameter has changed between the looks.
        alike: Weights of several units that were equal at both looks.
        signals: The layers in a row, before training.
    """

    steps: int = 0
    loss: float | None = None
    others_move: bool = True
    alike: tuple[AlikeUnits, ...] = ()
    signals: tuple[LayerSignal, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LinearPair:
    """Two linear layers, one fed by the other without a nonlinearity between.

    Args:
        first: The layer that comes first.
        second: The layer it feeds.
        widths: Features before, between and after them.
        siblings: Whether one module's ``forward`` calls both, and not for coefficients (few, no bias) of a basis.
        shared: Whether something else uses the first one's output as well.
        grouped: Whether one is a convolution in groups, or half of a separable one, or just one is of size 1.
        attention: Whether one of them makes or takes what attention exchanges.
        tied: Whether they share their weight.
    """

    first: Place
    second: Place
    widths: tuple[int, int, int] = (0, 0, 0)
    siblings: bool = True
    shared: bool = False
    grouped: bool = False
    attention: bool = False
    tied: bool = False


@dataclass(frozen=True, kw_only=True)
class LinearChain(Evidence):
    """Linear layers that feed each other directly, in one forward pass.

    Args:
        layers: Layers called.
        nonlinear: Whether anything between the first layer and the loss is nonlinear.
        pairs: Layers that feed each other.
    """

    layers: int = 0
    nonlinear: bool = True
    pairs: tuple[LinearPair, ...] = ()
