"""The lease on a device: one measurement at a time, whoever asks (device side).

A file that every user of the device can lock. The kernel gives a lock back when its holder dies, however it dies; a
holder that lives and does nothing (stopped, or stuck in a driver) stops showing itself in the file, and after
`EXPIRED_S` the next one puts a new file in its place. Time is the kernel's since it started: no setting of a clock
changes it. What others put where the file belongs is neither followed nor written to.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import getpass
import json
import os
import platform
import stat
import time
from pathlib import Path
from typing import Any, Callable

from targets.errors import TargetError

SHOWN_EVERY_S = 5.0
EXPIRED_S = 30.0  # six signs of life were missed
ASKED_EVERY_S = 0.05
ATTEMPTS = 50
LONGEST = 400  # bytes that are read of a file that anybody may write

PLACES = ("/tmp", "/data/local/tmp")  # noqa: S108 -- the same for all users on purpose; the second is a phone's
NAME = "cutback.lease"
VARIABLE = "CUTBACK_LEASE"


class Lease:
    """For one thread. `holder`: who others are told has the device."""

    def __init__(self, holder: str, path: str = "") -> None:
        self.path = path or default_path()
        self._holder = holder
        self._file: int | None = None
        self._shown = 0.0
        self._seen: tuple[object, float] = (None, 0.0)  # what another's file holds, and since when it does

    def take(self, on_wait: Callable[[str], None]) -> None:
        """Wait until the device is ours; `on_wait(who has it)` is called again and again meanwhile, and may raise."""
        if self._file is not None:
            return
        self._seen = (None, 0.0)
        while not self._try():
            on_wait(self._present_holder())
            time.sleep(ASKED_EVERY_S)
        self.show(force=True)

    def show(self, force: bool = False) -> None:
        """A sign of life, where one is due. `TargetError` when somebody else was given the device meanwhile."""
        if self._file is None or (not force and time.monotonic() - self._shown < SHOWN_EVERY_S):
            return
        self.confirm()
        self._shown = time.monotonic()
        content = json.dumps({"holder": self._holder[:200], "boot": boot(), "beat_s": time.monotonic()}).encode()
        os.pwrite(self._file, content[:LONGEST].ljust(LONGEST), 0)

    def confirm(self) -> None:
        """That the device, where it was taken, was ours all the time. `TargetError` where it was not."""
        if self._file is not None and not same_file(self._file, self.path):
            self.release()
            raise TargetError("The device was given to another host while this one did not move. Measure again.")

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
            if self._expired(file):
                self._break(file)
        os.close(file)
        return False

    def _expired(self, file: int) -> bool:
        """Whether the holder says so, or shows no sign of life while we look on, whatever its file says."""
        present = (os.fstat(file).st_ino, os.pread(file, LONGEST, 0))
        if present != self._seen[0]:
            self._seen = (present, time.monotonic())
        return expired(read_state(file)) or time.monotonic() - self._seen[1] > EXPIRED_S

    def _break(self, file: int) -> None:
        """Take the file of a holder that does not move out of its place. Not the very moment that it looks so: who has
        just been given the lock may not have written yet. One breaks at a time, or the second breaks what is new."""
        with contextlib.suppress(OSError):  # another user's file, in a folder where only owners may
            guard = open_shared(self.path + ".guard")
            try:
                fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
                time.sleep(4 * ASKED_EVERY_S)
                if self._expired(file) and same_file(file, self.path):
                    Path(self.path).unlink()
            finally:
                os.close(guard)

    def _present_holder(self) -> str:
        try:
            file = open_shared(self.path)
        except TargetError:
            return "another host"
        try:
            who = read_state(file).get("holder")
        finally:
            os.close(file)
        return who if isinstance(who, str) and who.isprintable() else "another host"


def holder_name() -> str:
    """Who asks: as the bootstrap was told, else this machine's own user."""
    return os.environ.get("CUTBACK_HOLDER") or f"{getpass.getuser()}@{platform.node()}"


def default_path() -> str:
    if os.environ.get(VARIABLE):  # for containers that share a device and no folder of these
        return os.environ[VARIABLE]
    for place in PLACES:
        if os.access(place, os.W_OK):
            return f"{place}/{NAME}"
    raise TargetError(f"There is no place for a lease on this device: none of {', '.join(PLACES)} may be written to.")


def open_shared(path: str) -> int:
    """The file, made where it is not there; `TargetError` where somebody put something else in its place."""
    try:
        file = opened(path)
    except OSError as failure:
        raise TargetError(
            f"Cannot use {path} for the lease on this device: {failure.strerror}. Remove what is there, or set "
            f"{VARIABLE} to another path, the same for everybody who measures on it."
        ) from failure
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:  # another name of it is somebody's own file
        os.close(file)
        raise TargetError(f"{path} is not a file of its own. Remove it: the lease on this device belongs there.")
    return file


def opened(path: str) -> int:
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe in its place must not hold us
    refused: OSError | None = None
    for _ in range(ATTEMPTS):  # it may come and go between two calls, and is not everybody's the moment it is made
        with contextlib.suppress(FileNotFoundError):
            try:
                return os.open(path, flags)
            except PermissionError as failure:
                refused = failure
                time.sleep(ASKED_EVERY_S / 5)
                continue
        with contextlib.suppress(FileExistsError):
            file = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
            os.fchmod(file, 0o666)  # whatever the umask says
            return file
        refused = None
    raise refused or OSError(errno.EBUSY, "it comes and goes")


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
    if isinstance(beat, bool) or not isinstance(beat, (int, float)) or state.get("boot") != boot():
        return False
    return time.monotonic() - beat > EXPIRED_S


def boot() -> str:
    """What tells this run of the kernel from others; its monotonic clock starts anew with each."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""
