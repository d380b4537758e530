"""The end of a child process that carries the protocol."""

import contextlib
import os
import signal
import subprocess

GRACE_S = 2.0  # what it gets to end by itself once its input is closed


def end(process: "subprocess.Popen[bytes]") -> None:
    """Close its input, wait for it, and kill what is left of its session, which it leads."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # nothing is left of it
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
