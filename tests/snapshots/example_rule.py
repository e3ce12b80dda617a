"""Rows of the loss's input sum to one.

What it sees: the input of ``cross_entropy``; a row sum nearer to 1 than ``tolerance``.
Why it hurts: cross_entropy applies log-softmax itself.

    A second paragraph, with <angle> brackets & an ampersand.
How to fix:
    - return the logits
    - or use `nll_loss` on
      log-probabilities
When to ignore: never.
Broken:
    loss = F.cross_entropy(self.net(x).softmax(1), y)
    self.log("loss", loss)
Repaired:
    loss = F.cross_entropy(self.net(x), y)
    self.log("loss", loss)

Example:
    >>> [claim.subject for claim in example_fault(Record([ExampleFault(subject="net", row_sum=1.0)]))]
    ['net']

References: https://pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html (the note).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lightning_debug.evidence import Evidence
from lightning_debug.finding import ERROR, Claim
from lightning_debug.record import Record
from lightning_debug.rule import Rule, rule


@dataclass(frozen=True, kw_only=True)
class ExampleFault(Evidence):
    """A fault seen.

    Args:
        subject: Where.
        row_sum: A number.
    """

    subject: str
    row_sum: float


@rule("LD299", severity=ERROR, needs=ExampleFault)
def example_fault(record: Record, *, tolerance: float = 0.01) -> Iterator[Claim]:
    """Claims a finding for each fault."""
    for fault in record.of(ExampleFault):
        if abs(fault.row_sum - 1.0) < tolerance:
            yield Claim(
                message=f"Rows of the loss's input [64, 10] sum to {fault.row_sum:.3f} (±{tolerance}).",
                subject=fault.subject,
                measured={"row_sum": fault.row_sum, "shape": (64, 10)},
                fix="Take `softmax` out of `forward`.",
                at=fault.at,
            )


RULE: Rule = example_fault.__rule__  # type: ignore[attr-defined]
