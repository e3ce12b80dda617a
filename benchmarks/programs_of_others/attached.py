"""Runs a script unedited, as ``python script.py`` does, and keeps the report of each fit: ``attached.py FOLDER SCRIPT``."""

import json
import runpy
import sys
from pathlib import Path


class Keeper:
    """A sink that keeps each report under a number of its own: several fits share a logger's folder."""

    count = 0

    def __init__(self, folder):
        Keeper.count += 1
        self.path = Path(folder) / f"fit-{Keeper.count}.json"

    def on_evidence(self, evidence):
        pass

    def on_finding(self, finding):
        pass

    def on_report(self, report, record):
        from lightning_debug.reports.json_report import to_document

        self.path.parent.mkdir(parents=True, exist_ok=True)
        document = to_document(report, record)
        self.path.write_text(json.dumps({**document["report"], "record": document["record"]}), encoding="utf-8")


def main():
    from lightning_debug import _tally

    folder, script = sys.argv[1:3]
    sys.argv = sys.argv[2:]
    _tally.sinks = lambda: [Keeper(folder)]
    sys.path[0] = str(Path(script).parent)
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
