"""What every piece of evidence has in common: a moment, plain values, a way to JSON and back."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Moment:
    """When something was seen.

    Args:
        stage: ``"setup"``, ``"train"``, ``"sanity"``, ``"validate"``, ``"test"`` or ``"predict"``.
        epoch: Epoch, from 0.
        step: Batches trained on so far in the whole fit, from 0 (the axis Lightning's own logs use).
        batch: Index of the batch in its epoch or evaluation, from 0; ``None`` between batches.
        rank: Global rank of the process that saw it.

    >>> str(Moment(stage="train", epoch=1, step=12, batch=4))
    'epoch 1, step 12'
    >>> str(Moment(stage="validate", epoch=0, step=8, batch=2))
    'validation of epoch 0, batch 2'
    """

    stage: str = "train"
    epoch: int = 0
    step: int = 0
    batch: int | None = None
    rank: int = 0

    def __str__(self) -> str:
        rank = f", rank {self.rank}" if self.rank else ""
        if self.stage == "setup":
            return f"before training{rank}"
        if self.stage == "train":
            return f"epoch {self.epoch}, step {self.step}{rank}"
        names = {"sanity": "sanity check", "validate": f"validation of epoch {self.epoch}"}
        batch = "" if self.batch is None else f", batch {self.batch}"
        return f"{names.get(self.stage, self.stage)}{batch}{rank}"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Base of all evidence: frozen, made of plain values (numbers, strings, tuples, other evidence).

    A subclass is a keyword-only frozen dataclass whose annotations say how to read it back:
    ``int``, ``float``, ``bool``, ``str``, ``None``, tuples and string-keyed mappings of these, and
    other frozen dataclasses. Its class name is its kind, and must be unique.

    Args:
        at: When it was seen.
    """

    kinds: ClassVar[dict[str, type[Evidence]]] = {}

    at: Moment = field(default_factory=Moment)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        known = Evidence.kinds.get(cls.__name__)
        if known is not None and known.__module__ != cls.__module__:
            raise TypeError(
                f"two kinds of evidence are named {cls.__name__!r}: in {known.__module__} and in {cls.__module__}"
            )
        Evidence.kinds[cls.__name__] = cls

    def scalars(self) -> Mapping[str, float]:
        """Values worth a curve over steps, by tag (TensorBoard draws them); none by default."""
        return {}


def to_plain(value: Any) -> Any:
    """Turns evidence, findings and moments into what ``json.dumps(..., allow_nan=False)`` takes.

    Non-finite floats become the strings ``"nan"``, ``"inf"`` and ``"-inf"``.

    Raises:
        TypeError: For a value that is not plain; evidence must not carry tensors or modules.

    >>> to_plain(Moment(stage="train", step=3))["step"]
    3
    >>> to_plain((1.0, float("nan")))
    [1.0, 'nan']
    """
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):  # an enum of strings included
        return str.__str__(value) if type(value) is str else str(value.value if hasattr(value, "value") else value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(float(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: to_plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_plain(item) for item in value]
    raise TypeError(f"evidence holds plain values only, not {type(value).__name__}: {value!r:.80}")


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def from_plain(kind: Any, value: Any) -> Any:
    """The inverse of :func:`to_plain`, led by the annotation ``kind``.

    >>> from_plain(Moment, {"stage": "train", "step": 3}).step
    3
    >>> from_plain(tuple[float, ...], [1, "inf"])
    (1.0, inf)
    """
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        choices = [choice for choice in typing.get_args(kind) if choice is not type(None)]
        exact = [choice for choice in choices if isinstance(choice, type) and type(value) is choice]
        return from_plain((exact or choices)[0], value)
    if origin is tuple:
        arguments = typing.get_args(kind)
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(from_plain(arguments[0], item) for item in value)
        return tuple(from_plain(argument, item) for argument, item in zip(arguments, value, strict=True))
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        _, item_kind = typing.get_args(kind)
        return {key: from_plain(item_kind, item) for key, item in value.items()}
    if kind is float and value is not None:
        return float(value)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = _hints(kind)
        known = {item.name for item in dataclasses.fields(kind)}
        return kind(**{name: from_plain(hints[name], item) for name, item in value.items() if name in known})
    return value


def encode(evidence: Evidence) -> dict[str, Any]:
    """Evidence as a JSON object that names its kind."""
    return {"kind": type(evidence).__name__, **to_plain(evidence)}


def decode(data: Mapping[str, Any]) -> Evidence:
    """Evidence from its JSON object.

    Raises:
        ValueError: If the kind is not known to this version.
    """
    kind = Evidence.kinds.get(str(data.get("kind")))
    if kind is None:
        raise ValueError(
            f"kind={data.get('kind')!r} is no kind of evidence; known: {', '.join(sorted(Evidence.kinds))}"
        )
    result = from_plain(kind, {key: value for key, value in data.items() if key != "kind"})
    assert isinstance(result, Evidence)
    return result
