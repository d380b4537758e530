"""Rows to write, and processes that write them. It imports little: every process begins by importing it."""

from targets.profiles.key import KernelKey
from targets.profiles.store import ProfileStore, Row

PRELOADED = ["benchmarks.storm", "tests.targets.writers"]


def key_of(width: int, **device: object) -> KernelKey:
    op = {"op": "Conv", "inputs": [[1, width, 8, 8]], "attributes": {"group": 1, "pads": [1, 1]}}
    return KernelKey({"cpu": "test", **device}, {"runtime": "none"}, {"threads": 1}, op, {"place": "alone"})


def row_of(width: int, session: str = "s", index: int = 0, samples: tuple[int, ...] = (3000, 1000, 2000)) -> Row:
    return Row(key_of(width), samples, session, index, {"host": "here", "temperature_c": 51.5}, "2026-01-02T03:04:05Z")


def write_some(url: str, writer: int) -> None:
    store = ProfileStore(url)
    for batch in range(10):
        store.add([row_of(8, f"{writer}-{batch}"), row_of(16, f"{writer}-{batch}"), row_of(8, "common", batch)])


def open_and_add(url: str, number: int) -> None:
    ProfileStore(url).add([row_of(8, f"opened-{number}")])
