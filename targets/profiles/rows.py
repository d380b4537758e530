"""Rows of the profile database, and how a profile becomes rows."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from targets.kernels import Profile
from targets.measurement import interquartile_mean
from targets.profiles.key import Difference, KernelKey, kernel_key


@dataclass(frozen=True)
class Row:
    """Timings of one kernel in one session. `index` tells apart several kernels of one key within the session.

    `session_id`: unique to one run of one process, at most 64 printable characters. `observed`: what is
    kept beside the key (serial, kernel, exact memory, temperature, load, time); of all rows of a session, the first
    one's. `taken_at`: UTC; empty: now. `differs`: what tells the key from the one that was asked for, where the row
    stands in for another; it is not stored.
    """

    key: KernelKey
    samples_ns: tuple[int, ...]
    session_id: str
    index: int = 0
    observed: Mapping[str, Any] = field(default_factory=dict)
    taken_at: str = ""
    differs: tuple[Difference, ...] = ()

    @property
    def mean_ns(self) -> float:
        """The interquartile mean."""
        return interquartile_mean(self.samples_ns)


def rows_of(profile: Profile, session_id: str, *, precision: str = "fp32", place: str = "in place") -> list[Row]:
    """One row a kernel, in order; kernels of one key are told apart by their index. `session_id` is unique to the
    profile: adding its rows twice adds them once."""
    seen: Counter[str] = Counter()
    told = profile.end_to_end.conditions
    conditions = {"conditions": told} if told else {}
    rows = []
    for kernel in profile.kernels:
        key = kernel_key(kernel, profile.device, precision=precision, place=place)
        observed = {**profile.device.observed, "emulated": profile.device.emulated, **conditions}
        rows.append(Row(key, kernel.samples_ns, session_id, seen[key.digest], observed))
        seen[key.digest] += 1
    return rows
