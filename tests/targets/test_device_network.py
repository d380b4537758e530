"""A network that swallows everything: host and device in two network namespaces of their own, joined by one cable."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.targets.hurried import hurried
from tests.targets.models import saved, slow
from tests.targets.processes import wait_for
from tests.targets.sshd import Server
from tests.targets.test_device_faults import IMPATIENT, device, finished, host, measuring

pytestmark = pytest.mark.slow

HOST_ADDRESS, DEVICE_ADDRESS = "198.51.100.1", "198.51.100.2"  # kept for documentation: nobody's

# A dead line is known after three seconds instead of fifteen, and asked again for as long as a test takes.
SETTINGS = """
targets.channel.HEARTBEAT_S = 0.3
ssh.OPTIONS = tuple(
    each.replace("AliveInterval=5", "AliveInterval=1").replace("Timeout=15", "Timeout=2") for each in ssh.OPTIONS
)
"""


class Cable:
    """Two namespaces and the pair of interfaces between them."""

    def __init__(self, name: str) -> None:
        self.host, self.device = f"{name}h", f"{name}d"

    def run(self, *words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    def within(self, which: str) -> tuple[str, ...]:
        return ("ip", "netns", "exec", which)

    def lay(self) -> None:
        for which in (self.host, self.device):
            self.run("netns", "add", which)
        self.run(
            "link", "add", self.host, "netns", self.host, "type", "veth", "peer", self.device, "netns", self.device
        )
        for which, address in ((self.host, HOST_ADDRESS), (self.device, DEVICE_ADDRESS)):
            self.run("-n", which, "address", "add", f"{address}/24", "dev", which)
            self.run("-n", which, "link", "set", "lo", "up")
            self.run("-n", which, "link", "set", which, "up")

    def swallow(self, everything: bool) -> None:
        """Neither side is told anything: what is sent does not arrive."""
        change = "-A" if everything else "-D"
        rule = ["iptables", change, "INPUT", "-i", self.device, "-j", "DROP"]
        subprocess.run([*self.within(self.device), *rule], check=True, capture_output=True)

    def remove(self) -> None:
        for which in (self.host, self.device):
            with contextlib.suppress(subprocess.CalledProcessError):
                self.run("netns", "delete", which)


@pytest.fixture
def cable() -> Iterator[Cable]:
    laid = Cable(f"cb{os.getpid() % 100000}")
    try:
        laid.lay()
        laid.swallow(True)
        laid.swallow(False)
    except (OSError, subprocess.CalledProcessError) as failure:
        laid.remove()
        pytest.skip(f"no network namespaces may be made here: {failure}")
    try:
        yield laid
    finally:
        laid.remove()


@pytest.fixture
def far(cable: Cable, tmp_path: Path) -> Iterator[Server]:
    with device(tmp_path / "device", address=DEVICE_ADDRESS, within=cable.within(cable.device)) as running:
        yield running


def test_a_line_that_is_dead_is_noticed_on_both_sides_and_taken_up_again(
    cable: Cable, far: Server, tmp_path: Path
) -> None:
    model = saved(slow(), tmp_path / "slow.onnx")
    target = far.target(python=hurried(tmp_path, IMPATIENT))
    with host(target, model, 2, SETTINGS, cable.within(cable.host)) as process:
        measuring(far)
        cable.swallow(True)
        wait_for(lambda: not far.left())  # the agent has heard nothing for as long as it waits
        time.sleep(4)  # and the host, whose own end of the line is still open
        cable.swallow(False)
        lines = finished(process)
    assert lines.count("session") == 2
    told = [line for line in lines if line.startswith("told ")]
    assert told[0].startswith("told device: the connection was lost"), told
    wait_for(lambda: not far.left())


def test_a_device_that_is_never_reached_again_ends_in_one_line(cable: Cable, far: Server, tmp_path: Path) -> None:
    model = saved(slow(), tmp_path / "slow.onnx")
    settings = f"{SETTINGS}\nRemoteLink.pauses_s = (0.1, 0.1)"
    with host(far.target(python=hurried(tmp_path, IMPATIENT)), model, 2, settings, cable.within(cable.host)) as process:
        measuring(far)
        cable.swallow(True)
        _, said = process.communicate(timeout=120)
    assert process.returncode != 0
    assert said.splitlines()[-1] == (
        "targets.errors.LinkLost: device: it does not answer. Is the device on, and in this network?"
    )
    wait_for(lambda: not far.left())
