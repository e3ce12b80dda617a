"""Evidence about the run itself, and about this tool's own failures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lightning_debug.evidence._base import Evidence


@dataclass(frozen=True, kw_only=True)
class RunContext(Evidence):
    """How the run was set up, read once when training starts.

    Args:
        model: Qualified class name of the LightningModule.
        parameters: Number of trainable parameters.
        strategy: Class name of Lightning's strategy.
        precision: Lightning's precision string, such as ``"32-true"`` or ``"16-mixed"``.
        world_size: Number of processes.
        device: Root device of this rank.
        automatic_optimization: Whether Lightning drives the optimizer.
        accumulate_grad_batches: Micro-batches an optimizer step.
        optimizers: Class name of each optimizer.
        compiled: Whether any part of the model is compiled.
        has_validation: Whether a validation loop will run.
        max_epochs: Planned epochs; -1 or ``None`` when not bounded by epochs.
        planned_steps: Planned batches in the whole fit; ``None`` when not known.
        resumed: Whether training continues from a checkpoint.
        versions: Version by package.
    """

    model: str = ""
    parameters: int = 0
    strategy: str = ""
    precision: str = ""
    world_size: int = 1
    device: str = "cpu"
    automatic_optimization: bool = True
    accumulate_grad_batches: int = 1
    optimizers: tuple[str, ...] = ()
    compiled: bool = False
    has_validation: bool = False
    max_epochs: int | None = None
    planned_steps: int | None = None
    resumed: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)


class Hindrance(str):
    """A reason that tells of something in the way which can be changed, rather than of a rule that does not apply.

    Time that was used up, a compiled model, what cannot be run and put back, a run or step that broke off.

    >>> Hindrance("the model is compiled")
    'the model is compiled'
    """

    __slots__ = ()


@dataclass(frozen=True, kw_only=True)
class Unavailable(Evidence):
    """A kind of evidence that could not be had, and why: rules that need it are skipped with the reason.

    Args:
        evidence: The kind (class name) that is missing.
        reason: Why, as half a sentence that can follow "not judged, because".
        hindrance: Whether that can be changed; so it is where the reason is a :class:`Hindrance`.
    """

    evidence: str
    reason: str
    hindrance: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.reason, Hindrance):
            object.__setattr__(self, "hindrance", True)
            object.__setattr__(self, "reason", str.__str__(self.reason))


@dataclass(frozen=True, kw_only=True)
class ProbeFailure(Evidence):
    """One of our own probes or callbacks raised; training went on without it.

    Args:
        where: Callback and hook, or probe.
        error: Type and text of the exception.
        traceback: The formatted traceback.
        given_up: Whether that hook was switched off for the rest of the fit.
    """

    where: str
    error: str
    traceback: str
    given_up: bool = False


@dataclass(frozen=True, kw_only=True)
class RuleFailure(Evidence):
    """One of our own rules raised.

    Args:
        code: The rule's code.
        error: Type and text of the exception.
        traceback: The formatted traceback.
    """

    code: str
    error: str
    traceback: str


@dataclass(frozen=True, kw_only=True)
class TrainedPart(Evidence):
    """From one epoch to the next some parameters are not trained any more, and others begin to be: a phase ends.

    They stop requiring gradients, get none, or belong to an optimizer whose turn is over. Or some only begin to be
    trained that were free to be all along, and that nothing has used.

    Args:
        step: Batches trained on before the phase that begins.
        left: Parameters that were trained before and are not any more.
        joined: Parameters that were not trained before.
    """

    step: int = 0
    left: int = 0
    joined: int = 0
