"""Evidence about exceptions: what a step raised, what met there, and the shapes on the way to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from lightning_debug.evidence._base import Evidence

_ASKERS = (
    ("EarlyStopping", re.compile(r"Early stopping conditioned on metric `(.+?)` which is not available")),
    ("ModelCheckpoint", re.compile(r"`ModelCheckpoint\(monitor='(.+?)'\)` could not find the monitored key")),
    ("ReduceLROnPlateau", re.compile(r"ReduceLROnPlateau conditioned on metric (.+?) which is not available")),
)
"""What Lightning raises where a callback or a schedule looks up a value that nothing has logged."""
_READ = re.compile(r"\b(callback_metrics|logged_metrics|progress_bar_metrics)\b")


@dataclass(frozen=True, kw_only=True)
class ErrorOperand:
    """A tensor that an operation was given.

    Args:
        name: As the user finds it: ``batch['image']``, a parameter's path, a local variable's name, or what made it.
        kind: ``"batch"``, ``"parameter"``, ``"buffer"``, ``"attribute"`` (a tensor that a module keeps without
            registering it), ``"computed"`` (by an operation of the step) or ``""``.
        argument: What the operation calls it, or its position.
        shape: Its shape.
        dtype: Its dtype, without ``torch.``.
        device: Its device.
        minimum: Smallest value, of integers only; ``None`` when not read.
        maximum: Largest value, likewise.
        second: Largest value below that one, likewise.
        lowest: Smallest value, of floats only; ``None`` when not read, or not finite.
        highest: Largest value, likewise.
        nan: Whether it is known to hold NaN.
        made_by: The operation of the step that made it.
        made_at: The line of that operation.
    """

    name: str = ""
    kind: str = ""
    argument: str = ""
    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    device: str = "cpu"
    minimum: int | None = None
    maximum: int | None = None
    second: int | None = None
    lowest: float | None = None
    highest: float | None = None
    nan: bool = False
    made_by: str = ""
    made_at: str = ""


@dataclass(frozen=True, kw_only=True)
class ShapeRow:
    """One line of a table of shapes: a module of torch's, or an operation in the user's own code.

    Args:
        module: Path of the module; ``""`` for the root.
        module_type: Class name of that module.
        operation: Name of torch's call (the last one, where a module makes several).
        line: ``file.py:31`` in the user's code.
        inputs: Shapes of what it was given (parameters left out).
        output: Shape of what it made; empty for a scalar.
        batch: For each dimension of ``output`` how often it holds the batch: 1 for the batch dimension, 2 where it is
            twice as long, 0 for a dimension that does not depend on the batch.
        given: Likewise for each of ``inputs``; empty where that is not known.
        grouped: Whether it stands for a whole module of torch's.
        gradient: Whether the output is part of a graph.
        given_gradient: Whether an input was.
        recording: Whether gradients were being recorded.
        in_place: Whether it changed its input in place.
    """

    module: str = ""
    module_type: str = ""
    operation: str = ""
    line: str = ""
    inputs: tuple[tuple[int, ...], ...] = ()
    output: tuple[int, ...] = ()
    batch: tuple[int, ...] = ()
    given: tuple[tuple[int, ...], ...] = ()
    grouped: bool = False
    gradient: bool = False
    given_gradient: bool = False
    recording: bool = True
    in_place: bool = False


@dataclass(frozen=True, kw_only=True)
class MemoryOwners:
    """Who holds memory when none is left, in bytes.

    Args:
        parameters: Parameters and buffers.
        gradients: Gradients, counted as if every trainable parameter had one.
        optimizer: Optimizer state as it is now.
        optimizer_expected: What it grows to after the first step, from the kind of optimizer.
        activations: What the step keeps for the backward pass at this batch size; ``None`` when not measured.
        per_sample: What one more sample adds to that; ``None`` when not measured.
        capacity: Memory that there is for this process; ``None`` when not known.
        batch_size: Samples of the batch; ``None`` when not known.
        requested: What was asked for in vain; ``None`` when not told.
        used: What was in use before the step; ``None`` when not measured.
    """

    parameters: int = 0
    gradients: int = 0
    optimizer: int = 0
    optimizer_expected: int = 0
    activations: int | None = None
    per_sample: int | None = None
    capacity: int | None = None
    batch_size: int | None = None
    requested: int | None = None
    used: int | None = None


@dataclass(frozen=True, kw_only=True)
class ErrorRaised(Evidence):
    """An exception of the user's program, or one that is sure to come, with what met where it was raised.

    Args:
        error: Class name of the exception.
        message: Its text.
        phase: ``"training_step"``, ``"validation_step"``, ``"backward"``, ``"optimizer"``, ``"data"`` (a loader),
            ``"loading"`` (a state dict), ``"moving"`` (the model to its device), ``"logging"`` (a value that is not
            there), ``"configure_optimizers"``, or ``"text"`` for a traceback that was pasted.
        line: ``file.py:31`` of the user's innermost line.
        source: The text of that line.
        function: The function it stands in.
        module: Path of the innermost module whose ``forward`` ran; ``""`` for the root.
        module_type: Class name of that module.
        module_about: That module as it prints, on one line.
        settings: Its public numbers and switches, such as ``in_features``.
        operation: Name of the call that refused.
        operands: The tensors it was given.
        arguments: Its other arguments by name or position, as text.
        rows: The table of shapes from the input to there, in order.
        fields: The tensors of the batch.
        containers: What the batch is made of: kind and keys (or number of items) of the batch itself.
        batch_size: Samples of the batch of this step; ``None`` when not known.
        full_batch_size: Samples of a full batch; ``None`` when not known.
        held: Tensors of an earlier step that the module keeps with their graph, by attribute path.
        unregistered: Modules kept in plain lists or dicts, so that they are not part of the model, by attribute path.
        notes: Further facts by name.
        memory: Who holds memory, for an error about that.
        lacking: What could not be found out, and why.
        foretold: When it would be raised, for one that has not been raised yet; empty otherwise.
    """

    error: str = ""
    message: str = ""
    phase: str = ""
    line: str = ""
    source: str = ""
    function: str = ""
    module: str = ""
    module_type: str = ""
    module_about: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    operation: str = ""
    operands: tuple[ErrorOperand, ...] = ()
    arguments: Mapping[str, str] = field(default_factory=dict)
    rows: tuple[ShapeRow, ...] = ()
    fields: tuple[ErrorOperand, ...] = ()
    containers: Mapping[str, str] = field(default_factory=dict)
    batch_size: int | None = None
    full_batch_size: int | None = None
    held: tuple[str, ...] = ()
    unregistered: tuple[str, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)
    memory: MemoryOwners | None = None
    lacking: str = ""
    foretold: str = ""

    @property
    def wanted(self) -> tuple[str, str] | None:
        """The name of a logged value that was asked for in vain, and who asked; ``None`` for other exceptions.

        >>> ErrorRaised(error="KeyError", message="'val_loss'", source='trainer.callback_metrics["val_loss"]').wanted
        ('val_loss', 'callback_metrics')
        """
        if self.error == "KeyError":
            read = _READ.search(self.source)
            return (self.message.strip("'\""), read[1]) if read else None
        found = ((asker, text.search(self.message)) for asker, text in _ASKERS)
        return next(((match[1], asker) for asker, match in found if match), None)


@dataclass(frozen=True, kw_only=True)
class ShapeTable(Evidence):
    """The shapes of one training step, from the batch to the loss.

    Args:
        rows: One for each module of torch's and each operation of the user's own code.
        fields: The tensors of the batch.
        batch_size: Samples of the batch.
        marked: Whether the batch dimension was found by running fewer samples; else it is the leading one that fits.
    """

    rows: tuple[ShapeRow, ...] = ()
    fields: tuple[ErrorOperand, ...] = ()
    batch_size: int | None = None
    marked: bool = False
