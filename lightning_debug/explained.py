"""A pasted traceback, explained as far as its text allows."""

from __future__ import annotations

from lightning_debug import registry
from lightning_debug.judge import judge
from lightning_debug.record import Record
from lightning_debug.rules._errors_text import parse


def explain_error(text: str) -> str:
    """What an exception comes from, and the edit.

    Args:
        text: A traceback as Python prints it, or its last line.

    Raises:
        ValueError: If no exception stands in the text.

    >>> print(explain_error("IndexError: Target 10 is out of bounds.").splitlines()[0])
    error LD106 label-out-of-range
    """
    error = parse(text)
    record = Record([error])
    family = [one for one in registry.all_rules() if one.code.startswith("LD1")]
    findings = judge(record, family).findings
    where = f"  where      {error.line}: {error.source}" if error.line else ""
    if not findings:
        told = f"{error.error}: {error.message.splitlines()[0] if error.message else ''}"
        parts = ["this exception is not one that can be explained from its text", f"  raised     {told}", where]
        parts.append("  fix        run it with a Debugger, which sees the tensors: lightning-debug run script.py")
        return "\n".join(filter(None, parts))
    first = findings[0]
    head = [f"{first.severity} {first.code} {first.name}", f"  {first.message}", where, f"  fix        {first.fix}"]
    more = [f"  read more  lightning-debug explain {first.code}"]
    more.append("  more       lightning-debug run script.py sees the tensors, and names module, shapes and the edit")
    return "\n".join(filter(None, [*head, *more]))
