"""Evidence about train and eval mode: who is in which, since when, and whether it takes part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lightning_debug.evidence._base import Evidence


@dataclass(frozen=True, kw_only=True)
class ModeChange:
    """How a module came into its mode.

    Args:
        phase: ``"before fit"``, or the hook in which it happened: ``"on_train_start"``, ``"training_step"`` …
        epoch: Epoch in which it was first seen.
        step: Step at which it was first seen.
        hook: Class and function that did it: ``"LitModel.training_step"``; ``""`` when not known.
        line: ``file.py:31`` where it happens; ``""`` when not known.
        via: Library function that the line calls and that does it in turn; ``""`` when it is the line itself.
        through: Functions of the user's between that hook and the call, the outermost first.
        watched: Whether the call itself was seen; else ``line`` is where that hook's code mentions it.
        restored: Whether Lightning noted this mode when validation began, and puts it back each time.
        override: The overridden hook of Lightning's that should have put the mode back; ``""`` when there is none.
    """

    phase: str = ""
    epoch: int = 0
    step: int = 0
    hook: str = ""
    line: str = ""
    via: str = ""
    through: tuple[str, ...] = ()
    watched: bool = False
    restored: bool = False
    override: str = ""


@dataclass(frozen=True, kw_only=True)
class EvalModule:
    """A module in eval mode during training whose mode matters.

    Args:
        path: Path in the model.
        class_name: Its class.
        role: ``"dropout"``, ``"batch-norm"``, ``"recurrent"``, ``"attention"``, ``"activation"`` or ``"custom"``.
        root: The outermost module around it that is in eval with it: where ``eval()`` was called; ``""`` for all.
        root_class: Class of ``root``.
        alone: Whether its parent is in train mode.
        hollow: Whether modules inside it are in train mode all the same.
        pinned: Class around it whose own ``train()`` keeps parts in eval; ``""`` when there is none.
        pretrained: Path of the Hugging Face model around it; ``""`` when there is none.
        pretrained_class: That model's class.
        eval_calls: Forward calls in eval mode with gradients enabled, in the steps looked at; ``None`` where calls
            cannot be seen.
        train_calls: Such calls in train mode since it was first found in eval.
        gradient: Whether a gradient came back through it.
        stepped: Whether the parameters it acts on were trainable then and an optimizer that holds them stepped.
        change: How it came into eval.
    """

    path: str
    class_name: str
    role: str
    root: str = ""
    root_class: str = ""
    alone: bool = False
    hollow: bool = False
    pinned: str = ""
    pretrained: str = ""
    pretrained_class: str = ""
    eval_calls: int | None = None
    train_calls: int = 0
    gradient: bool = False
    stepped: bool = False
    change: ModeChange = field(default_factory=ModeChange)

    @property
    def takes_part(self) -> bool:
        """Whether what it computes in eval mode was trained: called, crossed by a gradient, and stepped on."""
        return self.eval_calls != 0 and not self.train_calls and self.gradient and self.stepped


@dataclass(frozen=True, kw_only=True)
class TrainingModes(Evidence):
    """Modes during a step of training, once that step is over.

    Args:
        model: Class name of the LightningModule.
        watched: Modules whose mode matters.
        in_eval: Those in eval mode.
        in_train: Number in train mode, by role.
        unseen: Why it could not be seen whether modules in eval take part; ``""`` when it could.
        fixed: Whether those at fault are put back into train mode after this step.
    """

    model: str = ""
    watched: int = 0
    in_eval: tuple[EvalModule, ...] = ()
    in_train: Mapping[str, int] = field(default_factory=dict)
    unseen: str = ""
    fixed: bool = False


@dataclass(frozen=True, kw_only=True)
class TrainModule:
    """A module that is in train mode during validation or test.

    Args:
        path: Path in the model.
        class_name: Its class.
        role: As in :class:`EvalModule`, without ``"custom"``.
        root: The outermost module around it that is in train mode with it; ``""`` for the whole model.
        alone: Whether its parent is in eval mode.
        train_calls: Forward calls in train mode in the batch looked at; ``None`` where calls cannot be seen.
        left: Whether it was in train mode outside ``validation_step`` too.
        updates: Times its running statistics were updated in that batch.
        draws: Times that it, or a module around it, was given one and the same tensor in train mode there.
        change: How it came into train mode.
    """

    path: str
    class_name: str
    role: str
    root: str = ""
    alone: bool = False
    train_calls: int | None = None
    left: bool = False
    updates: int = 0
    draws: int = 1
    change: ModeChange = field(default_factory=ModeChange)


@dataclass(frozen=True, kw_only=True)
class ValidationModes(Evidence):
    """Modes during a batch of validation or test, once that batch is over.

    Args:
        model: Class name of the LightningModule.
        watched: Modules whose mode matters.
        in_train: Those in train mode.
        fixed: Whether those at fault are put into eval mode after this batch.
    """

    model: str = ""
    watched: int = 0
    in_train: tuple[TrainModule, ...] = ()
    fixed: bool = False


@dataclass(frozen=True, kw_only=True)
class FrozenBatchNorm:
    """A batch-norm with frozen weights that is in train mode.

    Args:
        path: Path in the model.
        class_name: Its class.
        root: The outermost module around it all of whose parameters are frozen.
        feeder: Path of the layer with parameters that ran before it; ``""`` when there was none.
        feeder_frozen: Whether all parameters of that layer are frozen.
        input_trained: Whether its input needed a gradient: something before it is trained.
        updates: Times its statistics were updated over the steps looked at.
        shift: Largest move of a channel's running mean over them, in standard deviations of that channel.
        weights_changed: Whether the frozen weights changed all the same (a moving average of another network).
        adapting: Whether its statistics are made anew on purpose: averaged over all batches, or reset beside trained
            weights.
        twin: Path of a trainable module of the class of ``root`` with the same parameter shapes; ``""`` if none.
        flipped: Whether it was in eval mode earlier in the fit.
        override: The overridden ``on_validation_model_train`` that flipped it; ``""`` when none did.
        thawed: Whether its weights are trained by now: they were frozen for the first steps or epochs only.
    """

    path: str
    class_name: str
    root: str = ""
    feeder: str = ""
    feeder_frozen: bool = False
    input_trained: bool = False
    updates: int = 0
    shift: float = 0.0
    weights_changed: bool = False
    adapting: bool = False
    twin: str = ""
    flipped: bool = False
    override: str = ""
    thawed: bool = False


@dataclass(frozen=True, kw_only=True)
class FrozenBatchNorms(Evidence):
    """Batch-norms with frozen weights in train mode, over a few steps.

    Args:
        steps: Steps between the two looks.
        layers: Those that were there at both looks.
    """

    steps: int = 0
    layers: tuple[FrozenBatchNorm, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DropoutCall:
    """A dropout that ran although every module around it was in eval mode.

    Args:
        function: Such as ``"dropout"`` or ``"scaled_dot_product_attention"``.
        module: Path of the module whose forward made the call; ``""`` for the LightningModule.
        module_class: Its class.
        line: ``file.py:31`` of the user's code.
        probability: Drop probability.
        calls: Times in one step.
        declared: Name that says it is meant (Monte Carlo dropout, a prenet); ``""`` when none does.
        layer: Class of the dropout layer that made it and that the model does not hold; ``""`` if none did.
    """

    function: str
    module: str
    module_class: str
    line: str
    probability: float
    calls: int = 1
    declared: str = ""
    layer: str = ""


@dataclass(frozen=True, kw_only=True)
class DropoutInEval(Evidence):
    """Dropouts that ran in one isolated step with the whole model in eval mode.

    Args:
        step: ``"validation_step"`` or ``"training_step"``; ``""`` where every dropout in the code obeys the
            mode as it is written, and nothing had to run.
        calls: The dropouts that ran.
    """

    step: str = ""
    calls: tuple[DropoutCall, ...] = ()


@dataclass(frozen=True, kw_only=True)
class NormState:
    """A batch-norm and its running statistics.

    Args:
        path: Path in the model.
        class_name: Its class.
        momentum: As set; ``None`` for a plain average.
        updates: Updates of its statistics so far; ``None`` where they are not counted.
        untouched: Whether its statistics are what a new layer has: mean 0, variance 1.
        distance: Largest distance of a channel's running mean from that of the batch, in the batch's deviations.
        tracks: Its ``track_running_stats``.
        calls: How often one training step calls it; 0 where it is not counted.
    """

    path: str
    class_name: str = "BatchNorm1d"
    momentum: float | None = 0.1
    updates: int | None = None
    untouched: bool = False
    distance: float = 0.0
    tracks: bool = True
    calls: int = 0


@dataclass(frozen=True, kw_only=True)
class ModeGap(Evidence):
    """The loss of one training batch in train mode, in eval mode, and in eval mode with the batch's own statistics.

    Args:
        samples: How many samples the batch held.
        steps: Training steps so far.
        first_loss: Its loss in train mode before training.
        train_loss: In train mode now.
        eval_loss: In eval mode now.
        cured_loss: In eval mode, once batch-norms held the statistics of this batch.
        norms: Batch-norms with running statistics that are in train mode in training.
        last: Whether training is over.
    """

    samples: int = 0
    steps: int = 0
    first_loss: float = 0.0
    train_loss: float = 0.0
    eval_loss: float = 0.0
    cured_loss: float = 0.0
    norms: tuple[NormState, ...] = ()
    last: bool = False
