"""HOW IT LOOKS: report in, text out; sinks write. Reports decide nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_debug.session import Sink
    from lightning_debug.settings import Settings


def sinks(settings: Settings, folder: str | None, writers: list[Any]) -> list[Sink]:
    """The sinks that the settings ask for.

    Args:
        settings: What to show.
        folder: Where files go; ``None`` for no files.
        writers: TensorBoard ``SummaryWriter`` objects.
    """
    return []
