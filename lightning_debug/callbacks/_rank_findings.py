"""What all ranks have found, brought together on rank 0 when a session ends."""

from __future__ import annotations

import contextlib
import itertools
import json
from typing import Any

from lightning_debug.callbacks import _ranks
from lightning_debug.callbacks._lightning import Trainer
from lightning_debug.finding import Report, Skip
from lightning_debug.record import Record
from lightning_debug.session import Session

SECONDS, SECONDS_AFTER_FAILURE = 5.0, 1.0
"""How long rank 0 waits, once, for ranks that have not told yet; less where the run broke off."""

MOST_FINDINGS, MOST_CHARACTERS = 64, 32_000
"""What a rank tells at most."""

_MEETINGS = itertools.count()


class RankFindings:
    """The meeting of one session's ranks. No collective: each leaves a text in the store that they have met in.

    So a rank that raises, dies, or lacks our callbacks keeps nobody waiting but rank 0, for :data:`SECONDS` at most;
    and a rank that raises leaves word before the others hear of its end.

    Args:
        trainer: Of several ranks, which begin their sessions in the same order.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._place, self._ended = f"findings/{next(_MEETINGS)}", itertools.count()
        with contextlib.suppress(Exception):  # no process group, or a backend without a store: nobody will ask
            _ranks.tell(f"{self._place}/here", "", trainer)

    def close(self, session: Session, status: str, trainer: Trainer) -> None:
        """Closes a session: rank 0 hears the others before, the others tell what was found after."""
        key = f"{self._place}/{next(self._ended)}"
        if trainer.global_rank:
            report = session.close(status)
            with contextlib.suppress(Exception):  # the store may be gone with the rank that kept it
                _ranks.tell(key, encode(report), trainer)
            return
        seconds = SECONDS if status == "finished" else SECONDS_AFTER_FAILURE
        told: dict[int, Report] = {}
        with contextlib.suppress(Exception):  # another rank may have another version of us, and tell it otherwise
            heard = _ranks.hear_each(key, trainer, seconds, f"{self._place}/here")
            for rank, text in sorted(heard.items()):
                told[rank] = decode(text)
        session.hear(told, trainer.world_size)
        failed = [(rank, report.status) for rank, report in told.items() if report.status.startswith("failed: ")]
        elsewhere = [f"rank {rank}: {other.removeprefix('failed: ')}" for rank, other in failed]
        if elsewhere and status.startswith("failed: ") and not elsewhere[0].endswith(status[8:]):
            status = f"{status}; {elsewhere[0]}"  # ours may only say that the other rank is gone
        session.close(status)


def encode(report: Report) -> str:
    """A report as text of bounded length."""
    from lightning_debug.reports.json_report import to_document  # only runs of several ranks pay for it

    findings = to_document(report, Record())["report"]["findings"][:MOST_FINDINGS]
    for shorten in (False, True):
        told: list[dict[str, Any]] = []
        room = MOST_CHARACTERS
        for item in findings:
            one = {**item, "measured": {}} if shorten else item
            room -= len(json.dumps(one)) + 2
            told += [one] if room > 0 else []
        if room > 0:
            break
    skips = sorted({skip.code for skip in report.skips})
    return json.dumps({"status": report.status[:1000], "findings": told, "skips": skips})


def decode(text: str) -> Report:
    """The report that a text of :func:`encode` holds."""
    from lightning_debug.reports.json_report import finding

    told = json.loads(text)
    skips = tuple(Skip("", code) for code in told["skips"])
    return Report(tuple(finding(item) for item in told["findings"]), skips, status=told["status"])
