"""An emulated Arm computer for the tests: a Debian root for arm64 with Python and ONNX Runtime in it.

It is a stand-in for a board. Python and all that it loads are aarch64 programs under qemu-user, with the processor of a
Raspberry Pi 5; the shell that starts Python and the SSH server before it are this machine's own. What is computed is
right, and how long it takes says nothing.

The root is unpacked and not configured: packages' own scripts would take minutes under the emulator, and Python needs
none of them. Nothing tells the kernel about the emulator: /usr/bin/python3 in the root is a script that this machine's
processor can start, and what the agent starts is python3 again.

It is made of Debian's packages and the Python package index, as this machine's apt and pip are set up, and kept in the
user's cache for the next run.
"""

import contextlib
import fcntl
import getpass
import hashlib
import importlib.metadata
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from targets.target import Target
from tests.targets.sshd import serve

SUITE = "trixie"  # its emulator is version 10; 7.2 crashes on ONNX Runtime 1.28 and newer
TOOLS = (
    "qemu-user",
    "busybox-static",
    "debootstrap",
)  # of the same release, for this machine, unpacked and not installed
PYTHON = "3.13"  # the one of that release
PROCESSOR = "cortex-a76"  # with all that qemu can do ("max"), runtimes pick kernels that few boards have
PACKAGES = ("onnxruntime", "numpy")
TAGS = (
    "manylinux_2_28_aarch64",
    "manylinux_2_27_aarch64",
    "manylinux_2_17_aarch64",
)  # of wheels; the newest glibc first

NEEDED = ("apt-get", "dpkg-deb", "gpgv", "unshare", "chroot", "mount", "sshd")
SHELL = "/host/busybox"  # in the root, as is the emulator: programs of this machine's own processor

LAUNCHER = f"""#!{SHELL} sh
exec /host/qemu-aarch64 -cpu {PROCESSOR} -0 "$0" /usr/bin/python{PYTHON} "$@"
"""
# What is mounted is seen by this connection alone and goes with it. The root itself cannot be written to: what the
# device keeps is in /tmp, a folder of the test's.
ENTER = f"""#!/bin/sh
exec unshare --mount --propagation private /bin/sh -ec '
mount --bind "$0" "$0"
mount -o remount,bind,ro "$0"
mount --rbind /dev "$0/dev"
mount -t proc proc "$0/proc"
mount -t sysfs -o ro sysfs "$0/sys"
mount --bind "$1" "$0/tmp"
exec chroot "$0" {SHELL} sh -c "$SSH_ORIGINAL_COMMAND"' """
PROOF = "import onnxruntime, platform, sys; print(platform.machine(), sys.executable)"


class NoArm(Exception):
    """The emulated computer cannot be made here; says why."""


@contextlib.contextmanager
def arm_device(folder: Path) -> Iterator[Target]:
    """The computer behind an SSH server of its own, for as long as the block runs. `NoArm` or `sshd.NoServer` where it
    cannot be had."""
    root = made_root()
    kept = folder / "tmp-of-device"
    kept.mkdir(mode=0o700, parents=True)
    enter = folder / "enter"
    enter.write_text(f"{ENTER}{shlex.join([str(root), str(kept)])}\n", encoding="utf-8")
    enter.chmod(0o755)
    with serve(folder / "sshd", setting=f"ForceCommand {shlex.quote(str(enter))}\n") as server:
        yield replace(server.target("arm"), python="", folder="/tmp/agent-of-device")


def made_root() -> Path:
    """The root's folder, made where it is not there yet; one of another recipe is removed."""
    refuse_missing()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "cutback-tests", "arm64")
    cache.mkdir(parents=True, exist_ok=True)
    root = cache / recipe()
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.is_dir():
            for old in cache.iterdir():
                if old.is_dir():
                    shutil.rmtree(old)
            part = cache / "part"
            try:
                make(part)
                (part / "root").rename(root)
            finally:
                shutil.rmtree(part)
    return root


def recipe() -> str:
    """What tells roots apart: this file, and what goes into them."""
    content = Path(__file__).read_text(encoding="utf-8") + " ".join(requirements())
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def requirements() -> list[str]:
    """The packages as they are here: equal outputs are asked of equal versions."""
    return [f"{name}=={importlib.metadata.version(name)}" for name in PACKAGES]


def refuse_missing() -> None:
    if platform.machine() != "x86_64":
        raise NoArm(f"the emulated Arm computer is made for x86-64; this machine is {platform.machine()}")
    if os.getuid() != 0:
        raise NoArm(f"the emulated Arm computer needs chroot and mount, which {getpass.getuser()} may not: run as root")
    missing = [
        name for name in NEEDED if shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None
    ]
    if missing:
        raise NoArm(
            f"the emulated Arm computer needs {', '.join(missing)} (Debian: apt, gpgv, util-linux, openssh-server)"
        )


def make(part: Path) -> None:
    root, tools = part / "root", part / "tools"
    tools.mkdir(parents=True)
    source = debian()
    fetch_tools(source, part)
    for package in part.glob("*.deb"):
        call("unpacking " + package.name, ["dpkg-deb", "-x", str(package), str(tools)])
    call(
        "making the root",
        [f"{tools}/usr/sbin/debootstrap", "--foreign", "--arch=arm64", "--variant=minbase", "--include=python3", SUITE,
         str(root), source],
        {"DEBOOTSTRAP_DIR": f"{tools}/usr/share/debootstrap"},
    )  # fmt: skip
    for package in sorted((root / "var/cache/apt/archives").glob("*.deb")):
        call("unpacking " + package.name, ["dpkg-deb", "-x", str(package), str(root)])
        package.unlink()
    shutil.rmtree(root / "debootstrap")
    (root / "host").mkdir()
    for name in ("qemu-aarch64", "busybox"):
        shutil.copy2(tools / "usr/bin" / name, root / "host" / name)
    python = root / "usr/bin/python3"
    python.unlink()  # a link to the real one
    python.write_text(LAUNCHER, encoding="ascii")
    python.chmod(0o755)
    install(root / f"usr/local/lib/python{PYTHON}/dist-packages")
    # also leaves its bytecode beside what it imports, so that later starts take half as long
    told = call("starting Python in the root", ["chroot", str(root), "/usr/bin/python3", "-c", PROOF])
    if told.split() != ["aarch64", "/usr/bin/python3"]:
        raise NoArm(f"the Python of the emulated Arm computer says {told!r}")


def debian() -> str:
    """Where this machine's apt takes Debian from."""
    told = call("asking apt", ["apt-get", "indextargets", "--format", "$(ORIGIN) $(COMPONENT) $(LABEL) $(REPO_URI)"])
    found = [line.split() for line in told.splitlines()]
    uris = [words[3] for words in found if words[:3] == ["Debian", "main", "Debian"] and len(words) == 4]
    if not uris:
        raise NoArm(
            "the emulated Arm computer is made of Debian's packages, and apt knows none here: run apt-get update"
        )
    return uris[0]


def fetch_tools(source: str, part: Path) -> None:
    """Through an apt of our own, that knows the newer release alone and leaves this machine's lists as they are."""
    (part / "lists/partial").mkdir(parents=True)
    (part / "archives/partial").mkdir(parents=True)
    (part / "sources.list").write_text(f"deb [arch=amd64] {source} {SUITE} main\n", encoding="ascii")
    settings = {
        "Dir::Etc::SourceList": part / "sources.list", "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": part / "lists", "Dir::Cache": part, "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
    }  # fmt: skip
    command = ["apt-get", "--quiet", *(f"-o{name}={value}" for name, value in settings.items())]
    call("asking for Debian's newer packages", [*command, "update", "--error-on=any"])
    call("fetching the emulator", [*command, "download", *TOOLS], folder=part)


def install(folder: Path) -> None:
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-compile",
        "--only-binary=:all:",
        "--target",
        str(folder),
    ]
    tags = [part for tag in TAGS for part in ("--platform", tag)]
    chosen = ["--implementation", "cp", "--python-version", PYTHON, *tags]
    call("fetching the packages for Arm", [*pip, *chosen, *requirements()])


def call(
    what: str, command: list[str], environment: Mapping[str, str] | None = None, folder: Path | None = None
) -> str:
    """What it prints. Emulation and unpacking leave the machine to others that want it."""
    done = subprocess.run(
        ["nice", "-n", "19", *command], env={**os.environ, "LC_ALL": "C", **(environment or {})}, cwd=folder,
        capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    if done.returncode:
        said = " ".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-2:])
        raise NoArm(f"the emulated Arm computer cannot be made here: {what} failed ({said})")
    return done.stdout
