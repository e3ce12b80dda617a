"""Which sample of which dataset raised: told from the exception's own frames, or by asking again."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from types import FrameType
from typing import Any

PATIENCE = 10.0
"""Seconds for asking a dataset again, where a worker raised and its frames are gone."""

_WORKER = "DataLoader worker process"
_LINE = re.compile(r'^\s*File "(.+)", line (\d+), in ', re.M)


def is_of_loading(error: BaseException) -> bool:
    """Whether a loader was asked for a batch when this was raised, and its dataset for a sample.

    >>> is_of_loading(ValueError("no"))
    False
    """
    return _WORKER in str(error) or _fetching(error) is not None


def told(error: BaseException) -> tuple[str, str, str]:
    """Class, last line of the text, and ``file.py:31`` of what was raised, also where a worker passed it on.

    >>> told(KeyError("label"))[:2]
    ('KeyError', "'label'")
    """
    text = str(error).strip()
    lines = text.splitlines()
    if _WORKER in text:
        places = _LINE.findall(text)
        name, message = type(error).__name__, lines[-1].partition(": ")[2]
        return name, message, f"{places[-1][0].rpartition('/')[2]}:{places[-1][1]}" if places else ""
    frame, line = _frames(error)[-1] if error.__traceback__ is not None else (None, 0)
    where = "" if frame is None else f"{frame.f_code.co_filename.rpartition('/')[2]}:{line}"
    return type(error).__name__, lines[-1] if lines else "", where


def asked_for(error: BaseException) -> tuple[Any, int | None] | None:
    """The dataset that raised in this process, and the index it was asked for; ``None`` where the frames do not tell.

    >>> from torch.utils.data import DataLoader
    >>> class Broken(list):
    ...     def __getitem__(self, index):
    ...         return 1 / (index - 5)
    >>> data = Broken(range(9))
    >>> try:
    ...     list(DataLoader(data, batch_size=4))
    ... except ZeroDivisionError as error:
    ...     dataset, index = asked_for(error)
    >>> dataset is data, index
    (True, 5)
    """
    frames = [frame for frame, _ in _frames(error)]
    place = _fetching(error)
    if place is None:
        return None
    dataset = getattr(frames[place].f_locals.get("self"), "dataset", None)
    for frame in frames[place:]:  # a comprehension is a frame of its own before Python 3.12; Subset fetches many
        index = _index(frame.f_locals.get("idx", frame.f_locals.get("index")))
        if index is not None and "torch/utils/data/" in frame.f_code.co_filename.replace("\\", "/"):
            return dataset, index
    return dataset, _index(frames[place].f_locals.get("possibly_batched_index"))


def first_unreadable(dataset: Any, indices: Iterable[int], patience: float = PATIENCE) -> tuple[int, Exception] | None:
    """Asks a dataset for samples in turn; the first that raises, and what. The caller keeps the generators' states.

    >>> first_unreadable([5, 6], range(9))[0]
    2
    """
    end = time.monotonic() + patience
    for index in indices:
        try:
            dataset[index]
        except Exception as error:
            return index, error
        if time.monotonic() > end:
            return None
    return None


def _index(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _frames(error: BaseException) -> list[tuple[FrameType, int]]:
    found, trace = [], error.__traceback__
    while trace is not None:
        found.append((trace.tb_frame, trace.tb_lineno))
        trace = trace.tb_next
    return found


def _fetching(error: BaseException) -> int | None:
    """The place of the frame in which a loader fetches; ``None`` if the samples were there, but not to be collated."""
    names = [(frame.f_code.co_name, frame.f_code.co_filename.replace("\\", "/")) for frame, _ in _frames(error)]
    for place, (name, file) in enumerate(names):
        if name == "fetch" and file.endswith("torch/utils/data/_utils/fetch.py"):
            code = _frames(error)[place]
            collating = "collate_fn" in _source_line(file, code[1])
            return None if collating else place
    return None


def _source_line(file: str, line: int) -> str:
    import linecache

    return linecache.getline(file, line)
