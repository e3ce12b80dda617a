"""Has a step that talks to other ranks, which would wait for theirs or keep it waiting, end at once instead."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

_QUESTIONS = ("get_rank", "get_world_size", "get_backend", "get_backend_config", "_set_pg_timeout")
"""Functions of torch.distributed that only ask for what a rank knows by itself."""


def hindrance() -> str:
    """Why it cannot be told when a step talks to other ranks; empty if it can."""
    from torch.distributed import distributed_c10d  # a build of torch may lack it

    known = hasattr(distributed_c10d, "_rank_not_in_group")
    return "" if known else "this version of torch does not tell when a step talks to other ranks"


@contextlib.contextmanager
def apart(error: Callable[[], Exception]) -> Iterator[None]:
    """Refuses this thread every collective while the block lasts.

    Args:
        error: Makes what is raised in place of the collective.
    """
    from torch.distributed import distributed_c10d  # a build of torch may lack it

    asked: Any = distributed_c10d._rank_not_in_group  # all collectives ask it
    here = threading.get_ident()

    def refuse(*arguments: Any, **named: Any) -> Any:
        caller = sys._getframe(1).f_code.co_name  # there is no other way to know who asks
        if threading.get_ident() != here or caller in _QUESTIONS:
            return asked(*arguments, **named)
        raise error()

    distributed_c10d._rank_not_in_group = refuse
    try:
        yield
    finally:
        distributed_c10d._rank_not_in_group = asked
