"""A device behind the user's own OpenSSH: hosts, keys, jump hosts and options are those of their configuration.

One connection is kept open for a minute and shared by all commands (ControlMaster), so that only the first one pays for
the handshake. Nothing is ever asked for: what needs a password or a decision is an error that says what to type.
"""

import base64
import contextlib
import hashlib
import os
import re
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from targets.bootstrap import BOOTSTRAP
from targets.errors import BadInput, LinkLost, TargetError
from targets.protocol import one_line
from targets.target import Target
from targets.transports import Link
from targets.transports.remote import open_remote

# Constant, whatever the target is called; one line of characters that no shell gives a meaning between single quotes.
# -I: what lies in the user's home folder over there is not imported in the standard library's place.
PACKED = base64.b64encode(zlib.compress(BOOTSTRAP.encode(), 9)).decode()
PYTHON = f"-I -c 'import base64,zlib;exec(zlib.decompress(base64.b64decode(\"{PACKED}\")))'"  # arguments of any Python
COMMAND = f"exec python3 {PYTHON}"

OPTIONS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "ControlMaster=auto",
    "ControlPersist=60s",
    "ConnectTimeout=15",
    "ServerAliveInterval=5",  # with the next: a line that is dead is known to be after a quarter of a minute
    "ServerAliveCountMax=3",
    "RequestTTY=no",
    "ForwardAgent=no",
    "ForwardX11=no",
    "LogLevel=ERROR",
)

DESTINATION = re.compile(r"(ssh://)?[A-Za-z0-9_.@:%\[\]/-]+")

LONGEST_FOLDER = 30  # characters of a temporary folder; with ours, the names and OpenSSH's own suffix below 100

# What OpenSSH says -> what to do about it. `{}` is the destination. A changed key is also one that is not verified.
MEANINGS = (
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", TargetError,
     "its host key has changed. If you know why: ssh-keygen -R {}, then connect once by hand: ssh {}."),
    ("Host key verification failed", TargetError, "its host key is not known here. Connect once by hand: ssh {}."),
    ("Permission denied", TargetError, "it takes none of your keys. Run: ssh-copy-id {}, or ssh-add your key."),
    ("Could not resolve hostname", TargetError, "there is no host of that name."),
    ("Connection refused", LinkLost, "no SSH server listens there. Is the device on?"),
    ("timed out", LinkLost, "it does not answer. Is the device on, and in this network?"),
    ("No route to host", LinkLost, "there is no way to it. Is the device on, and in this network?"),
)  # fmt: skip


@contextlib.contextmanager
def open_link(target: Target) -> Iterator[Link]:
    def meaning(status: int, said: str) -> TargetError:
        return explain(target, status, said)

    environment = {**os.environ, "SSH_ASKPASS_REQUIRE": "never"}  # a jump host's client is not told to be silent
    with open_remote(target, command(target.address, target.config), meaning, environment) as link:
        yield link


def command(destination: str, config: str = "") -> list[str]:
    """The command line. `BadInput` for what could not be a destination; it never begins with a dash."""
    if not DESTINATION.fullmatch(destination) or destination.startswith("-"):
        raise BadInput(f"{destination!r} is no destination for ssh. Give HOST, USER@HOST or ssh://USER@HOST:PORT.")
    options = [f"-o{option}" for option in (*OPTIONS, f"ControlPath={control_path(destination, config)}")]
    own = ["-F", str(Path(config).expanduser())] if config else []
    return ["ssh", "-T", *own, *options, "--", destination, COMMAND]


def control_path(destination: str, config: str) -> str:
    """The socket of a kept connection, as an option of ssh. What OpenSSH puts for %C knows the address and nothing of
    the way there: behind two jump hosts, one private address is two devices, under two names."""
    way = hashlib.sha256(f"{destination}\n{config}".encode()).hexdigest()[:8]
    return f"{control_folder()}/{way}%C"


def control_folder() -> Path:
    """Where the sockets of kept connections lie: short, since a socket's path may have some hundred characters."""
    place = tempfile.gettempdir()
    folder = Path(place if len(place) <= LONGEST_FOLDER else "/tmp", f"cutback-ssh-{os.getuid()}")  # noqa: S108
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if folder.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise BadInput(f"{folder} is not yours alone. Remove it: connections to devices are kept there.")
    return folder


def explain(target: Target, status: int, said: str) -> TargetError:
    if status in (126, 127):  # a shell's own: what it was to run cannot be run, or is not there
        return TargetError(f"{target.name}: it has no python3. Install Python 3.8 or newer there.")
    for sign, form, meaning in MEANINGS:
        if status == 255 and sign in said:  # ssh's own failures
            return form(f"{target.name}: {meaning.replace('{}', target.address)}")
    detail = one_line(" ".join(said.splitlines()[-3:]))
    if status == 255:
        return LinkLost(f"{target.name}: the connection was lost" + (f" ({detail})." if detail else "."))
    return LinkLost(
        f"The agent on {target.name} has ended (status {status})." + (f" It said: {detail}" if detail else "")
    )
