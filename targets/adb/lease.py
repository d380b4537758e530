"""The lease on a phone that runs no agent: one measurement at a time, whoever asks (host side).

A folder, since making one is the only thing that a plain shell does in one step or not at all. In it are a few lines:
until when it holds, in seconds of /proc/uptime, which no setting of a clock changes; which start of the phone these
seconds count from; and whose it is. Who works goes on renewing it; once it is over, whoever waits takes it away. That
is two steps, and where two do it at once, one may lose a lease that it was just given: it learns so when it renews it,
and its measurement is not used.

An agent that runs on a phone (with Python) holds another lease, which this one does not see: use a phone in one way at
a time.
"""

import contextlib
import time
from collections.abc import Callable
from typing import final

from targets.adb.client import Adb
from targets.errors import TargetError

HOLDS_S = 30  # from each sign of life
ASKED_EVERY_S = 0.5

# Parts of scripts. They want `token`, `holds` and `holder`.
PLACE = 'lease="${ANDROID_DATA:-/data}/local/tmp/cutback.busy"'

NOW = """
IFS=' .' read -r now _ </proc/uptime
boot=
IFS= read -r boot 2>/dev/null </proc/sys/kernel/random/boot_id
"""

SHOW = """printf '%s\\n%s\\n%s\\n%s\\n' "$((now + holds))" "$boot" "$token" "$holder" >"$lease/new.$token" \\
  && mv "$lease/new.$token" "$lease/owner"
"""

TAKE = f"""
{PLACE}
IFS= read -r token; IFS= read -r holds; IFS= read -r holder
{NOW}
if [ -d "$lease" ]; then
  until=; its=; who=
  {{ IFS= read -r until; IFS= read -r its; IFS= read -r owner; IFS= read -r who; }} 2>/dev/null <"$lease/owner"
  if [ -z "$until" ]; then
    [ -z "$(find "$lease" -maxdepth 0 -mmin +1)" ] || rm -rf "$lease"
  elif [ "$its" != "$boot" ] || [ "$until" -lt "$now" ] || [ "$until" -gt "$((now + holds))" ]; then
    mv "$lease" "$lease.$token" 2>/dev/null && rm -rf "$lease.$token"
  fi
fi
umask 022
if mkdir "$lease" 2>/dev/null; then
  {SHOW.strip()} && echo "taken"
else
  echo "busy $who"
fi
"""

RENEWED = f"""
{NOW}
owner=
{{ IFS= read -r until; IFS= read -r its; IFS= read -r owner; }} 2>/dev/null <"$lease/owner"
[ "$owner" = "$token" ] && {SHOW.strip()}
"""

RENEW = f"""
{PLACE}
IFS= read -r token; IFS= read -r holds; IFS= read -r holder
{RENEWED.strip()} && echo "ours"
true
"""

RELEASED = """
owner=
{ IFS= read -r until; IFS= read -r its; IFS= read -r owner; } 2>/dev/null <"$lease/owner"
if [ "$owner" = "$token" ]; then
  rm -rf "$lease"
fi
"""

RELEASE = f"""
{PLACE}
IFS= read -r token
{RELEASED}
"""


HOLDER = f"""
{PLACE}
IFS= read -r token; IFS= read -r holds
{NOW}
until=0; its=; owner=; who=
{{ IFS= read -r until; IFS= read -r its; IFS= read -r owner; IFS= read -r who; }} 2>/dev/null <"$lease/owner"
if [ "$owner" != "$token" ] && [ "$its" = "$boot" ] && [ "$until" -ge "$now" ]; then
  echo "$who"
fi
"""


@final
class PhoneLease:
    """For one thread. `holder`: who others are told has the phone."""

    def __init__(self, adb: Adb, token: str, holder: str) -> None:
        self._adb = adb
        self._given = [token, str(HOLDS_S), printable(holder)]
        self._held = False

    def take(self, on_wait: Callable[[str], None]) -> None:
        """Wait until the phone is ours; `on_wait(who has it)` is called again and again meanwhile, and may raise."""
        while not self._held:
            answer = self._adb.shell(TAKE, self._given).decode(errors="replace").strip()
            self._held = answer == "taken"
            if not self._held:
                who = answer.partition(" ")[2]
                on_wait(who if who.isprintable() and who else "another host")
                time.sleep(ASKED_EVERY_S)

    def renew(self) -> None:
        """`TargetError` when somebody else was given the phone meanwhile."""
        if self._held and self._adb.shell(RENEW, self._given) != b"ours\n":
            self._held = False
            raise TargetError("The phone was given to another host while this one did not move. Measure again.")

    def other_holder(self) -> str | None:
        """Who else has the phone just now."""
        return self._adb.shell(HOLDER, self._given[:2]).decode(errors="replace").strip() or None

    def release(self) -> None:
        if self._held:
            self._held = False
            with contextlib.suppress(TargetError):  # out of reach: it is over in half a minute
                self._adb.shell(RELEASE, self._given[:1])


def printable(holder: str) -> str:
    return "".join(each for each in holder if each.isprintable())[:200]
