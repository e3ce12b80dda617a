"""TensorBoard's custom-scalars layout: ours, and how it is merged with one that the user's own code wrote.

TensorBoard keeps one layout a run: the last one written. A layout of ours that is written over a user's would
take their charts away, so what their code wrote is read back from the event files and written again with ours.
"""

from __future__ import annotations

import glob
import mmap
import os
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Layout = dict[str, dict[str, list[Any]]]
"""Charts by category, as ``SummaryWriter.add_custom_scalars`` takes them."""

CATEGORY = "lightning_debug"
TAG = b"custom_scalars__config__"
MOST_BYTES = 1 << 28

# TensorBoard's page joins the patterns of a chart by "|": a flag such as (?i) would not survive that.
TRAIN, VALIDATION = "[Tt]rain(ing)?", "[Vv]al(id(ation)?)?|[Ee]val|[Dd]ev"
_LOSS = "([Ll]oss|nll|NLL|elbo|ELBO|perplexity|ppl)"
_SPAN = "([Ss]tep|[Ee]poch)"
_END = f"([/_. -]{_SPAN})?(/dataloader_idx_[0-9]+)?$"


def loss_tags(stage: str) -> str:
    """A pattern for the names under which people log the loss of a stage, in either order of the two words.

    >>> import re
    >>> names = ["val_loss", "valid/loss_epoch", "Loss/validation", "ptl/val_loss", "valid/step/loss", "devLoss"]
    >>> all(re.match(loss_tags(VALIDATION), name) for name in names)
    True
    >>> re.match(loss_tags(TRAIN), "val_loss") or re.match(loss_tags(TRAIN), "test_loss")
    """
    first = f"({stage})[/_. -]?({_SPAN}[/_. -])?{_LOSS}"
    second = f"{_LOSS}[/_. -]({_SPAN}[/_. -])?({stage})"
    return f"^(.*[/_. -])?({first}|{second}){_END}"


LOSSES = (loss_tags(TRAIN), f"^(lightning_debug/)?{_LOSS}{_END}", loss_tags(VALIDATION))
"""Training loss under its usual names, a plain ``loss`` (which is the training loss), validation loss."""


def ours(families: Mapping[str, Iterable[str]]) -> Layout:
    """Our charts: training and validation loss on one, and one for each other family of our own curves.

    Args:
        families: Tags by chart title.

    >>> ours({"gradient norm": ["lightning_debug/gradient_norm"]})["lightning_debug"]["gradient norm"]
    ['Multiline', ['^lightning_debug/gradient_norm$']]
    """
    charts: dict[str, list[Any]] = {"loss: training and validation": ["Multiline", list(LOSSES)]}
    for title, tags in families.items():
        patterns = [f"^{re.escape(tag)}$" for tag in tags if not any(re.match(loss, tag) for loss in LOSSES)]
        if patterns:
            charts[title] = ["Multiline", patterns]
    return {CATEGORY: charts}


def merged(theirs: Layout | None, own: Layout) -> Layout:
    """Their categories, then ours.

    >>> list(merged({"mine": {}, "lightning_debug": {"old": []}}, {"lightning_debug": {"new": []}}))
    ['mine', 'lightning_debug']
    """
    kept = {name: charts for name, charts in (theirs or {}).items() if name not in own}
    return {**kept, **own}


class UnreadableLayout(ValueError):
    """A layout that ``add_custom_scalars`` could not write again as it is."""


def written(folder: str) -> Layout | None:
    """The layout that TensorBoard shows for a run's folder: the last one in its event files.

    Raises:
        OSError: If a file cannot be read.
        UnreadableLayout: If the folder is not on this machine, or the layout is more than we could write again.
    """
    if "://" in folder:
        raise UnreadableLayout(f"the event files in {folder} cannot be searched for one")
    last: bytes | None = None
    for path in sorted(glob.glob(os.path.join(glob.escape(folder), "*tfevents*"))):  # TensorBoard's own order
        for payload in _events_with(path, TAG):
            last = _layout_in(payload) or last
    return None if last is None else _parse(last)


def _events_with(path: str, needle: bytes) -> Iterator[bytes]:
    """The events of a file that hold some bytes. A file is a row of records: length, checksum, data, checksum."""
    size = os.path.getsize(path)
    if size > MOST_BYTES:
        raise UnreadableLayout(f"{os.path.basename(path)} is too large to look for a layout in it")
    if size == 0:
        return
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found, at = data.find(needle), 0
        while found >= 0 and at + 12 <= len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            end = at + 12 + length
            if found < end and end + 4 <= len(data):  # a record that is still being written is not read
                yield data[at + 12 : end]
            if found < end:
                found = data.find(needle, end)
            at = end + 4


def _layout_in(payload: bytes) -> bytes | None:
    """The layout that an event carries, if it does: other events may name the tag in a text."""
    from tensorboard.compat.proto.event_pb2 import Event

    try:
        values = Event.FromString(payload).summary.value
    except Exception as error:  # protobuf has no typed error to catch
        raise UnreadableLayout(f"an event cannot be read: {error}") from error
    found = [bytes(value.tensor.string_val[0]) for value in values if value.tag == TAG.decode()]
    return found[-1] if found else None


def _parse(content: bytes) -> Layout:
    from tensorboard.plugins.custom_scalar import layout_pb2

    proto = layout_pb2.Layout.FromString(content)
    layout: Layout = {}
    for category in proto.category:
        charts = layout.setdefault(category.title, {})
        for chart in category.chart:
            series = [[item.value, item.lower, item.upper] for item in chart.margin.series]
            if chart.title in charts or len(series) > 1:
                raise UnreadableLayout(f"chart {chart.title!r} of category {category.title!r} cannot be merged")
            charts[chart.title] = ["Margin", series[0]] if series else ["Multiline", list(chart.multiline.tag)]
    return layout
