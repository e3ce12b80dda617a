"""What inputs are that reach a layer as whole numbers: pixels of so many bits, sound, computed tomography."""

from __future__ import annotations

import math

from lightning_debug.evidence.data_values import FirstLayerInput
from lightning_debug.rules._data_layers import number

FEWEST_STEPS = 64
"""Wave forms are at least that long: shorter rows may be those of a table."""
FEWEST_IN_FRAME = 8
"""So many values of a wave form a layer gets at once, at least."""
MOST_CHANNELS = 16
UNEVEN = 5.0
"""How far the deviations of a wave form's steps are apart at most; columns of a table are further."""

_CHANNELS = "normalise each channel (mean and standard deviation of the training set)"


def fix_by_format(layer: FirstLayerInput) -> str:
    """How values of a known format are brought to the order of 1; empty where the format is not known.

    >>> layer = FirstLayerInput(operation="conv1d", shape=(32, 1, 8000), whole=True, lowest=-30211, highest=32767)
    >>> fix_by_format(layer)
    'Divide the wave forms by 32768: these are whole numbers as sound of 16 bits has them, and 1 is the loudest then.'
    >>> layer = FirstLayerInput(operation="conv2d", shape=(8, 1, 64, 64), whole=True, highest=4095)
    >>> fix_by_format(layer).split(" and ")[0]
    'Divide the images by 4095, the largest value of 12 bits,'
    """
    if _is_image(layer):
        return _of_image(layer)
    return _of_waves(layer) if _is_wave(layer) else ""


def _is_image(layer: FirstLayerInput) -> bool:
    return "conv2d" in layer.operation or "conv3d" in layer.operation or "conv_transpose2d" in layer.operation


def _of_image(layer: FirstLayerInput) -> str:
    if layer.lowest >= 0 and 100 < layer.highest <= 255:
        return f"Divide the images by 255 and {_CHANNELS}."
    if not layer.whole:
        return ""
    if layer.lowest >= 0 and 255 < layer.highest < 2**16:
        full, bits = _full(layer.highest)
        return f"Divide the images by {full}, the largest value of {bits} bits, and {_CHANNELS}."
    if layer.lowest in (-1000, -1024, -2000, -2048) and layer.highest < 2**15:  # air, and what is outside of the scan
        return (
            "If these are Hounsfield units, clip them to the window of what is looked for (-1000 to 400 for lungs), "
            "and bring the window to 0..1; else subtract the training set's mean and divide by its deviation."
        )
    return ""


def _full(highest: float) -> tuple[int, int]:
    """The largest value of the format, and its bits; those of 10 and 14 only where a value is saturated."""
    for bits in (10, 14):
        if highest == 2**bits - 1:
            return 2**bits - 1, bits
    bits = 12 if highest < 2**12 else 16
    return 2**bits - 1, bits


def _is_wave(layer: FirstLayerInput) -> bool:
    """Whether a layer gets whole numbers along time, around a middle, in one row or in frames."""
    if not layer.whole or not -(2**15) <= layer.lowest < 0 < layer.highest < 2**15:
        return False
    if layer.operation in ("conv1d", "lstm", "gru", "rnn_tanh", "rnn_relu"):
        channels, steps = sorted(layer.shape[1:])[:2] if len(layer.shape) == 3 else (0, 0)
        return channels <= MOST_CHANNELS and steps >= FEWEST_STEPS
    spreads = sorted(deviation for deviation in layer.deviations if deviation > 0)
    if len(spreads) < FEWEST_IN_FRAME or math.prod(layer.shape[1:]) < FEWEST_STEPS:
        return False
    return spreads[-1] < UNEVEN * spreads[len(spreads) // 2] and max(map(abs, layer.means)) < spreads[-1]


def _of_waves(layer: FirstLayerInput) -> str:
    peak = max(-layer.lowest, layer.highest)
    if peak >= 2**11:
        return (
            "Divide the wave forms by 32768: these are whole numbers as sound of 16 bits has them, and 1 is the "
            "loudest then."
        )
    return (
        f"Divide the wave forms by what their format can hold (32768 for sound of 16 bits, 2048 for 12 bits; here "
        f"they reach {number(peak)}), or by their standard deviation over the training set."
    )
