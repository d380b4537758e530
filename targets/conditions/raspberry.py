"""What a Raspberry Pi's firmware says of its voltage, its clock and its heat.

The bits: raspberrypi.com/documentation, "get_throttled". Three ways lead to them. vcgencmd tells what has been since
boot; the mailbox beneath it and the kernel's file forget what is older than the kernel's own last look, some two
seconds.
"""

from __future__ import annotations

import contextlib
import re
import struct
from pathlib import Path

from targets.conditions.source import Findings, Place, Readings, Source
from targets.sysfs import is_board, text

NOW = (
    (0x1, "The supply's voltage was too low"),
    (0x2, "The firmware capped the processor's clock"),
    (0x4, "The firmware throttled the processor"),
    (0x8, "The soft temperature limit was reached"),
)
BEEN = 16  # the same bits, so much higher: since boot, or of late
COMMAND = ("vcgencmd", "get_throttled")
ANSWER = re.compile(r"throttled=0x([0-9a-fA-F]{1,8})\s*$")
MAILBOX = "dev/vcio"
GET_THROTTLED = 0x00030046
FILES = "*:firmware/get_throttled"  # under soc, or soc@107c000000 of a Pi 5


class Raspberry(Source):
    name = "raspberry"

    def read(self, place: Place) -> Readings:
        if not is_board("raspberrypi", place.root):
            return {}
        for source, find in (("vcgencmd", by_command), ("mailbox", by_mailbox), ("sysfs", by_file)):
            bits = find(place)
            if bits is not None:
                return {"throttled": bits, "from": source}
        return {}

    def judge(self, before: Readings, after: Readings) -> Findings:
        doubts, reasons = [], []
        for bit, sentence in NOW:
            was, been = bool(before["throttled"] & bit << BEEN), bool(after["throttled"] & bit << BEEN)
            if (before["throttled"] | after["throttled"]) & bit or (been and not was):
                reasons.append(f"{sentence}.")
            elif been:
                doubts.append(f"{sentence} before the session; whether in it too, the firmware does not tell.")
        return Findings(doubts=tuple(doubts), throttled=tuple(reasons))


def by_command(place: Place) -> int | None:
    found = ANSWER.search(place.ask(COMMAND).strip())
    return int(found.group(1), 16) if found else None


def by_mailbox(place: Place) -> int | None:
    """One property request: size, code, tag, room for the answer, code, value, end."""
    size = struct.calcsize("P")
    request = 3 << 30 | size << 16 | 100 << 8  # _IOWR(100, 0, char *)
    message = bytearray(struct.pack("=7I", 28, 0, GET_THROTTLED, 4, 0, 0, 0))
    with contextlib.suppress(OSError, ImportError):
        import fcntl  # where there are no such devices, there need be no such module

        with Path(place.root / MAILBOX).open("rb", buffering=0) as mailbox:
            fcntl.ioctl(mailbox, request, message)
        answered = struct.unpack("=7I", message)
        if answered[1] == 0x80000000:  # the firmware has understood all of it
            return int(answered[5])
    return None


def by_file(place: Place) -> int | None:
    for path in sorted((place.root / "sys/devices/platform").glob(f"soc*/{FILES}")):
        with contextlib.suppress(ValueError, TypeError):
            return int(text(path) or "", 16)  # without 0x
    return None
