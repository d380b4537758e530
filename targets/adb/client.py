"""The user's adb client, one device of it (host side).

`adb shell` joins its arguments into one text for a shell on the device. What is sent there is therefore always one of
our constants; everything that varies follows on its standard input, one value a line.
"""

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, final

from targets.errors import BadInput, LinkLost, TargetError
from targets.protocol import one_line

SERIAL = re.compile(r"[A-Za-z0-9_.:\[\]][A-Za-z0-9_.:\[\]-]*")
BY_NETWORK = re.compile(r".+:[0-9]+")  # what `adb connect` takes; serials of cables have no colon

ANSWERS_S = 30.0  # for what a living device does at once; adb itself gives up an address after ten
ASKED_EVERY_S = 0.5
MOST_BYTES = 64 << 20  # of what a command may print
ALL_SAID = b"\ncutback: that was all\n"

# What adb says -> what it means. `{}` is the serial.
MEANINGS = (
    ("device unauthorized", TargetError,
     ("it does not trust this computer. Unlock its screen and allow USB debugging "
      "in the dialog that it shows; if it shows none: adb kill-server, then try again")),
    ("failed to authenticate", TargetError,
     ("it does not trust this computer. Unlock its screen and allow debugging in "
      "the dialog that it shows; for wireless debugging first: adb pair HOST:PORT")),
    ("device still authorizing", TargetError,
     ("it does not trust this computer yet. Unlock its screen and allow USB "
      "debugging in the dialog that it shows")),
    ("no permissions", TargetError,
     ("this user may not open it on USB. Install the udev rules of Android devices "
      "(Debian: android-sdk-platform-tools-common), then plug it in again")),
    ("device offline", LinkLost, "it is connected and does not answer. Plug it in again, or: adb reconnect offline"),
    ("no devices/emulators found", LinkLost,
     ("adb sees no device. Switch USB debugging on, plug it in, and look at: "
      "adb devices")),
    ("more than one device", TargetError, "adb sees several devices. Give one as address: adb devices lists them"),
    ("' not found", LinkLost, "adb sees no device {}. Plug it in, with USB debugging on; these are there: adb devices"),
    ("failed to resolve host", TargetError, "there is no host of that name. Look at the address, HOST:PORT"),
    ("Connection refused", LinkLost, "nothing listens at {}. Switch wireless debugging on; its port changes each time"),
    ("failed to connect to", LinkLost, "nothing answers at {}. Is it on, awake, and in this network?"),
    ("cannot connect to daemon", TargetError,
     ("the adb server cannot be reached or started. See what it says: "
      "adb start-server")),
    ("failed to start daemon", TargetError, "the adb server does not start. See what it says: adb start-server"),
    ("No space left on device", TargetError, "there is no space left on it. Free some"),
    ("doesn't support", TargetError, "its adb is too old. Android 7 or newer is needed"),
    ("error: closed", LinkLost, "the connection was lost"),
    ("protocol fault", LinkLost, "the connection to the adb server was lost"),
)  # fmt: skip


@final
class Adb:
    """One device. For one thread. `meanwhile` is called about twice a second while a command takes its time; what it
    raises ends the command."""

    def __init__(self, name: str, serial: str, meanwhile: Callable[[], None] = lambda: None) -> None:
        """`name`: of the target, for messages."""
        self.name = name
        self.serial = serial
        self._meanwhile = meanwhile

    def let_go(self) -> None:
        """Nothing is called meanwhile from here on."""
        self._meanwhile = lambda: None

    def shell(
        self, script: str, given: Sequence[str], *, limit_s: float = ANSWERS_S, beat_s: float | None = None
    ) -> bytes:
        """What the script prints, given these lines. With `beat_s` its input stays open and gets an empty line so often
        until it ends. Its own failures are `TargetError`, those of the way there as adb means them."""
        with tempfile.TemporaryFile() as printed:
            self._say(script, given, printed, MOST_BYTES, limit_s, beat_s)
            printed.seek(0)
            return printed.read()

    def fetch(self, script: str, given: Sequence[str], output: Path, *, most_bytes: int, limit_s: float) -> None:
        """As `shell`; what it prints becomes the file."""
        with output.open("w+b") as printed:
            self._say(script, given, printed, most_bytes, limit_s, None)

    def _say(
        self,
        script: str,
        given: Sequence[str],
        printed: BinaryIO,
        most_bytes: int,
        limit_s: float,
        beat_s: float | None,
    ) -> None:
        """`LinkLost` where the script did not get to its end: adb does not tell by its status whether it did."""
        if any("\n" in value or "\0" in value for value in given):
            raise BadInput(f"{next(value for value in given if not value.isprintable())!r} cannot be sent to a phone.")
        lines = "".join(f"{value}\n" for value in given).encode()
        self._run(["shell", "-T", whole(script)], printed, lines, most_bytes + len(ALL_SAID), limit_s, beat_s)
        size = printed.seek(0, os.SEEK_END) - len(ALL_SAID)
        printed.seek(max(size, 0))
        if printed.read() != ALL_SAID:
            raise explain(self.name, self.serial, 0, "error: closed")
        printed.truncate(size)

    def push(self, path: Path, remote: str, *, limit_s: float) -> None:
        with tempfile.TemporaryFile() as printed:
            self._run(["push", str(path.absolute()), remote], printed, b"", MOST_BYTES, limit_s, None)

    def _run(
        self,
        arguments: Sequence[str],
        printed: BinaryIO,
        given: bytes,
        most_bytes: int,
        limit_s: float,
        beat_s: float | None,
    ) -> None:
        with tempfile.TemporaryFile() as said:
            process = start(["-s", self.serial, *arguments], printed, said)
            assert process.stdin is not None
            try:
                with contextlib.suppress(BrokenPipeError):  # it has ended already; its status says why
                    process.stdin.write(given)
                    process.stdin.flush()
                    if beat_s is None:
                        process.stdin.close()
                self._wait(process, limit_s, beat_s, lambda: os.fstat(printed.fileno()).st_size > most_bytes)
                if os.fstat(printed.fileno()).st_size > most_bytes:
                    raise TargetError(f"{self.name} sends more than it was asked for. Is it what you think it is?")
            finally:
                process.kill()
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()
                process.wait()
            said.seek(0)
            text = said.read(1 << 16).decode(errors="replace")
            if process.returncode != 0 and arguments[0] == "push":  # which says its errors on the wrong side
                printed.seek(0)
                text += printed.read(1 << 16).decode(errors="replace")
        if process.returncode != 0:
            raise explain(self.name, self.serial, process.returncode, text)

    def _wait(
        self,
        process: "subprocess.Popen[bytes]",
        limit_s: float,
        beat_s: float | None,
        too_much: Callable[[], bool],
    ) -> None:
        assert process.stdin is not None
        begun = beaten = time.monotonic()
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(ASKED_EVERY_S)
                return
            self._meanwhile()
            if too_much():
                return
            if beat_s is not None and time.monotonic() - beaten > beat_s:
                beaten = time.monotonic()
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.write(b"\n")
                    process.stdin.flush()
            if time.monotonic() - begun > limit_s:
                raise LinkLost(f"{self.name}: nothing came back within {limit_s:.0f} s.")


def whole(script: str) -> str:
    """The script, and the sign that it got to its end."""
    return f"{script}\nended=$?\necho; echo '{ALL_SAID.decode().strip()}'\nexit \"$ended\"\n"


def start(arguments: Sequence[str], printed: BinaryIO, said: BinaryIO) -> "subprocess.Popen[bytes]":
    program = shutil.which("adb")
    if program is None:
        raise TargetError("adb is not installed here. Install Android's platform tools (Debian: apt install adb).")
    return subprocess.Popen([program, *arguments], stdin=subprocess.PIPE, stdout=printed, stderr=said)


def ask(*arguments: str) -> tuple[int, str]:
    """(status, all that adb says) of one of its own commands."""
    with tempfile.TemporaryFile() as said:
        process = start(arguments, said, said)
        try:
            process.communicate(timeout=ANSWERS_S)
        except subprocess.TimeoutExpired as failure:
            raise TargetError(
                f"adb {arguments[0]} did not end within {ANSWERS_S:.0f} s. See: adb start-server"
            ) from failure
        finally:
            process.kill()
            process.wait()
        said.seek(0)
        return process.returncode, said.read(1 << 16).decode(errors="replace")


def ready(name: str, address: str) -> str:
    """The serial of the device at `address`, which answers; "" is the only one there is. The adb server is started
    where none runs, as adb itself does it, and told to connect where the address is one of the network."""
    if address and not SERIAL.fullmatch(address):
        raise BadInput(f"{address!r} is no device for adb. Give the serial that `adb devices` shows, or HOST:PORT.")
    status, said = ask("start-server")
    if status != 0:
        raise TargetError(
            f"{name}: the adb server does not start ({one_line(said)}). See what it says: adb start-server"
        )
    serial = address or only_one(name)
    if BY_NETWORK.fullmatch(serial):
        connect(name, serial)
    status, said = ask("-s", serial, "get-state")
    if "offline" in said and BY_NETWORK.fullmatch(serial):  # of a connection that was lost, which adb still holds
        ask("disconnect", serial)
        connect(name, serial)
        status, said = ask("-s", serial, "get-state")
    if status != 0 or said.strip() != "device":
        raise explain(name, serial, status, said)
    return serial


def connect(name: str, serial: str) -> None:
    _, said = ask("connect", serial)
    if "connected to" not in said:
        raise explain(name, serial, 1, said)


def only_one(name: str) -> str:
    _, said = ask("devices")
    found = [line.split()[0] for line in said.splitlines()[1:] if "\t" in line]
    if len(found) > 1:
        raise TargetError(f"{name}: adb sees several devices. Give one as address: {', '.join(found)}.")
    if not found:
        raise explain(name, "", 1, "no devices/emulators found")
    return found[0]


def explain(name: str, serial: str, status: int, said: str) -> TargetError:
    """What adb, or a script of ours on the device, has said when it failed."""
    for sign, form, meaning in MEANINGS:
        if sign in said:
            return form(f"{name}: {meaning.format(serial)}.")
    detail = one_line(" ".join(said.splitlines()[-3:]))
    if said.lstrip().startswith(("error:", "adb: error:")) and "remote" not in said:
        return LinkLost(f"{name}: adb could not reach it: {detail}")
    return TargetError(f"{name}: a command failed there (status {status})" + (f": {detail}" if detail else "."))
