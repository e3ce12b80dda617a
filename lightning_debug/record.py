"""Record: the bounded history of evidence, and all that a rule may read."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from lightning_debug.evidence import Evidence, decode, encode

E = TypeVar("E", bound=Evidence)


class Record:
    """Evidence by kind, in the order seen: the first ``head`` and the last ``tail`` of each kind are kept.

    Args:
        evidence: What to start with.
        head: How many of the earliest of each kind to keep.
        tail: How many of the latest of each kind to keep beyond the head.

    >>> from lightning_debug.evidence import RuleFailure
    >>> record = Record([RuleFailure(code="LD201", error="x", traceback="")])
    >>> record.last(RuleFailure).code
    'LD201'
    """

    def __init__(self, evidence: Iterable[Evidence] = (), *, head: int = 64, tail: int = 192) -> None:
        if head < 1 or tail < 1:
            raise ValueError(f"head={head} and tail={tail} must each be at least 1")
        self._limits = head, tail
        self._kept: dict[type[Evidence], tuple[list[Evidence], deque[Evidence]]] = {}
        self._seen: dict[type[Evidence], int] = {}
        self._asked: set[type[Evidence]] | None = None
        for item in evidence:
            self.add(item)

    def add(self, evidence: Evidence) -> None:
        """Appends one piece of evidence; the middle of a long history is forgotten."""
        head, tail = self._limits
        kind = type(evidence)
        first, last = self._kept.setdefault(kind, ([], deque(maxlen=tail)))
        (first if len(first) < head else last).append(evidence)
        self._seen[kind] = self._seen.get(kind, 0) + 1

    def of(self, kind: type[E]) -> tuple[E, ...]:
        """All kept evidence of a kind, oldest first."""
        if self._asked is not None:
            self._asked.add(kind)
        first, last = self._kept.get(kind, ((), ()))
        return (*first, *last)

    def first(self, kind: type[E]) -> E | None:
        """The oldest evidence of a kind, or ``None``."""
        return next(iter(self.of(kind)), None)

    def last(self, kind: type[E]) -> E | None:
        """The newest evidence of a kind, or ``None``."""
        history = self.of(kind)
        return history[-1] if history else None

    def seen(self, kind: type[Evidence]) -> int:
        """How many of a kind were ever added, kept or not."""
        if self._asked is not None:
            self._asked.add(kind)
        return self._seen.get(kind, 0)

    @contextlib.contextmanager
    def noting(self) -> Iterator[set[type[Evidence]]]:
        """Notes the kinds that are asked for inside; what is told of all kinds at once is not noted.

        >>> from lightning_debug.evidence import RuleFailure
        >>> record = Record()
        >>> with record.noting() as asked:
        ...     last = record.last(RuleFailure)
        >>> asked == {RuleFailure}
        True
        """
        asked: set[type[Evidence]] = set()
        self._asked = asked
        try:
            yield asked
        finally:
            self._asked = None

    @property
    def kinds(self) -> tuple[type[Evidence], ...]:
        """The kinds that were seen, in order of first sight."""
        return tuple(self._kept)

    def to_plain(self) -> dict[str, Any]:
        """The record as JSON-ready values: enough to judge again."""
        return {
            "evidence": [encode(item) for kind in self._kept for item in self.of(kind)],
            "seen": {kind.__name__: count for kind, count in self._seen.items()},
        }

    @classmethod
    def from_plain(cls, data: Mapping[str, Any]) -> Record:
        """The record that :meth:`to_plain` wrote; kinds that this version does not know are left out."""
        record = cls()
        for item in data["evidence"]:
            if item.get("kind") in Evidence.kinds:
                record.add(decode(item))
        for kind in record.kinds:
            record._seen[kind] = int(data.get("seen", {}).get(kind.__name__, record.seen(kind)))
        return record

    def __len__(self) -> int:
        return sum(len(self.of(kind)) for kind in self._kept)
