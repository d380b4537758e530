"""A child process that carries the protocol: what it says beside it, and its end."""

import contextlib
import os
import selectors
import signal
import subprocess
import threading
from typing import final

GRACE_S = 2.0  # what it gets to end by itself once its input is closed
KEPT_BYTES = 1 << 14  # of what it says beside the protocol: the end of it
LAST_WORDS_S = 0.5  # that an ended process's output takes to arrive


@final
class Said:
    """The end of what a process writes to its standard error, which comes from the device, however much that is."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stderr is not None
        self._stream = process.stderr
        self._kept = b""
        self._wake, self._waker = os.pipe()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def text(self) -> str:
        """In lines, without what a terminal would obey. To be asked for once the process has ended; a child of its
        may hold the pipe for longer."""
        self._thread.join(LAST_WORDS_S)
        lines = self._kept.decode("utf-8", errors="replace").splitlines()
        return "\n".join("".join(each if each.isprintable() else "\ufffd" for each in line) for line in lines)

    def close(self) -> None:
        os.close(self._waker)
        self._thread.join()
        os.close(self._wake)
        self._stream.close()

    def _listen(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake, selectors.EVENT_READ)
            selector.register(self._stream, selectors.EVENT_READ)
            while all(key.fd != self._wake for key, _ in selector.select()):
                block = os.read(self._stream.fileno(), 1 << 16)
                if not block:
                    return
                self._kept = (self._kept + block)[-KEPT_BYTES:]


def status_of(process: "subprocess.Popen[bytes]") -> int:
    """Of a process that has closed its output; one that lives on for all that is killed."""
    try:
        return process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


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
