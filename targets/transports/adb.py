"""An Android phone behind the user's own adb: by cable, or by network where the address is HOST:PORT.

Where Python is on the phone, its agent runs there. Where `binary` names a runtime's own benchmark, the agent runs here
and has that program run (see `targets.adb.agent`).
"""

import contextlib
import json
import sys
from collections.abc import Iterator

from targets.adb.client import explain, ready
from targets.errors import LinkLost, TargetError
from targets.protocol import one_line
from targets.target import Target
from targets.transports import Link
from targets.transports.local import open_here
from targets.transports.remote import RemoteLink, open_remote
from targets.transports.ssh import PYTHON

# Constant, whatever the target is called. A phone's shell has no home and no /tmp: everything of ours is in one place.
PLACE = "/data/local/tmp/cutback"
COMMAND = f"""
export XDG_CACHE_HOME="${{ANDROID_DATA:-/data}}/local/tmp"
export TMPDIR="$XDG_CACHE_HOME"
if command -v python3 >/dev/null 2>&1; then
  exec python3 {PYTHON}
fi
own="$XDG_CACHE_HOME/cutback/python"
if [ -x "$own/bin/python3" ]; then
  export LD_LIBRARY_PATH="$own/lib"
  exec "$own/bin/python3" {PYTHON}
fi
echo "cutback found no python" >&2
exit 127
"""
NO_PYTHON = "cutback found no python"


@contextlib.contextmanager
def open_link(target: Target) -> Iterator[Link]:
    serial = ready(target.name, target.address)
    if target.binary:
        asked = {"name": target.name, "serial": serial, "binary": target.binary, "folder": target.folder}
        command = [sys.executable, "-m", "targets.adb.agent"]
        with open_here(target, command, [json.dumps(asked)], RemoteLink.pauses_s) as link:
            yield link
        return
    command = ["adb", "-s", serial, "shell", "-T", COMMAND]
    with open_remote(target, command, lambda status, said: meaning(target.name, serial, status, said)) as link:
        yield link


def meaning(name: str, serial: str, status: int, said: str) -> TargetError:
    if NO_PYTHON in said:
        return TargetError(
            f"{name}: it has no python3. Put one that is built for Android into {PLACE}/python, or name a runtime's "
            "benchmark for it: binary=PATH (docs/android.md)."
        )
    known = explain(name, serial, status, said)
    if isinstance(known, LinkLost) or "a command failed there" not in str(known):
        return known
    detail = one_line(" ".join(said.splitlines()[-3:]))
    if not detail:
        return LinkLost(f"{name}: the connection was lost, or the agent over there has ended (status {status}).")
    return LinkLost(f"The agent on {name} has ended (status {status}). It said: {detail}")
