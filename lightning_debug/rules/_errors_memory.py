"""Errors about memory, by who holds it."""

from __future__ import annotations

import re

from lightning_debug.evidence.errors import ErrorRaised
from lightning_debug.rules._errors_words import Diagnosis, size_text

_TELLS = re.compile(
    r"out of memory|can't allocate memory|DefaultCPUAllocator|Invalid buffer size|not enough memory", re.I
)
ROOM = 0.9
"""Share of the memory that a step may plan with: the rest goes to fragments and kernels."""


def out_of_memory_by_owner(error: ErrorRaised) -> Diagnosis | None:
    """Who holds the memory, and the batch size that would fit."""
    if error.error not in ("OutOfMemoryError", "MemoryError") and not (
        error.error == "RuntimeError" and _TELLS.search(error.message)
    ):
        return None
    memory = error.memory
    if memory is None:
        fix = (
            "Halve the batch size (and set accumulate_grad_batches=2 to keep the effective one), or"
            " precision='bf16-mixed'."
        )
        return Diagnosis("LD108", "out-of-memory", f"there is no memory left at {error.line or 'the step'}.", fix)
    held = {
        "parameters": memory.parameters,
        "gradients": memory.gradients,
        "optimizer state": memory.optimizer_expected,
    }
    measured: dict[str, object] = {f"{name.replace(' ', '_')}_bytes": size for name, size in held.items()}
    if memory.activations is not None:
        held["activations"] = memory.activations
        measured["activations_bytes"] = memory.activations
    parts = ", ".join(f"{name} {size_text(size)}" for name, size in held.items())
    asked = f" when {size_text(memory.requested)} more were asked for" if memory.requested else ""
    message = f"there is no memory left at {error.line or 'the step'}{asked}: {parts}"
    if memory.batch_size:
        message += f" with {memory.batch_size} samples in the batch"
    fits = _fitting(error)
    measured |= {"batch_size": memory.batch_size, "fitting_batch_size": fits, "capacity_bytes": memory.capacity}
    activations = memory.activations
    fixed = memory.parameters + memory.gradients + memory.optimizer_expected
    if activations is not None and activations < fixed and not fits:
        fix = (
            "A smaller batch does not help: the model itself takes most of it. Use precision='bf16-true', an optimizer "
            "with less state (SGD), or shard it (strategy='fsdp')."
        )
        return Diagnosis("LD108", "model-too-large", f"{message}.", fix, measured=measured)
    if fits:
        share = memory.batch_size // fits if memory.batch_size else 2
        fix = (
            f"Use batch_size={fits} (by the measured {size_text(memory.per_sample or 0)} a sample, in"
            f" {size_text(memory.capacity or 0)}), with accumulate_grad_batches={max(2, share)} to keep the effective"
            " one."
        )
    else:
        half = max(1, (memory.batch_size or 2) // 2)
        fix = f"Use batch_size={half} with accumulate_grad_batches=2, or precision='bf16-mixed'."
    return Diagnosis("LD108", "batch-too-large", f"{message}.", fix, measured=measured)


def _fitting(error: ErrorRaised) -> int | None:
    """The largest power of two that would fit, below the batch size that did not."""
    memory = error.memory
    if memory is None or not memory.capacity or not memory.per_sample or not memory.batch_size:
        return None
    fixed = memory.parameters + memory.gradients + memory.optimizer_expected
    constant = (memory.activations or 0) - memory.per_sample * memory.batch_size
    room = ROOM * memory.capacity - fixed - constant
    most = min(int(room // memory.per_sample), memory.batch_size - 1)
    return 2 ** (most.bit_length() - 1) if most >= 1 else None
