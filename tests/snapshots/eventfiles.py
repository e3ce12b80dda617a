"""Reads back what lies in event files, with TensorBoard's own reader."""

from __future__ import annotations

from tensorboard.backend.event_processing.event_accumulator import STORE_EVERYTHING_SIZE_GUIDANCE, EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2


def events(folder):
    read = EventAccumulator(str(folder), size_guidance=STORE_EVERYTHING_SIZE_GUIDANCE)
    read.Reload()
    return read


def texts(read):
    return {
        tag.removesuffix("/text_summary"): [item.tensor_proto.string_val[0].decode() for item in read.Tensors(tag)]
        for tag in read.Tags()["tensors"]
        if tag.endswith("/text_summary")
    }


def layouts(read):
    if "custom_scalars__config__" not in read.Tags()["tensors"]:
        return []
    found = [item.tensor_proto.string_val[0] for item in read.Tensors("custom_scalars__config__")]
    return [
        {c.title: [chart.title for chart in c.chart] for c in layout_pb2.Layout.FromString(x).category} for x in found
    ]
