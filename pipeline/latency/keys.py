"""Keys of the rows that profiling leaves in the database, and what such a row says."""

from collections.abc import Mapping
from typing import Any

from targets import pairing, timing
from targets.connection import Connection
from targets.kernels import Profile, in_gauges
from targets.profiles.key import KernelKey
from targets.profiles.lines import WHOLE_ENGINE as WHOLE_ENGINE
from targets.profiles.store import Row

# A kernel alone; a site; the whole network; a kernel alone, several times over, as one network. WHOLE_ENGINE: an engine
# in fresh processes, as a device took it by itself.
STAIRCASE, IN_NETWORK, END_TO_END = "staircase", "in network", "end to end"
STAIRCASE_END_TO_END = "staircase, end to end"


OF_A_FLEET = ("worker", "tag", "host", "serial", "began_s", "ended_s")


def key_of(connection: Connection, op: Mapping[str, Any], place: str) -> KernelKey:
    """`place`: STAIRCASE, IN_NETWORK, END_TO_END or STAIRCASE_END_TO_END."""
    device = connection.device
    method = {"timing": timing.VERSION, "turns": pairing.VERSION, "place": place}
    precise = {**op, "precision": "fp32"}  # what is profiled is the network as it is given; widths are chosen by it
    return KernelKey(device.device_class, device.stack, device.regime, precise, method)


def in_gauges_of(row: Row) -> float:
    """The row's time as a multiple of the gauge's in the same turns; nanoseconds where no gauge ran."""
    samples = row.samples_ns
    calm = [run for run in row.observed["calm"] if run < len(samples)]
    whole = row.key.method["place"] == END_TO_END or not calm
    return in_gauges(samples, row.observed["gauge_ns"], None if whole else calm)


def observed_in(profile: Profile) -> dict[str, Any]:
    """What is kept beside a profile's rows, so that their levels can be told; of a fleet, by which device."""
    observed = profile.device.observed
    by = {"device": {name: observed[name] for name in OF_A_FLEET if name in observed}} if "worker" in observed else {}
    speed = {"gauge_ns": list(profile.gauge_ns), "stream_ns": list(profile.stream_ns)}
    return {**speed, "calm": list(profile.calm), **by}
