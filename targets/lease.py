"""The lease on a device: one measurement at a time, whoever asks (device side).

A file that every user of the device can lock. The kernel gives a lock back when its holder dies, however it dies; a
holder that lives and does nothing (stopped, or stuck in a driver) stops showing itself in the file, and after
`EXPIRED_S` the next one puts a new file in its place. Time is the kernel's since it started: no setting of a clock
changes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import time
from pathlib import Path
from typing import Any, Callable

from targets.errors import TargetError

SHOWN_EVERY_S = 5.0
EXPIRED_S = 30.0  # six signs of life were missed
ASKED_EVERY_S = 0.05
LONGEST = 400  # bytes that are read of a file that anybody may write

PLACES = ("/tmp", "/data/local/tmp")  # noqa: S108 -- the same for all users on purpose; the second is a phone's
NAME = "cutback.lease"


class Lease:
    """For one thread. `holder`: who others are told has the device."""

    def __init__(self, holder: str, path: str = "") -> None:
        self.path = path or default_path()
        self._holder = holder
        self._file: int | None = None
        self._shown = 0.0

    def take(self, on_wait: Callable[[str], None]) -> None:
        """Wait until the device is ours; `on_wait(who has it)` is called again and again meanwhile, and may raise."""
        if self._file is not None:
            return
        while not self._try():
            on_wait(self._present_holder())
            time.sleep(ASKED_EVERY_S)
        self.show(force=True)

    def show(self, force: bool = False) -> None:
        """A sign of life, where one is due. `TargetError` when somebody else was given the device meanwhile."""
        if self._file is None or (not force and time.monotonic() - self._shown < SHOWN_EVERY_S):
            return
        if not same_file(self._file, self.path):
            self.release()
            raise TargetError("The device was given to another host while this one did not move. Measure again.")
        self._shown = time.monotonic()
        content = json.dumps({"holder": self._holder[:200], "boot": boot(), "beat_s": time.monotonic()}).encode()
        os.pwrite(self._file, content[:LONGEST].ljust(LONGEST), 0)

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)  # and with it the lock
            self._file = None

    def other_holder(self) -> str | None:
        """Who else has the device just now; None: nobody. Waits for nothing."""
        if self._file is not None:
            return None
        file = open_shared(self.path)
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return self._present_holder()
        finally:
            os.close(file)
        return None

    def _try(self) -> bool:
        file = open_shared(self.path)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if same_file(file, self.path):
                self._file = file
                return True
        except OSError:
            if expired(read_state(file)):
                self._break(file)
        os.close(file)
        return False

    def _break(self, file: int) -> None:
        """Take the file of a holder that does not move out of its place. Not the very moment that it looks so: who has
        just been given the lock may not have written yet. One breaks at a time, or the second breaks what is new."""
        with contextlib.suppress(OSError):  # another user's file, in a folder where only owners may
            guard = open_shared(self.path + ".guard")
            try:
                fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
                time.sleep(4 * ASKED_EVERY_S)
                if expired(read_state(file)) and same_file(file, self.path):
                    Path(self.path).unlink()
            finally:
                os.close(guard)

    def _present_holder(self) -> str:
        try:
            file = open_shared(self.path)
        except OSError:
            return "another host"
        try:
            who = read_state(file).get("holder")
        finally:
            os.close(file)
        return who if isinstance(who, str) and who.isprintable() else "another host"


def default_path() -> str:
    if "CUTBACK_LEASE" in os.environ:  # for containers that share a device and no folder of these
        return os.environ["CUTBACK_LEASE"]
    for place in PLACES:
        if os.access(place, os.W_OK):
            return f"{place}/{NAME}"
    raise TargetError(f"There is no place for a lease on this device: none of {', '.join(PLACES)} may be written to.")


def open_shared(path: str) -> int:
    """The file, made where it is not there; `TargetError` where somebody put something else in its place."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    for _ in range(100):  # it may go and come between the two calls
        with contextlib.suppress(FileNotFoundError):
            file = os.open(path, flags)
            break
        with contextlib.suppress(FileExistsError):
            file = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
            os.fchmod(file, 0o666)  # whatever the umask says
            break
    else:
        raise TargetError(f"Cannot open the lease {path}: it comes and goes.")
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise TargetError(f"{path} is no file. Remove it: the lease on this device belongs there.")
    return file


def same_file(file: int, path: str) -> bool:
    try:
        there = Path(path).lstat()
    except OSError:
        return False
    ours = os.fstat(file)
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def read_state(file: int) -> dict[str, Any]:
    with contextlib.suppress(ValueError, OSError):
        found = json.loads(os.pread(file, LONGEST, 0))
        if isinstance(found, dict):
            return found
    return {}


def expired(state: dict[str, Any]) -> bool:
    """Whether the holder has not shown itself for too long; a state that cannot be read says nothing."""
    beat = state.get("beat_s")
    if not isinstance(beat, (int, float)) or state.get("boot") != boot():
        return False
    return time.monotonic() - beat > EXPIRED_S


def boot() -> str:
    """What tells this run of the kernel from others; its monotonic clock starts anew with each."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""
