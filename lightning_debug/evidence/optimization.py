"""Evidence about what is optimised, and how: coverage, gradients between steps, updates, kept graphs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lightning_debug.evidence._base import Evidence


@dataclass(frozen=True, kw_only=True)
class WatchedParameter:
    """One trainable parameter that something is missing for.

    Args:
        name: Its path; ``"?"`` for one that hangs on no module.
        owner: Path of the module that holds it.
        owner_class: Class name of that module.
        shape: Its shape.
        numel: Its number of values.
        held_in: The plain list or dict that holds its module (``"layers"``), so that the model does not know it.
        untrained: Whether its values look as an initialisation leaves them; ``None`` when that cannot be told.
        sibling_optimized: Whether another parameter of the same module is in an optimizer.
        unfrozen: Whether it was frozen when training began.
        in_eval: Whether its module is in eval mode in training.
        batches: Batches looked at in which a gradient reached it.
        changed: Whether its values changed since it was first looked at.
        library: Whether its module stands inside a class of an installed library (torch's own apart).
        metric: Whether it belongs to a metric.
        twin: Whether the model holds a trained module of the same shapes (an average, a target network).
        spare: Whether it is what the last block of a row has to spare: that part of an earlier block is reached by a
            gradient, and so are other parts of its own block.
        instead: Path of a module of the same class and shapes that is called several times a batch instead of its own.
        calls: How its module is called in training: ``"never"``, ``"no_grad"``, ``"gradient"``; empty when not known.
        cut: How its module's code reads it, where that is without gradient: ``"self.place.data at file.py:31"``.
    """

    name: str
    owner: str = ""
    owner_class: str = ""
    shape: tuple[int, ...] = ()
    numel: int = 0
    held_in: str = ""
    untrained: bool | None = None
    sibling_optimized: bool = False
    unfrozen: bool = False
    in_eval: bool = False
    batches: int = 0
    changed: bool = False
    library: bool = False
    metric: bool = False
    twin: bool = False
    spare: bool = False
    instead: str = ""
    calls: str = ""
    cut: str = ""


@dataclass(frozen=True, kw_only=True)
class ParameterCoverage(Evidence):
    """Which trainable parameters that receive a gradient no optimizer holds.

    Args:
        batches: Batches looked at.
        optimizer_steps: Optimizer steps in them.
        trainable: Trainable parameters of the model.
        covered: How many of them an optimizer holds.
        missing: Those that receive a gradient and are in no optimizer.
        stale: Shapes of the tensors that optimizers hold, that are not in the model, and that receive no gradient.
    """

    batches: int = 0
    optimizer_steps: int = 0
    trainable: int = 0
    covered: int = 0
    missing: tuple[WatchedParameter, ...] = ()
    stale: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, kw_only=True)
class ParametersWithoutGradient(Evidence):
    """Trainable parameters in an optimizer that no gradient has reached so far, told at the end of epochs.

    Args:
        epochs: Whole epochs seen.
        batches: Batches trained on.
        ended: Whether training is over.
        parameters: Those parameters.
        trainable: Trainable parameters of the model.
    """

    epochs: int = 0
    batches: int = 0
    ended: bool = False
    parameters: tuple[WatchedParameter, ...] = ()
    trainable: int = 0


@dataclass(frozen=True, kw_only=True)
class TrainingEffect(Evidence):
    """Whether training changes the weights of the model at all.

    Args:
        batches: Batches trained on.
        optimizer_steps: Optimizer steps seen or counted.
        backward_passes: Backward passes seen.
        trainable: Trainable parameters of the model.
        frozen: Frozen ones.
        compared: Trainable parameters whose values were compared with those at the start.
        changed: How many of them differ by at least one bit.
        in_optimizer: Trainable parameters that an optimizer holds.
        optimized: Parameters that optimizers hold.
        followed: Whether gradients could be seen arriving (not in compiled models).
        with_gradient: Trainable parameters that a gradient reached.
        nonzero_gradient: How many of them received one that is not zero throughout.
        finite: Whether all those gradients are finite.
        rate: Highest learning rate in the steps looked at; ``None`` when not known.
        future_rate: Highest learning rate still to come; ``None`` when not known.
        update_norm: Norm of what the optimizer was asked to add, as learning rate times gradient norm, per weight norm.
        automatic: Whether Lightning drives the optimizer.
        returned: Whether ``training_step`` may return something.
        ended: Whether training is over.
    """

    batches: int = 0
    optimizer_steps: int = 0
    backward_passes: int = 0
    trainable: int = 0
    frozen: int = 0
    compared: int = 0
    changed: int = 0
    in_optimizer: int = 0
    optimized: int = 0
    followed: bool = True
    with_gradient: int = 0
    nonzero_gradient: int = 0
    finite: bool = True
    rate: float | None = None
    future_rate: float | None = None
    update_norm: float | None = None
    automatic: bool = True
    returned: bool = True
    ended: bool = False


@dataclass(frozen=True, kw_only=True)
class GradientCarryover(Evidence):
    """What happens to gradients between the steps of one optimizer, over consecutive batches.

    Args:
        optimizer: Its class name.
        index: Its place among the Trainer's optimizers; -1 for one that the Trainer does not know.
        optimizers: How many optimizers stepped or are known.
        batches: Consecutive batches looked at.
        steps: Steps of this optimizer in them.
        carried: Steps whose gradient still held all of the gradient of the step before.
        carried_norm: Norm of what was carried into the last of them.
        fresh_norm: Norm of the gradient that was added to it.
        lost: Batches whose gradient was deleted before any step took it.
        automatic: Whether Lightning drives the optimizer.
        accumulate: ``accumulate_grad_batches`` of the Trainer.
        overridden: Whether ``optimizer_zero_grad`` or ``optimizer_step`` is the user's own.
    """

    optimizer: str = ""
    index: int = 0
    optimizers: int = 1
    batches: int = 0
    steps: int = 0
    carried: int = 0
    carried_norm: float = 0.0
    fresh_norm: float = 0.0
    lost: int = 0
    automatic: bool = True
    accumulate: int = 1
    overridden: bool = False


@dataclass(frozen=True, kw_only=True)
class GroupUpdate:
    """One optimizer step on one parameter group, from the real change of its weights.

    Args:
        optimizer: Class name and, with several, the index of the optimizer.
        group: Index of the group.
        rate: Its learning rate; ``None`` when not a number.
        weight_decay: Its weight decay.
        decoupled: Whether the decay acts on the weights, not through the gradient (AdamW).
        maximize: Whether the group asks for ascent.
        weight_norm: Norm of the weights before the step.
        update_norm: Norm of their change.
        gradient_norm: Norm of the gradient the step used.
        slope: Inner product of gradient and change: negative for a step downhill.
        matrix_norm: Norm of those weights that have two dimensions or more.
        matrix_gradient_norm: Norm of their gradient.
    """

    optimizer: str = ""
    group: int = 0
    rate: float | None = None
    weight_decay: float = 0.0
    decoupled: bool = False
    maximize: bool = False
    weight_norm: float = 0.0
    update_norm: float = 0.0
    gradient_norm: float = 0.0
    slope: float = 0.0
    matrix_norm: float = 0.0
    matrix_gradient_norm: float = 0.0


@dataclass(frozen=True, kw_only=True)
class UpdateAudit(Evidence):
    """The optimizer steps of one batch looked at.

    Args:
        groups: One entry a parameter group and step.
        first: Whether it is the first step of an optimizer without state, so that no momentum takes part.
        loss_sign: 1 where the loss is a positive multiple of a known loss function, -1 where of its negative, else 0.
        loss_function: That function.
        against: A known loss function that enters a sum with a minus, beside another with a plus; else empty.
        optimizers: How many optimizers there are.
        automatic: Whether Lightning drives the optimizer.
        single: Whether no batch so far had more than one backward pass.
        frozen_share: Share of the model's parameters that are frozen.
        words: Words in the user's source that speak of ascent on purpose.
        steps: Optimizer steps since training began.
    """

    groups: tuple[GroupUpdate, ...] = ()
    first: bool = False
    loss_sign: int = 0
    loss_function: str = ""
    against: str = ""
    optimizers: int = 1
    automatic: bool = True
    single: bool = False
    frozen_share: float = 0.0
    words: tuple[str, ...] = ()
    steps: int = 0

    def scalars(self) -> Mapping[str, float]:
        """The ratio of update to weight by parameter group."""
        result = {}
        for item in self.groups:
            if item.weight_norm > 0.0:
                result[f"update_to_weight/{item.optimizer}.{item.group}"] = item.update_norm / item.weight_norm
        return result


@dataclass(frozen=True, kw_only=True)
class KeptGraphs(Evidence):
    """An attribute of the model that holds values with their graphs, over several looks.

    Args:
        path: The attribute: ``"self.losses"``.
        kind: ``"list"`` (of such values) or ``"sum"`` (one value whose graph grows).
        sizes: Values held, or nodes of the graph, at each look.
        epochs: Epoch of each look.
        batches: Batches trained on at each look.
        bytes_held: Memory of the values themselves at the last look.
    """

    path: str = ""
    kind: str = "list"
    sizes: tuple[int, ...] = ()
    epochs: tuple[int, ...] = ()
    batches: tuple[int, ...] = ()
    bytes_held: int = 0


@dataclass(frozen=True, kw_only=True)
class ScaledClipping(Evidence):
    """Sizes of one optimizer's gradients under a gradient scaler, of those of its first steps that were finite.

    Args:
        arrived: Size of the gradient as backward left it, multiplied by the scale.
        clipped: Size of the same gradient when the scaler was about to unscale it.
        size: Of what: its "norm", or its largest absolute "value".
        scales: The scaler's scale at each of these steps.
        index: The optimizer's position among the Trainer's.
        automatic: Whether Lightning drives the optimizer.
        own: Whether the scaler is one that the module made for itself.
        line: ``file.py:31`` of the only line of the module's hooks that clips gradients; empty where there are others.
    """

    arrived: tuple[float, ...] = ()
    clipped: tuple[float, ...] = ()
    size: str = "norm"
    scales: tuple[float, ...] = ()
    index: int = 0
    automatic: bool = False
    own: bool = False
    line: str = ""
