"""The stream: copies through memory, whose time tells how fast it was just then (device side).

The gauge fits the caches of a core and does not see what a neighbour takes of the last cache and of the memory behind
it. Networks do, thin ones most: within two minutes a MobileNetV2 cut to half took up to 16 % longer, the gauge 2 %.
"""

from __future__ import annotations

from targets.timing import timed

BLOCK = 32 << 20  # bytes: read from one block and written to another, more than the last cache of a server's cores
COPIES = 6


def copied() -> list[int]:
    """What each of COPIES copies took, in ns; nothing where the device has no room for two blocks."""
    try:
        source = bytearray(b"\1") * BLOCK  # written to: pages of zeros may all be one page
        target = memoryview(bytearray(BLOCK))
    except MemoryError:
        return []

    def copy() -> None:
        target[:] = source

    copy()  # finds its pages
    return [timed(copy) for _ in range(COPIES)]
