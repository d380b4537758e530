"""Nothing of ours listens on the network, whichever way a device is reached, and OpenVINO tells nobody of it."""

import contextlib
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from targets.connection import connect
from targets.target import Target
from tests.targets.processes import descendants
from tests.targets.sshd import SSHD, NoServer, serve

pytestmark = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads the kernel's tables")

LISTEN = "0A"
FEEDS = {"x/in:0": np.ones((1, 3, 8, 8), np.float32)}


def listening() -> dict[str, int]:
    """Inode -> port of every TCP socket that listens."""
    found = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(FileNotFoundError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTEN:
                    found[fields[9]] = int(fields[1].rpartition(":")[2], 16)
    return found


def ours() -> set[int]:
    """This process, all that descend from it, and the kept connections of ssh, which leave their parents."""
    known = {os.getpid(), *descendants(os.getpid())}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if f"cutback-ssh-{os.getuid()}".encode() in path.read_bytes():
                known.add(int(path.parent.name))
    return known


def sockets(pid: int) -> set[str]:
    found = set()
    for path in Path(f"/proc/{pid}/fd").glob("*"):
        with contextlib.suppress(OSError):
            held = re.fullmatch(r"socket:\[(\d+)\]", str(path.readlink()))
            found |= {held[1]} if held else set()
    return found


def open_ports() -> set[int]:
    """Of our processes."""
    table = listening()
    return {table[inode] for pid in ours() for inode in sockets(pid) if inode in table}


def test_what_listens_is_seen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert listener.getsockname()[1] in open_ports()


def test_no_port_is_open_while_this_machine_is_measured_on(model: Path) -> None:
    before = open_ports()
    with connect(Target("local")) as device:
        device.run(model, FEEDS)  # its worker stays
        assert open_ports() == before


@pytest.mark.skipif(SSHD is None, reason="sshd is not installed (Debian: openssh-server)")
def test_no_port_but_the_servers_is_open_while_a_device_is_measured_on(model: Path, tmp_path: Path) -> None:
    before = open_ports()
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(serve(tmp_path / "sshd"))
        except NoServer as failure:
            pytest.skip(str(failure))
        device = stack.enter_context(connect(server.target()))
        device.run(model, FEEDS)
        assert open_ports() == before | {server.port}


def test_openvino_is_used_without_its_telemetry() -> None:
    pytest.importorskip("openvino_telemetry", reason="OpenVINO is not installed: pip install 'cutback[openvino]'")
    asked = "import sys; from targets.runtimes.openvino import start; start(1, {}); print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", asked], text=True).split()
    assert "openvino" in loaded
    assert "openvino_telemetry" not in loaded
