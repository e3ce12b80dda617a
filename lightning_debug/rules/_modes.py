"""Words that the rules about modes share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from lightning_debug.evidence.modes import ModeChange


def common_prefix(paths: Sequence[str]) -> str:
    """The longest module path that all paths begin with.

    >>> common_prefix(["net.0.drop", "net.1.drop"]), common_prefix(["net.drop"]), common_prefix(["a", "b"])
    ('net', 'net.drop', '')
    """
    parts = [path.split(".") if path else [] for path in paths]
    shared = []
    for words in zip(*parts, strict=False):
        if len(set(words)) > 1:
            break
        shared.append(words[0])
    return ".".join(shared)


def listed(modules: Iterable[tuple[str, str]], limit: int = 3) -> str:
    """Modules, given as path and class, grouped by class and by the beginning that their paths share.

    >>> listed([("net.0.drop", "Dropout"), ("net.1.drop", "Dropout"), ("head.bn", "BatchNorm1d")])
    '2 Dropout in `net`, `head.bn` (BatchNorm1d)'
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for path, kind in modules:
        groups.setdefault((kind, path.partition(".")[0]), []).append(path)
    words = []
    for (kind, _), paths in sorted(groups.items(), key=lambda item: -len(item[1])):
        prefix = common_prefix(paths)
        words.append(
            f"`{paths[0] or 'the module itself'}` ({kind})" if len(paths) == 1 else f"{len(paths)} {kind} in `{prefix}`"
        )
    return ", ".join(words[:limit]) + (f" and {len(words) - limit} more groups" if len(words) > limit else "")


def by_class(classes: Iterable[str]) -> dict[str, int]:
    """How many of each class, the most frequent first."""
    return dict(Counter(classes).most_common())


def at_line(change: ModeChange) -> str:
    """`` at file.py:31``, with the library function that the line calls where there is one; or nothing."""
    if not change.line:
        return ""
    return f" at {change.line}" + (f" (through {change.via})" if change.via else "")


def moment_of(change: ModeChange) -> str:
    """When a change was first seen."""
    return f"epoch {change.epoch}, step {change.step}"
