"""The device's side as one file that Python runs: no installation, nothing unpacked (host side)."""

import zipfile
from pathlib import Path

STANDALONE = (  # all that `targets.standalone` imports, and nothing that a device does not have
    "__init__.py", "agent.py", "comparison.py", "errors.py", "feeds.py", "here.py", "load.py", "packed.py",
    "pairing.py", "probe.py", "profiles/__init__.py", "profiles/lines.py", "protocol.py", "results.py", "rounds.py",
    "runtimes/__init__.py", "runtimes/cuda.py", "runtimes/onnxruntime.py", "runtimes/onnxruntime_providers.py",
    "runtimes/tensorrt.py", "speed.py",
    "standalone.py", "timing.py", "watch.py", "worker.py",
)  # fmt: skip

# Understood by every Python 3, so that one that is too old says so instead of showing a syntax error.
MAIN = """import sys

if sys.version_info < (3, 8):
    sys.exit("on_device: error: Python 3.8 or newer is needed; this is {}.{}".format(*sys.version_info))
from targets.standalone import main

main()
"""
SHEBANG = b"#!/usr/bin/env python3\n"
EPOCH = (1980, 1, 1, 0, 0, 0)  # equal files make an equal archive


def write_standalone(path: Path) -> None:
    """The archive that runs `targets.standalone`; the same bytes every time."""
    root = Path(__file__).parent
    with path.open("wb") as stream:
        stream.write(SHEBANG)
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in STANDALONE:
                archive.writestr(zipfile.ZipInfo(f"targets/{name}", EPOCH), (root / name).read_bytes())
            archive.writestr(zipfile.ZipInfo("__main__.py", EPOCH), MAIN)
    path.chmod(0o755)
