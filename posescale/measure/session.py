"""Starting worker processes and hearing them out: a cell that hangs, crashes or fills the memory costs itself."""

import json
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import Any, TextIO

from posescale.cards import ROOT
from posescale.lifeline import ASK

Event = dict[str, Any]
PATIENCE = 0.5  # seconds for a hanging process to say where it is


class Worker:
    """One worker process and the events it sends.

    Args:
        job: what to do, as plain JSON with `threads`; see `module`.
        timeout: seconds that may pass between two events.
        module: what runs the job: it reads it from standard input and answers with events, the last called `end`.
    """

    def __init__(self, job: dict[str, Any], timeout: float, module: str = "posescale.measure.worker") -> None:
        self.timeout = timeout
        self.errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        threads = str(job["threads"])
        environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        environment["PYTHONPATH"] = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH")) if p)
        self.process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=environment,
        )
        self.events: queue.Queue[Event | None] = queue.Queue()
        threading.Thread(target=_listen, args=(self.process.stdout, self.events), daemon=True).start()
        try:
            self.process.stdin.write(json.dumps(job) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it died already; the missing events say so

    def hear(self, on_event: Callable[[Event], None]) -> dict[str, str] | None:
        """Pass every event on until the worker ends.

        Returns:
            None after a regular end, else the status and reason of what was going on when it stopped.
        """
        try:
            while True:
                try:
                    event = self.events.get(timeout=self.timeout)
                except queue.Empty:
                    return {
                        "status": "timeout",
                        "reason": f"nothing came back within {self.timeout:g} s{self._where()}",
                    }
                if event is None:
                    return {"status": "crashed", "reason": self._last_words()}
                on_event(event)
                if event["event"] == "end":
                    return None
        finally:
            self.close()

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.errors.close()

    def _where(self) -> str:
        """What a process that hangs is doing, if it can still say so; see `lifeline.tell_where_when_asked`."""
        if ASK is None:
            return ""
        before = self.errors.seek(0, os.SEEK_END)
        self.process.send_signal(ASK)
        try:
            self.process.wait(PATIENCE)  # one that does not know the signal ends by it
        except subprocess.TimeoutExpired:
            pass
        self.errors.seek(before)
        return where(self.errors.read())

    def _last_words(self) -> str:
        code = self.process.wait()
        self.errors.seek(0)
        lines = [line.strip() for line in self.errors if line.strip()]
        how = f"exit status {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
        if code == -signal.SIGKILL:
            how += " (the system does this when memory runs out)"
        return f"the process ended: {how}" + (f"; its last words: {lines[-1][:300]}" if lines else "")


def where(stacks: str) -> str:
    """The innermost place in a dump of stacks, and who of this package called it; empty without one."""
    _, _, main = stacks.rpartition("Current thread")
    frames = re.findall(r'File "(.+)", line (\d+) in (.+)', main)
    if not frames:
        return ""
    inner, ours = frames[0], next((f for f in frames if "/posescale/" in f[0]), frames[0])
    words = [f"{function} ({os.path.basename(file)}:{line})" for file, line, function in dict.fromkeys([inner, ours])]
    return f"; it was in {', called from '.join(words)}"


def _listen(stream: TextIO, events: "queue.Queue[Event | None]") -> None:
    with stream:
        for line in stream:
            events.put(json.loads(line))
    events.put(None)
