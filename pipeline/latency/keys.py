"""Keys of the rows that profiling leaves in the database, and what such a row says."""

from collections.abc import Mapping
from typing import Any

from targets import pairing, timing
from targets.connection import Connection
from targets.kernels import in_gauges
from targets.profiles.key import KernelKey
from targets.profiles.store import Row


def key_of(connection: Connection, op: Mapping[str, Any], place: str) -> KernelKey:
    """`place`: "staircase" (a kernel alone), "in network" or "end to end"."""
    device = connection.device
    method = {"timing": timing.VERSION, "turns": pairing.VERSION, "place": place}
    precise = {**op, "precision": connection.target.precision}
    return KernelKey(device.device_class, device.stack, device.regime, precise, method)


def in_gauges_of(row: Row) -> float:
    """The row's time as a multiple of the gauge's in the same turns; nanoseconds where no gauge ran."""
    return in_gauges(row.samples_ns, row.observed.get("gauge_ns", ()))
