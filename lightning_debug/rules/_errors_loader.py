"""Errors of the loader, of the optimizer's list, and of schedulers that do not know all of its groups."""

from __future__ import annotations

import re

from lightning_debug.evidence.errors import ErrorRaised
from lightning_debug.rules._errors_words import Diagnosis, integers

_UNEQUAL = re.compile(
    r"stack expects each tensor to be equal size, but got (\[[\d, ]*\]) at entry 0 and (\[[\d, ]*\]) at entry (\d+)"
)


_COLLATE = re.compile(r"default_collate: batch must contain .*; found (.+)", re.S)


def ragged_batch(error: ErrorRaised) -> Diagnosis | None:
    """Samples that cannot be put into one tensor."""
    text = error.message
    loading = error.phase == "data" or "collate" in text or "DataLoader worker" in text
    unequal = _UNEQUAL.search(text)
    if loading and unequal:
        sizes = f"{unequal[1]} and {unequal[2]} (samples 0 and {unequal[3]})"
        one, two = integers(unequal[1]), integers(unequal[2])
        if _padded_at_the_end(error.source, one, two):
            fix = (
                "The first pair of F.pad is for the last dimension, the features here: pad the first one by "
                f"F.pad(x, ({'0, 0, ' * (len(one) - 1)}0, n))."
            )
        elif len(one) == len(two) and len(one) and one[1:] == two[1:]:
            fix = (
                "Pad them in a collate_fn: DataLoader(..., collate_fn=pad), where pad puts the samples together with "
                "torch.nn.utils.rnn.pad_sequence(samples, batch_first=True) and returns their lengths."
            )
        else:
            fix = (
                "Resize or crop every sample to one size in the dataset's __getitem__, or give a collate_fn that pads."
            )
        return Diagnosis(
            "LD114", "unequal-sizes", f"the loader cannot stack samples of sizes {sizes}.", fix, error.line
        )
    if "each element in list of batch should be of equal size" in text:
        fix = "Turn the lists into tensors and pad them in a collate_fn (torch.nn.utils.rnn.pad_sequence)."
        return Diagnosis(
            "LD114", "unequal-sizes", "the loader cannot collate lists of unequal lengths.", fix, error.line
        )
    if loading and "resize storage that is not resizable" in text:
        fix = "Pad or crop the samples to one size, or give a collate_fn that pads."
        return Diagnosis("LD114", "unequal-sizes", "a worker cannot stack samples of unequal sizes.", fix, error.line)
    if error.notes.get("in_collate") and "NoneType" in text:
        fix = "Have __getitem__ return a sample for every index (it returned None: a missing return, or a failed file)."
        return Diagnosis("LD114", "not-collatable", "the loader cannot collate None.", fix, error.line)
    found = _COLLATE.search(text)
    if found:
        kind = found[1].strip().strip("<>").removeprefix("class ").strip("'")
        cure = (
            "Have __getitem__ return a sample for every index (it returned None: a missing return, or a failed file)"
            if "NoneType" in kind
            else (
                f"Turn the {kind.rpartition('.')[2]} into a tensor in __getitem__ (torch.as_tensor(np.asarray(item))), "
                "or give a collate_fn"
            )
        )
        return Diagnosis("LD114", "not-collatable", f"the loader cannot collate a {kind}.", f"{cure}.", error.line)
    return None


def _padded_at_the_end(source: str, one: tuple[int, ...], two: tuple[int, ...]) -> bool:
    """Whether what the first dimension lacks was added to the last one: their sums agree, the dimensions do not."""
    if not re.search(r"\bpad\(", source) or len(one) != len(two) or len(one) < 2:
        return False
    return one[0] != two[0] and one[-1] != two[-1] and one[0] + one[-1] == two[0] + two[-1]


def broken_optimizer(error: ErrorRaised) -> Diagnosis | None:
    """An optimizer that was given nothing to train."""
    if "optimizer got an empty parameter list" not in error.message:
        return None
    if error.unregistered:
        name = error.unregistered[0]
        attribute = name.rpartition(".")[2]
        fix = (
            f"Keep {name} in nn.ModuleList(...) (or nn.ModuleDict): self.{attribute} = nn.ModuleList(self.{attribute})."
        )
        message = f"the optimizer gets no parameters: those of {name} are in a plain list, where no module sees them."
        return Diagnosis("LD115", "unregistered-modules", message, fix, name)
    layer, line = error.notes.get("late_layer"), error.notes.get("late_line", "")
    if layer:
        fix = f"Make the layers in __init__ and keep them there (self.net = {layer}(...)); forward only calls them."
        message = f"the optimizer gets no parameters: {layer} at {line} is made anew each time, outside of __init__."
        return Diagnosis("LD115", "layers-made-late", message, fix, line)
    fix = "Make the layers in __init__ (self.net = ...), and pass self.parameters(), which no generator has used up."
    return Diagnosis("LD115", "no-parameters", "the optimizer gets an empty list of parameters.", fix)


def outgrown_scheduler(error: ErrorRaised) -> Diagnosis | None:
    """A scheduler whose optimizer has been given groups since."""
    counts = integers(error.notes.get("groups", ""))
    if len(counts) != 2 or not ("zip()" in error.message or error.error == "KeyError"):
        return None
    known, there = counts
    name = error.notes.get("scheduler", "the scheduler")
    fix = (
        "Give the optimizer all groups in configure_optimizers (those frozen at first included, with "
        "requires_grad=False), or use a scheduler that takes whatever groups there are (StepLR, ExponentialLR, "
        "CosineAnnealingLR)."
    )
    message = (
        f"{name} was built for {known} parameter {'group' if known == 1 else 'groups'}, and its optimizer now has "
        f"{there}: add_param_group (BackboneFinetuning calls it when it unfreezes) tells no scheduler."
    )
    return Diagnosis("LD118", "groups-added", message, fix, name, {"known": known, "groups": there})
