"""Errors of a value that is monitored or read, and that nothing logs under that name."""

from __future__ import annotations

import re

from lightning_debug.evidence.errors import ErrorRaised
from lightning_debug.rules._errors_words import Diagnosis

_CODE = "LD121"
_WHY = {
    "no-step": ("the module has no validation_step, so no validation runs", "Define validation_step and log it there"),
    "limit": ("limit_val_batches is 0, so no validation runs", "Leave limit_val_batches out"),
    "no-data": ("no validation data are given, so no validation runs", "Give fit a validation loader"),
    "not yet": ("no validation has run yet", "Read it after a validation, in on_validation_epoch_end for example"),
}


def unlogged_value(error: ErrorRaised) -> Diagnosis | None:
    """A name that a callback, a schedule or the user's code looks up among the logged values, in vain."""
    if error.wanted is None:
        return None
    name, asker = error.wanted
    reads = asker.endswith("_metrics")
    who = f"trainer.{asker}[{name!r}] is read" if reads else f"{asker} monitors {name!r}"
    cause, told, fix = _told(error, name, asker, reads=reads)
    there = error.notes.get("there") or ", ".join(_listed(error.message))
    known = f" Logged are: {there}." if there else "" if reads else " Nothing is logged."
    return Diagnosis(_CODE, cause, f"{who}, and {told}.{known}", fix, subject=name)


def _told(error: ErrorRaised, name: str, asker: str, *, reads: bool) -> tuple[str, str, str]:
    near = error.notes.get("near", "")
    if "/dataloader_idx_" in near and "/dataloader_idx_" not in name:
        told = f"with several validation loaders Lightning adds the loader to the name: there is {near!r}"
        fix = f"{_ask(asker, near, reads=reads)}, or log it with add_dataloader_idx=False under a name for each loader."
        return "name-of-several-loaders", told, fix
    if near:
        fix = f"{_ask(asker, near, reads=reads)}, or log it as {name!r}."
        return "another-name", f"it is logged as {near!r}", fix
    if error.notes.get("per_step"):
        told = "its schedule steps after each batch, before a validation has logged it"
        return "plateau-each-step", told, f'Have it step once an epoch: "interval": "epoch", "monitor": "{name}".'
    why, written = error.notes.get("no_validation", ""), error.notes.get("written_in", "")
    if why.startswith("every "):
        count = why.removeprefix("every ")
        told = f"validation runs every {count} epochs only (check_val_every_n_epoch={count}), and not before this point"
        fix = {
            "ReduceLROnPlateau": f'Have the schedule step as rarely: "frequency": {count}.',
            "EarlyStopping": "Leave check_on_train_epoch_end out, so that it looks after a validation.",
        }.get(asker, "Read it after a validation only.")
        return "validated-rarely", told, fix
    if why and (why != "not yet" or not written or reads):
        told, fix = _WHY[why]
        instead = "" if reads or why == "not yet" else ", or monitor a value that training logs"
        return f"no-validation-{why.replace(' ', '-')}", told, f"{fix}{instead}."
    if written:
        told = f"{written} holds that name, but no call of self.log has it (what a step returns is not logged)"
        return "returned-and-not-logged", told, f'Log it there: self.log("{name}", value).'
    return "not-logged", "nothing logs a value of that name", f'Log it in validation_step: self.log("{name}", value).'


def _listed(message: str) -> list[str]:
    """The names that the exception itself lists."""
    after = re.search(r"(?:following:|metrics:|metrics are:)(.*?)(?:\. HINT|\. Condition|$)", message, re.S)
    return re.findall(r"[`']([^`']+)[`']", after[1]) if after else []


def _ask(asker: str, name: str, *, reads: bool) -> str:
    if reads:
        return f'Read trainer.{asker}["{name}"]'
    if asker == "ReduceLROnPlateau":
        return f'Monitor that in configure_optimizers: "monitor": "{name}"'
    return f'Monitor that: {asker}(monitor="{name}")'
