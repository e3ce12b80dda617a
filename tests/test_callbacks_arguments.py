"""Arguments that are not accepted: an error before the run that holds the name, the value and what to give."""

import inspect
import math

import pytest

from lightning_debug import Debugger, EarlyStoppingSelector
from lightning_debug.debugger import PARTS
from lightning_debug.settings import Settings

WRONG = {
    "bool": ("maybe", 1, None),
    "int": ("x", -1, 1.5, True, []),
    "float": ("x", -1, math.nan, True, []),
}
WORDS = (-1, 1.5)
"""What no name, choice or path takes."""


@pytest.mark.parametrize("kind", [*PARTS, Debugger, EarlyStoppingSelector], ids=lambda kind: kind.__name__)
def test_a_wrong_argument_is_named_with_its_value_and_what_to_give(kind):
    for name, parameter in inspect.signature(kind).parameters.items():
        for value in WRONG.get(parameter.annotation.removesuffix(" | None"), WORDS):
            if value is None and kind is Debugger and name in Settings.__dataclass_fields__:
                continue  # left to the other sources
            with pytest.raises(ValueError, match=r"is not accepted; |must ") as caught:
                kind(**{name: value})
            assert f"{name}={value!r}" in str(caught.value)
