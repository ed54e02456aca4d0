"""Jobs of a killed pipeline must not go on writing beside those of the next one; hanging ones say where they hang."""

import faulthandler
import os
import signal
import socket
import sys
import threading
import time

ASK = getattr(signal, "SIGUSR1", None)  # not every system has it
VARIABLE = "POSESCALE_PIPELINE"  # "<host>:<pid>" of the pipeline that started this process


def address() -> str:
    """What a pipeline puts into the variable for its jobs."""
    return f"{socket.gethostname()}:{os.getpid()}"


def follow(interval: float = 0.5) -> None:
    """End this process soon after the pipeline that started it; does nothing by hand or on another host."""
    host, _, pid = os.environ.get(VARIABLE, "").rpartition(":")
    if host == socket.gethostname() and pid.isdigit():
        watch(int(pid), interval)


def watch(pid: int, interval: float = 0.5) -> None:
    """End this process soon after process `pid` of this host."""
    threading.Thread(target=_watch, args=(pid, interval), daemon=True).start()


def end_with_parent() -> None:
    """End this process when the one that holds the other end of its standard input closes it or dies.

    Call it after standard input has been read.
    """

    def watch() -> None:
        sys.stdin.buffer.read()  # returns when the parent's end is closed
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def tell_where_when_asked() -> None:
    """Write the stacks of all threads to standard error on the signal ASK, even while C code runs or waits."""
    if ASK is not None:
        faulthandler.register(ASK, all_threads=True)


def _watch(pid: int, interval: float) -> None:
    while _alive(pid):
        time.sleep(interval)
    os._exit(1)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it lives, as another user
        pass
    return True
