"""What a system tells in small files: read where they are, left out where not (device side)."""

from __future__ import annotations

import contextlib
from pathlib import Path

ROOT = Path("/")


def read(path: str | Path) -> str:
    """ "" where it cannot be read."""
    with contextlib.suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="replace")
    return ""


def text(path: str | Path) -> str | None:
    """Without the NULs and line ends around it; None where nothing is left."""
    return read(path).strip("\0\n ") or None


def read_int(path: str | Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int(Path(path).read_text(encoding="ascii"))
    return None


def is_board(vendor: str, root: Path = ROOT) -> bool:
    """Whether the device tree says that it is one of this vendor's, such as "raspberrypi"."""
    return any(each.startswith(vendor) for each in read(root / "proc/device-tree/compatible").split("\0"))
