"""The device's side as one file that Python runs: no installation, nothing unpacked (host side)."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

CONDITIONS = (
    "conditions/__init__.py", "conditions/android.py", "conditions/cooling.py", "conditions/cpufreq.py",
    "conditions/heat.py", "conditions/jetson.py", "conditions/nvidia.py", "conditions/raspberry.py",
    "conditions/regimes.py", "conditions/source.py",
)  # fmt: skip

STANDALONE = (  # all that `targets.standalone` imports, and nothing that a device does not have
    *CONDITIONS, "__init__.py", "comparison.py", "cores.py", "errors.py", "feeds.py", "here.py", "host.py", "lease.py",
    "load.py", "packed.py",
    "pairing.py", "probe.py", "profiles/__init__.py", "profiles/lines.py", "protocol.py", "results.py", "rounds.py",
    "runtimes/__init__.py", "runtimes/cuda.py", "runtimes/onnxruntime.py", "runtimes/onnxruntime_providers.py",
    "runtimes/tensorrt.py", "speed.py", "stream.py", "sysfs.py",
    "standalone.py", "timing.py", "watch.py", "worker.py", "workers.py",
)  # fmt: skip

AGENT = (  # all that `targets.agent` and its workers import, with every runtime
    *CONDITIONS, "__init__.py", "agent.py", "cache.py", "cores.py", "errors.py",
    "feeds.py", "host.py", "lease.py", "load.py", "pairing.py",
    "probe.py", "protocol.py", "speed.py", "store.py", "stream.py", "sysfs.py", "timing.py", "watch.py", "worker.py",
    "workers.py",
)  # fmt: skip

# Understood by every Python 3, so that one that is too old says so instead of showing a syntax error.
MAIN = """import sys

if sys.version_info < (3, 8):
    sys.exit("on_device: error: Python 3.8 or newer is needed; this is {}.{}".format(*sys.version_info))
from targets.standalone import main

main()
"""
AGENT_MAIN = MAIN.replace("on_device: error: ", "").replace("standalone", "agent")
SHEBANG = b"#!/usr/bin/env python3\n"
EPOCH = (1980, 1, 1, 0, 0, 0)  # equal files make an equal archive


def write_standalone(path: Path) -> None:
    """The archive that runs `targets.standalone`; the same bytes every time."""
    write(path, STANDALONE, MAIN)


def write_agent(path: Path) -> None:
    """The archive that runs `targets.agent`; the same bytes every time, so that its hash says which agent it is."""
    runtimes = sorted(f"runtimes/{each.name}" for each in (Path(__file__).parent / "runtimes").glob("*.py"))
    write(path, (*AGENT, *runtimes), AGENT_MAIN)


def write(path: Path, names: Sequence[str], main: str) -> None:
    root = Path(__file__).parent
    with path.open("wb") as stream:
        stream.write(SHEBANG)
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in names:
                add(archive, f"targets/{name}", (root / name).read_bytes())
            add(archive, "__main__.py", main.encode())
    path.chmod(0o755)


def add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, EPOCH), content, zipfile.ZIP_DEFLATED)
