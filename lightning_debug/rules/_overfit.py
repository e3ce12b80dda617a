"""What the rule about two examples says of them, and which check of the debugging plan fails."""

from __future__ import annotations

from dataclasses import dataclass

from lightning_debug.evidence.overfit import OverfitCall, OverfitCheck
from lightning_debug.finding import Claim

ALIKE = 1e-6
"""Relative difference up to which values are the same."""
FLAT = frozenset({"round", "floor", "ceil", "sign", "trunc", "heaviside", "bernoulli"})
"""Calls whose derivative is 0 everywhere."""


@dataclass(frozen=True)
class Cause:
    """A check that fails.

    Args:
        told: Half a sentence for the message.
        subject: What the user would change.
        fix: The edit.
    """

    told: str
    subject: str
    fix: str

    @classmethod
    def of_gradient_end(cls, call: OverfitCall) -> Cause:
        """The loss is computed from values that carry no gradient."""
        where = f" at {call.stopped_by} ({call.stopped_at})" if call.stopped_by else ""
        place = call.stopped_at or call.line
        return cls(
            f"the gradient of {call.function} ({call.line}) ends{where}, before any parameter",
            place,
            f"Compute the loss from what the network gives, with its graph: no detach, no_grad, argmax, item or numpy "
            f"on the way ({place}).",
        )

    @classmethod
    def of_no_gradient(cls, seen: OverfitCheck) -> Cause:
        """Every gradient is zero or missing."""
        names = ", ".join(f"`{name}`" for name in seen.not_reached[:3])
        return cls(
            f"the gradient of each of the {seen.parameters} trainable parameters is zero or missing",
            seen.not_reached[0] if seen.not_reached else "training_step",
            f"Find what cuts the way from the loss to {names}: an output that is rounded, clamped or compared, "
            "or units that are dead.",
        )


def ends_early(seen: OverfitCheck) -> bool:
    """Whether no loss function that the loss is made of can send a gradient back."""
    return any(call.additive for call in seen.calls) and not any(call.carries_gradient for call in seen.calls)


def is_understood(seen: OverfitCheck) -> bool:
    """Whether the loss is made of comparisons with targets only, so that its least value is known."""
    known = [call for call in seen.calls if call.headroom is not None and call.after is not None]
    return 0 < len(known) == len(seen.calls) == seen.terms and seen.steady


def nothing_moves(seen: OverfitCheck) -> bool:
    """Whether no parameter has a gradient, and the loss stays where it is, of the whole batch too."""
    unreached = seen.without_gradient + seen.zero_gradient == seen.parameters > 0
    ranges = [max(trial.losses) - min(trial.losses) for trial in seen.trials if trial.losses]
    tried = any(trial.whole for trial in seen.trials) or seen.samples == seen.batch
    return unreached and tried and bool(ranges) and max(ranges) <= ALIKE * abs(seen.start) and abs(seen.start) > ALIKE


def cause_of(seen: OverfitCheck, call: OverfitCall) -> Cause | None:
    """The first check of the plan that fails: gradient, input, output, range."""
    for check in (_gradient, _input, _output, _shapes, _range):
        found = check(seen, call)
        if found is not None:
            return found
    return None


def _gradient(seen: OverfitCheck, call: OverfitCall) -> Cause | None:
    if seen.without_gradient + seen.zero_gradient < seen.parameters or not seen.parameters:
        return None
    if call.made_by in FLAT:
        return Cause(
            f"{call.made_by} ({call.made_at}) makes the scores, and its derivative is 0 everywhere",
            call.made_at,
            f"Take {call.made_by} off the way to the loss; round for metrics and for showing only.",
        )
    return Cause.of_no_gradient(seen)


def _input(seen: OverfitCheck, call: OverfitCall) -> Cause | None:
    if not call.targets_differ or not seen.fields:
        return None
    if not call.fields:
        return Cause(
            f"the scores of {call.function} ({call.line}) are made from no field of the batch",
            call.line,
            "Compute the scores from the batch that training_step is given.",
        )
    return alike_input(seen, call)


def alike_input(seen: OverfitCheck, call: OverfitCall) -> Cause | None:
    """All that the scores are made from is the same for every sample."""
    used = [field for field in seen.fields if field.name in call.fields]
    if not used or len(used) < len(call.fields):
        return None
    names = ", ".join(field.name for field in used)
    if all(field.share_zero == 1.0 for field in used):
        return Cause(
            f"its input ({names}) is 0 throughout the batch, while the targets differ",
            used[0].name,
            f"Look at where the data set makes {names}: it holds nothing but zeros.",
        )
    if not all(field.alike for field in used):
        return None
    shapes = [field.shape for field in used]
    others = [item.name for item in seen.fields if item not in used and not item.alike and item.shape in shapes]
    fix = f"Look at where the data set makes {names}: it must give each sample its own."
    if others:
        fix = f"Look at what the model is given: {others[0]} differs between samples, and no score depends on it."
    told = f"its input ({names}) is the same for every sample of the batch, while the targets differ"
    return Cause(told, used[0].name, fix)


def _output(seen: OverfitCheck, call: OverfitCall) -> Cause | None:
    constant = call.spread is not None and call.spread_after is not None
    if not constant or max(call.spread or 0.0, call.spread_after or 0.0) > ALIKE or not call.targets_differ:
        return None
    where = f": `{seen.lost_in}` ({seen.lost_type}) gives both the same" if seen.lost_in else ""
    return Cause(
        f"the output is the same for examples whose inputs and targets differ{where}",
        seen.lost_in or call.line,
        f"Let the output depend on the input: look at what {f'`{seen.lost_in}`' if seen.lost_in else 'forward'} is "
        "given, and at what it does with it.",
    )


def _shapes(_: OverfitCheck, call: OverfitCall) -> Cause | None:
    one, two = call.shape, call.target_shape
    if call.function in ("cross_entropy", "nll_loss") or not one or not two or one == two:
        return None
    return Cause(
        f"{call.function} ({call.line}) compares scores of shape {list(one)} with targets of shape {list(two)}",
        call.line,
        "Give both the same shape, so that each score meets its own target.",
    )


def _range(_: OverfitCheck, call: OverfitCall) -> Cause | None:
    low, high = call.limits
    if call.function in ("cross_entropy", "binary_cross_entropy_with_logits"):
        if low is None or call.made_by == "log_softmax":
            return None
        told = f"{call.made_by} ({call.made_at}) makes the scores of {call.function} ({call.line}), which takes any"
        return Cause(told, call.made_at, f"Drop {call.made_by} before the loss.")
    targets = call.target_lowest, call.target_highest
    if call.function == "nll_loss" or None in targets:
        return None
    below = low is not None and targets[0] is not None and targets[0] < low - ALIKE
    above = high is not None and targets[1] is not None and targets[1] > high + ALIKE
    if not below and not above:
        return None
    limits = f"{'no limit' if low is None else f'{low:g}'} to {'no limit' if high is None else f'{high:g}'}"
    return Cause(
        f"{call.made_by} ({call.made_at}) gives values from {limits}, and the targets go from {targets[0]:.3g} to "
        f"{targets[1]:.3g}",
        call.made_at,
        f"Remove {call.made_by}, or scale the targets into its range.",
    )


def claimed(seen: OverfitCheck, call: OverfitCall | None, cause: Cause | None) -> Claim:
    """The finding."""
    best = seen.best
    count = {None: "The first batch", 1: "One example", 2: "Two examples"}.get(seen.samples, f"{seen.samples} examples")
    end = seen.start if best is None else best.end
    rates = len({trial.rate for trial in seen.trials})
    blind = ""
    if call is not None and call.uninformed is not None and call.targets_differ:
        blind = f", where an output that ignores the input costs {call.uninformed:.4g}"
    cost = "costs" if seen.samples in (None, 1) else "cost"
    if seen.steps:
        cost = f"still {cost}"
        blind = f" after {seen.steps} steps at {rates} learning rates ({seen.start:.4g} before){blind}"
    told = "no check of the debugging plan says why" if cause is None else cause.told
    return Claim(
        message=f"{count} {cost} {end:.4g}{blind}: {told}.",
        subject=cause.subject if cause is not None else (call.line if call is not None else "training_step"),
        measured={
            "loss_before": seen.start,
            "loss_after": end,
            "floor": None if call is None else call.floor,
            "uninformed": None if call is None else call.uninformed,
            "steps": seen.steps,
            "learning_rates": list(dict.fromkeys(trial.rate for trial in seen.trials)),
            "parameters": seen.parameters,
            "parameters_without_gradient": seen.without_gradient + seen.zero_gradient,
        },
        fix=cause.fix if cause is not None else "Simplify the network until it fits two examples, then add parts back.",
        at=seen.at,
    )
