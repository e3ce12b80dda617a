"""Errors about memory, by who holds it."""

from __future__ import annotations

import re

from lightning_debug.evidence.errors import ErrorRaised, MemoryOwners
from lightning_debug.rules._errors_words import Diagnosis, size_text

_TELLS = re.compile(
    r"out of memory|can't allocate memory|DefaultCPUAllocator|Invalid buffer size|not enough memory|"
    r"unable to allocate [\d.]+ ",
    re.I,
)
_HOST = re.compile(r"DefaultCPUAllocator|alloc_cpu|unable to allocate [\d.]+ |Invalid buffer size", re.I)
HUGE = 64
"""How many times what is there one tensor must ask for, to be a matter of its shape and not of the batch."""

ROOM = 0.9
"""Share of the memory that a step may plan with: the rest goes to fragments and kernels."""


def out_of_memory_by_owner(error: ErrorRaised) -> Diagnosis | None:
    """Who holds the memory, and the batch size that would fit."""
    if error.error not in ("OutOfMemoryError", "MemoryError", "_ArrayMemoryError") and not (
        error.error == "RuntimeError" and _TELLS.search(error.message)
    ):
        return None
    memory = error.memory
    if error.foretold and memory is not None:
        return _foretold(error, memory)
    host = error.error in ("MemoryError", "_ArrayMemoryError") or bool(_HOST.search(error.message))
    what = "host memory (RAM)" if host else "memory"
    where = error.line or ("the loader" if error.phase == "data" else "the step")
    if memory is not None and memory.requested and memory.capacity and memory.requested > HUGE * memory.capacity:
        return Diagnosis(
            "LD108", "tensor-too-large", f"one tensor of {size_text(memory.requested)} is asked for at {where}, where "
            f"{size_text(memory.capacity)} of {what} are there: no batch size makes that fit.",
            "Look at the shapes on that line: two long dimensions that meet (every pair of samples, positions or "
            "pixels, often by broadcasting (N, 1) with (1, N)) need N*N values. Reduce one of them first, or work in "
            "chunks.",
            measured={"requested_bytes": memory.requested, "capacity_bytes": memory.capacity},
        )  # fmt: skip
    if host and error.phase == "data":
        fix = (
            "Read samples in __getitem__ instead of holding them all (numpy.load(path, mmap_mode='r'), h5py, one file "
            "a sample), and lower num_workers: each worker keeps a copy of what the dataset holds in Python lists."
        )
        return Diagnosis("LD108", "data-too-large", f"there is no {what} left at {where}.", fix)
    if memory is None:
        fix = (
            "Halve the batch size (and set accumulate_grad_batches=2 to keep the effective one), or"
            " precision='bf16-mixed'."
        )
        return Diagnosis("LD108", "out-of-memory", f"there is no {what} left at {where}.", fix)
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
    message = f"there is no {what} left at {where}{asked}: {parts}"
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


def _foretold(error: ErrorRaised, memory: MemoryOwners) -> Diagnosis | None:
    """A batch that was measured on a few samples and cannot fit."""
    if memory.per_sample is None or memory.activations is None or memory.capacity is None:
        return None
    fits = _fitting(error)
    message = (
        f"its {memory.batch_size} samples keep {size_text(memory.activations)} for the backward pass "
        f"({size_text(memory.per_sample)} each, measured on a few of them); with {size_text(memory.used or 0)} in use "
        f"and {size_text(memory.optimizer_expected - memory.optimizer)} of optimizer state to come that is more than "
        f"the {size_text(memory.capacity)} there are."
    )
    measured: dict[str, object] = {
        "batch_size": memory.batch_size, "per_sample_bytes": memory.per_sample, "activations_bytes": memory.activations,
        "used_bytes": memory.used, "capacity_bytes": memory.capacity, "fitting_batch_size": fits,
    }  # fmt: skip
    if not fits:
        fix = "Not even one sample is sure to fit: use precision='bf16-mixed', gradient checkpointing, smaller inputs."
        return Diagnosis("LD108", "sample-too-large", message, fix, "training_step", measured)
    share = max(2, (memory.batch_size or 2) // fits)
    fix = f"Use batch_size={fits} with accumulate_grad_batches={share} to keep the effective one."
    return Diagnosis("LD108", "batch-too-large", message, fix, "training_step", measured)


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
