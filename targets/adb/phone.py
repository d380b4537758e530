"""A phone as a place for files and programs: everything of ours is in one folder, and nothing runs that was not checked
(host side).

    BASE/files/HASH.SUFFIX      what was pushed, under its hash; the least recently used go first
    BASE/sessions/TOKEN/        of one agent; others' that nobody has touched for a day are removed
    BASE/sessions/TOKEN/uses/   the names of the files that it uses, which therefore stay
    BASE/sessions/TOKEN/run/    where programs run: links to files, and what the programs write

BASE is /data/local/tmp/cutback, unless the target says otherwise. A push goes to a place of its own; its hash is then
made on the phone, and only what is right gets its name.
"""

import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, final

from targets.adb.client import Adb
from targets.adb.lease import HOLDS_S, PLACE, RELEASED, RENEWED, printable
from targets.channel import digest
from targets.errors import BadInput, TargetError

BEAT_S = 5.0  # how often a running program hears that its host lives
MOST_KIB = 2 << 20  # of files; the shell over there counts in 32 bits
PUSH_S_PER_MB = 1.0  # of a slow wireless line, and a slow phone's hash
RUNNING_S = 30.0  # beyond what a program was to take: for the way there and back

FETCH_S = 600.0  # the longest that a file may take on its way back

SUFFIX = re.compile(r"(\.[A-Za-z0-9]{1,12}){0,3}")
NAME = re.compile(r"[^\0\n/]+(/[^\0\n/]+)*")

# Whether a session, of any host, has been told that a file is there.
USED = """
used() {
  for session in "$base"/sessions/*; do
    [ ! -e "$session/uses/$1" ] || return 0
  done
  return 1
}
"""

OPEN = f"""{USED}
IFS= read -r base; IFS= read -r token
[ -n "$base" ] || base="${{ANDROID_DATA:-/data}}/local/tmp/cutback"
umask 077
mkdir -p "$base/files" "$base/sessions/$token/uses" && chmod 700 "$base" || exit 1
find "$base/sessions" -mindepth 1 -maxdepth 1 -mtime +0 -exec rm -rf {{}} +
total=0
for name in $(ls -t "$base/files"); do
  set -- $(du -k "$base/files/$name")
  total=$((total + $1))
  [ "$total" -le {MOST_KIB} ] || used "$name" || rm -f "$base/files/$name"
done
cd "$base" && pwd
"""

HAVE = """
IFS= read -r base; IFS= read -r token; IFS= read -r name; IFS= read -r hash
: >"$base/sessions/$token/uses/$name" || exit 1
set -- $(sha256sum <"$base/files/$name" 2>/dev/null)
if [ "$1" = "$hash" ]; then touch "$base/files/$name"; echo here; else rm -f "$base/files/$name"; echo not here; fi
"""

KEEP = """
IFS= read -r base; IFS= read -r token; IFS= read -r name; IFS= read -r hash
part="$base/sessions/$token/part"
set -- $(sha256sum <"$part")
if [ "$1" = "$hash" ]; then
  chmod 700 "$part" && mv "$part" "$base/files/$name" && echo kept
else
  rm -f "$part"; echo damaged
fi
"""

CLEAN = """
IFS= read -r base; IFS= read -r token
rm -rf "$base/sessions/$token"
"""

FREE = """
IFS= read -r base
set -- $(df -k "$base" | tail -n 1)
echo "$4"
"""

EMPTY = f"""{USED}
IFS= read -r base
set -- $(du -sk "$base"); before=$1
for name in $(ls "$base/files"); do
  used "$name" || rm -f "$base/files/$name"
done
set -- $(du -sk "$base")
echo "$before $1"
"""

ARRANGE = """
IFS= read -r base; IFS= read -r token; IFS= read -r count
run="$base/sessions/$token/run"
rm -rf "$run" && mkdir "$run" || exit 1
while [ "$count" -gt 0 ]; do
  IFS= read -r place; IFS= read -r name
  mkdir -p "$run/$place" && rmdir "$run/$place" || exit 1
  case "$name" in /*) ;; "") mkdir "$run/$place"; count=$((count - 1)); continue;; *) name="$base/files/$name";; esac
  ln -s "$name" "$run/$place" || exit 1
  count=$((count - 1))
done
"""

# Each line of its input is a sign of life, which renews the lease. The program ends with its input, and the lease too:
# of a host that is gone, of a cable that was pulled, of a shell that was killed.
RUN = f"""
{PLACE}
IFS= read -r base; IFS= read -r token; IFS= read -r holds; IFS= read -r holder; IFS= read -r mask; IFS= read -r count
set --
while [ "$count" -gt 0 ]; do IFS= read -r word; set -- "$@" "$word"; count=$((count - 1)); done
cd "$base/sessions/$token/run" || exit 1
[ -z "$mask" ] || set -- taskset "$mask" "$@"
export LD_LIBRARY_PATH="$PWD/bin" TMPDIR="$PWD" HOME="$PWD" ORT_DISABLE_TELEMETRY=1
exec 3<&0
"$@" </dev/null >said 2>&1 3<&- &
program=$!
( while IFS= read -r _; do {RENEWED} done; kill -9 "$program"; {RELEASED} ) <&3 3<&- >/dev/null 2>&1 &
watcher=$!
exec 3<&- </dev/null
wait "$program"
status=$?
kill "$watcher" 2>/dev/null
echo "$status"
tail -c 65536 said
"""

SHOW = """
IFS= read -r base; IFS= read -r token; IFS= read -r name
cat "$base/sessions/$token/run/$name"
"""

DIGEST = """
IFS= read -r base; IFS= read -r token; IFS= read -r name
sha256sum <"$base/sessions/$token/run/$name"
"""

LIST = """
IFS= read -r base; IFS= read -r token
cd "$base/sessions/$token/run" && ls
"""

PINS = """
IFS= read -r mask
taskset "$mask" true
"""

EXECUTABLE = """
IFS= read -r path
[ -f "$path" ] && [ -x "$path" ] && sha256sum <"$path"
true
"""


class Ran(NamedTuple):
    """How a program ended, and the end of what it said."""

    status: int
    said: str


@final
class Phone:
    """For one thread. Errors: `TargetError`, `LinkLost`, as the client has them."""

    def __init__(self, adb: Adb, base: str, holder: str) -> None:
        self.adb = adb
        self.token = secrets.token_hex(8)
        self._holder = holder
        self.base = adb.shell(OPEN, [base, self.token]).decode(errors="replace").strip()
        if not self.base.startswith("/") or not self.base.isprintable():
            raise TargetError(f"{adb.name} names {self.base[:80]!r} as the place for our files. Is it what you think?")
        self._stored: set[str] = set()

    def close(self) -> None:
        """Nothing of this session stays."""
        self.adb.shell(CLEAN, [self.base, self.token])

    def free_bytes(self) -> int:
        (kib,) = self._numbers(FREE, 1)
        return kib << 10

    def clean(self) -> dict[str, Any]:
        """Remove what was pushed and no session uses; `root`, `removed` and `left`, in bytes."""
        before, after = self._numbers(EMPTY, 2)
        return {"root": self.base, "removed": (before - after) << 10, "left": after << 10}

    def _numbers(self, script: str, count: int) -> list[int]:
        words = self.adb.shell(script, [self.base]).decode(errors="replace").split()
        if len(words) != count or not all(word.isdigit() for word in words):
            raise TargetError(f"{self.adb.name} does not tell how much room there is. Is it an Android phone?")
        return [int(word) for word in words]

    def store(self, path: Path) -> str:
        """The name of a file of the host among the phone's files; pushed where it is not there."""
        sha256, suffix = digest(path), "".join(path.suffixes[-3:])
        name = sha256 + (suffix if SUFFIX.fullmatch(suffix) else "")
        if name in self._stored:
            return name
        limit_s = RUNNING_S + PUSH_S_PER_MB * path.stat().st_size / 1e6
        if self.adb.shell(HAVE, [self.base, self.token, name, sha256], limit_s=limit_s) != b"here\n":
            self.adb.push(path, f"{self.base}/sessions/{self.token}/part", limit_s=limit_s)
            kept = self.adb.shell(KEEP, [self.base, self.token, name, sha256], limit_s=limit_s)
            if kept != b"kept\n":
                raise TargetError(f"{path.name} arrived damaged at {self.adb.name} and was not kept. Try again.")
        self._stored.add(name)
        return name

    def arrange(self, places: Mapping[str, str]) -> None:
        """An empty folder to run in, with links: place -> a stored name, or an absolute path over there; "" makes a
        folder. `BadInput` for a place that leaves the folder."""
        given = [self.base, self.token, str(len(places))]
        for place, name in places.items():
            if not NAME.fullmatch(place) or {".", ".."} & set(place.split("/")):
                raise BadInput(f"{place!r} cannot be the name of a file over there. Rename that tensor.")
            given += [place, name]
        self.adb.shell(ARRANGE, given)

    def run(self, words: Sequence[str], mask: str, limit_s: float) -> Ran:
        """Run a program in the folder, on the cores of `mask` (hexadecimal; "" is any)."""
        given = [self.base, self.token, str(HOLDS_S), printable(self._holder), mask, str(len(words)), *words]
        answer = self.adb.shell(RUN, given, limit_s=limit_s + RUNNING_S, beat_s=BEAT_S).decode(errors="replace")
        status, _, said = answer.partition("\n")
        if not status.isdigit():
            raise TargetError(f"{self.adb.name} does not tell how a program ended: {status[:80]!r}.")
        return Ran(int(status), said)

    def names(self) -> list[str]:
        """What is in the folder."""
        return self.adb.shell(LIST, [self.base, self.token]).decode(errors="replace").splitlines()

    def fetch(self, name: str, output: Path, most_bytes: int) -> None:
        """Bring a file of the folder here; its hash is compared."""
        self.adb.fetch(SHOW, [self.base, self.token, name], output, most_bytes=most_bytes, limit_s=FETCH_S)
        told = self.adb.shell(DIGEST, [self.base, self.token, name]).split()
        if not told or told[0].decode(errors="replace") != digest(output):
            raise TargetError(f"{name} of {self.adb.name} arrived damaged. Try again.")

    def pins(self, mask: str) -> bool:
        """Whether programs there can be held on the cores of `mask`."""
        try:
            self.adb.shell(PINS, [mask])
        except TargetError as failure:
            if type(failure) is TargetError:
                return False
            raise
        return bool(mask)

    def executable(self, path: str) -> str:
        """The hash of a program that lies over there; "" where there is none."""
        return "".join(self.adb.shell(EXECUTABLE, [path]).decode(errors="replace").split()[:1])
