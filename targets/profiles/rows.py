"""A profile as rows of the profile database."""

from collections import Counter

from targets.kernels import Profile
from targets.profiles.key import kernel_key
from targets.profiles.store import Row


def rows_of(profile: Profile, session_id: str, *, precision: str = "fp32", place: str = "in place") -> list[Row]:
    """One row a kernel, in order; kernels of one key are told apart by their index. `session_id` is unique to the
    profile: adding its rows twice adds them once."""
    seen: Counter[str] = Counter()
    rows = []
    for kernel in profile.kernels:
        key = kernel_key(kernel, profile.device, precision=precision, place=place)
        observed = {**profile.device.observed, "emulated": profile.device.emulated}
        rows.append(Row(key, kernel.samples_ns, session_id, seen[key.digest], observed))
        seen[key.digest] += 1
    return rows
