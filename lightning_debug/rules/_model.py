"""What rules about the model share: how a call is named."""

from __future__ import annotations

from lightning_debug.evidence.data_values import RegressionFit
from lightning_debug.evidence.model import InputDependence, Place
from lightning_debug.record import Record


def named(place: Place) -> str:
    """A call in words: what it is, and in which module.

    >>> named(Place(name="softmax", module="net.attention", module_type="Attention"))
    'softmax in `net.attention` (Attention)'
    """
    where = f" in `{place.module}` ({place.module_type})" if place.module else ""
    own = place.module_type.lower().replace("_", "").startswith(place.name.replace("_", "")) and place.module
    return f"`{place.module}` ({place.module_type})" if own else f"{place.name}{where}"


def subject(place: Place) -> str:
    """What the user would change: a module of torch's by its path, the user's own code by its line."""
    library = place.module and place.module_type and place.name.replace("_", "") in place.module_type.lower()
    return place.module if library or not place.line else place.line


def listed(names: list[str], most: int = 3) -> str:
    """Names in a row, the first few.

    >>> listed(["a", "b", "c", "d", "e"])
    '`a`, `b`, `c` and 2 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"`{name}`" for name in names[:most]) + more


def constant_outputs(
    record: Record, minimum_steps: int = 10, rounding: float = 1e-6, share: float = 1e-3
) -> list[InputDependence]:
    """The latest look at each prediction that does not depend on the input now.

    Predictions that are still on their way to targets far off, and differ by a fair part of themselves, are left out:
    they are small beside what they are to tell apart, and no less different for it.
    """
    looks: dict[tuple[str, str], list[InputDependence]] = {}
    for seen in record.of(InputDependence):
        looks.setdefault((seen.function, seen.line), []).append(seen)
    found = []
    for history in looks.values():
        known = [item for item in history if item.steps >= minimum_steps and item.targets_vary]
        if not known:
            continue
        now = known[-1]
        same = now.change <= rounding * now.scale or now.change == 0.0
        near = [item.change < share * item.spread and not _on_the_way(record, item) for item in known[-2:]]
        if same or (len(near) == 2 and all(near)):
            found.append(now)
    return found


def _on_the_way(record: Record, seen: InputDependence, part: float = 0.1) -> bool:
    """Whether these predictions differ, and have not come as near as a deviation to the mean of their targets."""
    if not seen.change > part * seen.scale:
        return False
    fits = [fit for fit in record.of(RegressionFit) if (fit.stage, fit.line) == ("train", seen.line)]
    return bool(fits) and abs(fits[-1].prediction_mean - fits[-1].target_mean) > fits[-1].target_deviation
