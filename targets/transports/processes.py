"""The end of a child process that carries the protocol."""

import contextlib
import os
import signal
import subprocess

GRACE_S = 2.0  # what it gets to end by itself once its input is closed


def end(process: "subprocess.Popen[bytes]", *, alone: bool = False) -> None:
    """Close its input, wait for it, and kill what is left of its session, which it leads. `alone`: of the session it
    only; the others are not ours to end, such as the way through a jump host that other connections share. Its output
    is closed by whoever reads it."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        pass
    finally:
        if alone:
            process.kill()
        else:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # nothing is left of it
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()
