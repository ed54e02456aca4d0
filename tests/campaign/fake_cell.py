"""Stands in for posescale.campaign.cell: does what the settings say, without torch, in a tenth of a second."""

import json
import os
import signal
import sys
import time
from pathlib import Path

from posescale import lifeline
from posescale.records import Record


def emit(event, **fields):
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


def main():
    job = json.loads(sys.stdin.readline())
    lifeline.end_with_parent()
    settings = job["settings"]
    time.sleep(settings.get("sleep", 0))
    missing = "needs" in settings and not Path(settings["needs"]).exists()
    ending = {"status": "blocked", "reason": f"{settings['needs']} is missing"} if missing else {}
    for number in range(settings.get("records", 1)):
        record = Record(
            kind="check", component="ops", variant="multi_scan", digest="0", study=job["study"], seed=number,
            device=job["device"], options={"number": settings["number"]}, **ending,
        )  # fmt: skip
        emit("record", line=record.line())
    time.sleep(settings.get("then", 0))
    if settings.get("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    if settings.get("fail"):
        emit("failed", status="oom", reason="out of memory")
    emit("end")


if __name__ == "__main__":
    main()
