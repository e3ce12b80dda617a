"""Errors of ``load_state_dict``: another beginning of names, a whole checkpoint, another architecture."""

from __future__ import annotations

import re
from collections.abc import Mapping

from lightning_debug.evidence.errors import ErrorRaised
from lightning_debug.rules._errors_words import Diagnosis

_CODE = "LD119"


def unfit_checkpoint(error: ErrorRaised) -> Diagnosis | None:
    """A state dict whose names or shapes are not those of the module that it is loaded into."""
    if "Error(s) in loading state_dict for" not in error.message:
        return None
    notes = error.notes if error.notes.get("refused_by") else {**error.notes, **_read(error.message)}
    who = notes.get("refused_by", "the module")
    if notes.get("whole"):
        key = notes["whole"]
        message = f"{who} is given a whole checkpoint, whose entry {key!r} holds the weights."
        return Diagnosis(_CODE, "whole-checkpoint", message, f"Load that entry: load_state_dict(checkpoint[{key!r}]).")
    if notes.get("surplus"):
        prefix = notes["surplus"]
        message = (
            f"the names in the state dict begin with {prefix!r} ({notes['first_unexpected']}), and those of {who} do "
            f"not ({notes['first_missing']})."
        )
        fix = (
            f"Take that beginning off: {{k.removeprefix({prefix!r}): v for k, v in state.items() if "
            f"k.startswith({prefix!r})}}."
        )
        return Diagnosis(_CODE, "names-with-prefix", message, fix)
    if notes.get("lacking_prefix"):
        part = notes["lacking_prefix"].rstrip(".")
        message = f"the state dict is that of {part} alone ({notes['first_unexpected']}), and {who} holds more."
        return Diagnosis(
            _CODE, "names-of-a-part", message, f"Load it into that part: {_path(part)}.load_state_dict(...)."
        )
    if notes.get("sizes") and not (int(notes.get("missing", 0)) or int(notes.get("unexpected", 0))):
        message = f"weights of the state dict have other shapes than those of {who}: {notes['sizes']}."
        fix = (
            "Make the module with the sizes it was saved with (classes, vocabulary, width); for a new head leave those "
            "keys out of the state dict and pass strict=False."
        )
        return Diagnosis(_CODE, "other-shapes", message, fix)
    told = [f"{notes[key]} {what} (the first is {first})" for key, what, first in _counted(notes)]
    if not told:
        return None
    fix = (
        "Build the module as it was when it was saved; where parts may differ, load what fits with strict=False and "
        "look at the missing_keys that it returns."
    )
    return Diagnosis(_CODE, "other-names", f"the state dict is not that of {who}: {' and '.join(told)}.", fix)


def _path(part: str) -> str:
    return re.sub(r"\.(\d+)", r"[\1]", f"model.{part}")


def _counted(notes: Mapping[str, str]) -> list[tuple[str, str, str]]:
    kinds = (("missing", "names are missing", "first_missing"), ("unexpected", "are not its own", "first_unexpected"))
    return [(key, what, notes[first]) for key, what, first in kinds if notes.get(first)]


def _read(text: str) -> dict[str, str]:
    """What the exception itself names, where its frames are gone."""
    found = {"refused_by": (re.search(r"loading state_dict for (\w+)", text) or ["", "the module"])[1]}
    for key, words in (("missing", "Missing"), ("unexpected", "Unexpected")):
        names = re.search(rf"{words} key\(s\) in state_dict: ((?:\"[^\"]*\"(?:, )?)+)", text)
        if names:
            every = re.findall(r'"([^"]*)"', names[1])
            found |= {key: str(len(every)), f"first_{key}": every[0]}
    sizes = re.findall(
        r"size mismatch for ([\w.]+): copying a param with shape torch\.Size\(\[([\d, ]*)\]\) from checkpoint, the "
        r"shape in current model is torch\.Size\(\[([\d, ]*)\]\)",
        text,
    )
    if sizes:
        found["sizes"] = "; ".join(f"{name} ({one}) for ({two})" for name, one, two in sizes[:6])
    one, two = found.get("first_missing", ""), found.get("first_unexpected", "")
    if one and two.endswith(f".{one}"):
        found["surplus"] = two[: -len(one)]
    elif two and one.endswith(f".{two}"):
        found["lacking_prefix"] = one[: -len(two)]
    return found
