"""Several connections to one fleet, so that its devices work side by side (host side)."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from targets.connection import Connection, Tell, connect, silent
from targets.copies import Lower
from targets.errors import BadInput, LinkLost, TargetError
from targets.profiles.key import differences
from targets.protocol import one_line
from targets.target import Target

KIND = (
    "device_class",
    "stack",
    "regime",
)  # what all devices of a tag have in common, or their times do not go together
OPENED_AT_ONCE = 8  # each starts a process here
PAUSES_S = (1.0, 5.0, 15.0, 30.0, 60.0)  # where a device has answered, and all are gone a moment later


@contextlib.contextmanager
def connect_fleet(
    target: Target, count: int | None = None, *, lower: Lower | None = None, tell: Tell = silent
) -> Iterator[tuple[Connection, ...]]:
    """As many connections as there are devices with the target's tag just now, or `count`; which device answers which
    is the scheduler's business. `TargetError` where two of them are of two kinds; otherwise as `connect`."""
    if target.transport != "dask":
        raise BadInput(f"{target.name} is one device. A fleet is a target with transport=dask (docs/fleet.md).")
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(connect(target, lower=lower, tell=tell))
        wanted = count or len(first.devices())

        def another(_: int) -> Connection | Exception:
            for pause_s in (*PAUSES_S, None):
                own = contextlib.ExitStack()
                try:
                    opened = own.enter_context(connect(target, lower=lower, tell=tell))
                except LinkLost as lost:
                    if pause_s is None:
                        return lost
                    tell(f"{lost} Trying again in {pause_s:.0f} s.")
                    time.sleep(pause_s)
                except Exception as failure:  # noqa: BLE001 -- raised below, once all that were opened can be closed
                    return failure
                else:
                    stack.push(own)
                    return opened
            raise AssertionError("the last attempt returns")

        with ThreadPoolExecutor(OPENED_AT_ONCE) as pool:
            found = list(pool.map(another, range(wanted - 1)))
        for each in found:
            if isinstance(each, Exception):
                raise each
        crew = (first, *(each for each in found if isinstance(each, Connection)))
        for connection in crew:
            check_kind(connection.device.as_dict(), first.device.as_dict(), target.tag)
        yield crew


def check_kind(theirs: Mapping[str, Any], ours: Mapping[str, Any], tag: str) -> None:
    """`TargetError`, by name of the worker, where two devices with a tag are of two kinds."""
    found = [str(each) for part in KIND for each in differences(theirs[part], ours[part], part)]
    if found:
        raise TargetError(
            f"{theirs['observed'].get('worker')} is of another kind than {ours['observed'].get('worker')}, with the "
            f"same tag {tag}: {one_line('; '.join(found))}. Give its worker a tag of its own (--resources)."
        )
