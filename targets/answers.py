"""What an agent answers, as the frozen data that everything above relies on (host side).

This is the boundary: a device may be broken, or not what it says it is. Every function takes JSON of any form and
raises `ValueError`, with what is wrong and where, for whatever no agent of ours would say.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from targets.device import Device
from targets.kernels import Kernel
from targets.measurement import Session, checked_conditions
from targets.runtimes import Reads

LONGEST_TEXT = 8192  # characters of a name, of a path, of a runtime's word for a fused kernel
LONGEST_SENTENCE = 1000  # of a doubt
MOST_SAMPLES = 500_000  # of one session: seconds of runs that take microseconds
MOST_NS = 24 * 3600 * 10**9  # of one run
MOST_KERNELS = 50_000
MOST_ITEMS = 5000  # of a device's whole description
MOST_INPUTS = 1000
LARGEST_DIM = 1 << 40
HIGHEST_RANK = 64
LARGEST_NUMBER = 1 << 63
PROTOCOLS = ("full", "quick", "in turns")
DTYPES = (
    "bool", "float16", "float32", "float64", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "uint16",
    "uint32", "uint64",
)  # fmt: skip


class Profiled(NamedTuple):
    """A profile before its kernels are joined. `kernels` None: the runtime tells no times of theirs."""

    end_to_end: Session
    gauge_ns: tuple[int, ...]
    stream_ns: tuple[int, ...]
    kernels: tuple[Mapping[str, Any], ...] | None


def device_from(told: Any) -> tuple[Device, Reads]:
    parts = {part: document(part_of(told, part), part) for part in ("device_class", "stack", "regime", "observed")}
    if sum(map(count, parts.values())) > MOST_ITEMS:
        raise ValueError(f"a description of more than {MOST_ITEMS} items")
    emulated = part_of(told, "emulated")
    if not isinstance(emulated, bool):
        raise ValueError("emulated is neither true nor false")
    reads = part_of(told, "reads")
    newest = {part: number(part_of(reads, part), 1, 10_000, part) for part in ("opset", "ir")}
    return Device(**parts, emulated=emulated), Reads(**newest)


def session_from(told: Any, *, least: int = 1) -> Session:
    """`least`: how many runs it has."""
    protocol = part_of(told, "protocol")
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol is none of {', '.join(PROTOCOLS)}")
    return Session(
        samples_ns=times(part_of(told, "samples_ns"), "samples_ns", shortest_ns=1, least=least),
        warm_ups=number(part_of(told, "warm_ups"), 0, MOST_SAMPLES, "warm_ups"),
        doubts=sentences(part_of(told, "doubts"), "doubts"),
        voided=sentences(part_of(told, "voided"), "voided"),
        protocol=protocol,
        probes_ns=times(told.get("probes_ns", []), "probes_ns", shortest_ns=1, least=0),
        conditions=checked_conditions(document(told.get("conditions", {}), "conditions")),
    )


def conditions_from(told: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """(clocks, heat and power as they are now, what is known of a lock on the clocks)."""
    return document(part_of(told, "conditions"), "conditions"), document(part_of(told, "lock"), "lock")


def names_from(told: Any) -> list[str]:
    """Of devices."""
    return [text(each, "a device's name", LONGEST_SENTENCE) for each in items(told, MOST_ITEMS, "devices")]


def inputs_from(told: Any) -> list[dict[str, Any]]:
    """`{"name", "shape", "dtype"}` of each, as `targets.runtimes.Loaded.inputs` has them."""
    found = []
    for each in items(told, MOST_INPUTS, "inputs"):
        dtype = part_of(each, "dtype")
        if dtype not in DTYPES:
            raise ValueError("an input of a type that is no tensor's")
        shape = [dim_from(dim) for dim in items(part_of(each, "shape"), HIGHEST_RANK, "shape")]
        found.append({"name": text(part_of(each, "name"), "name"), "shape": shape, "dtype": dtype})
    if len({each["name"] for each in found}) < len(found):
        raise ValueError("two inputs of one name")
    return found


def profile_from(told: Any, *, kernels_only: bool) -> Profiled:
    """With `kernels_only` there need be no end-to-end runs; the session then holds none."""
    session = session_from(part_of(told, "end_to_end"), least=0 if kernels_only else 1)
    gauge_ns = times(part_of(told, "gauge_ns"), "gauge_ns", shortest_ns=1, least=0)
    stream_ns = times(told.get("stream_ns", []), "stream_ns", shortest_ns=1, least=0)
    kernels = part_of(told, "kernels")
    if kernels is None:
        return Profiled(session, gauge_ns, stream_ns, None)
    return Profiled(session, gauge_ns, stream_ns, tuple(map(raw_kernel, items(kernels, MOST_KERNELS, "kernels"))))


def raw_kernel(told: Any) -> dict[str, Any]:
    """`{"name", "op", "output_shapes", "samples_ns"}`, as `targets.runtimes.Profiled.kernels` has them."""
    shapes = items(part_of(told, "output_shapes"), MOST_INPUTS, "output_shapes")
    return {
        "name": text(part_of(told, "name"), "a kernel's name"),
        "op": text(part_of(told, "op"), "op"),
        "output_shapes": [list(shape_from(shape)) for shape in shapes],
        "samples_ns": list(times(part_of(told, "samples_ns"), "samples_ns", shortest_ns=0, least=0)),
    }


def joined(kernels: Sequence[Kernel]) -> tuple[Kernel, ...]:
    """Joined kernels, whose shapes and attributes may come from a graph that a device wrote: equally many samples
    each, and sizes that can be."""
    runs = {len(kernel.samples_ns) for kernel in kernels}
    if len(runs) > 1 or 0 in runs:
        raise ValueError("kernels with different numbers of samples, or with none")
    for kernel in kernels:
        for shape in (*kernel.input_shapes, *kernel.output_shapes, *kernel.weight_shapes):
            shape_from(shape)
        document(kernel.attributes, "attributes")
    return tuple(kernels)


def path_from(told: Any, part: str) -> str:
    """A place on the device; nothing on this machine is ever called so."""
    return text(part_of(told, part), part)


def document(value: Any, what: str) -> dict[str, Any]:
    """A mapping of names to scalars, to lists, and to a few levels of mappings."""
    found = mapping(value, what)
    plain(found, what, 0)
    return dict(found)


def plain(value: Any, what: str, depth: int) -> None:
    if depth > 4:
        raise ValueError(f"{what} is too deep")
    if isinstance(value, str):
        text(value, what)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if not -LARGEST_NUMBER <= value <= LARGEST_NUMBER:  # so is what is no number
            raise ValueError(f"{what} holds a number that is too large")
    elif isinstance(value, Mapping):
        for name, each in value.items():
            plain(each, f"{what}.{text(name, what)[:80]}", depth + 1)
    elif isinstance(value, list | tuple):
        for each in value:
            plain(each, what, depth + 1)
    elif value is not None and not isinstance(value, bool):
        raise ValueError(f"{what} holds what JSON does not")


def count(value: Any) -> int:
    if isinstance(value, Mapping):
        return sum(1 + count(each) for each in value.values())
    return sum(1 + count(each) for each in value) if isinstance(value, list) else 0


def part_of(value: Any, part: str) -> Any:
    if not isinstance(value, Mapping) or part not in value:
        raise ValueError(f"there is no {part}")
    return value[part]


def mapping(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{what} is no mapping")
    return value


def items(value: Any, most: int, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{what} is no list")
    if len(value) > most:
        raise ValueError(f"{what} has more than {most} items")
    return value


def text(value: Any, what: str, longest: int = LONGEST_TEXT) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{what} is no text")
    if len(value) > longest:
        raise ValueError(f"{what} is a text of {len(value)} characters")
    return value


def sentences(value: Any, what: str) -> tuple[str, ...]:
    return tuple(text(each, what, LONGEST_SENTENCE) for each in items(value, 100, what))


def number(value: Any, low: int, high: int, what: str) -> int:
    """A whole one; true is none."""
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{what} is no whole number from {low} to {high}")
    return value


def times(value: Any, what: str, *, shortest_ns: int, least: int) -> tuple[int, ...]:
    found = items(value, MOST_SAMPLES, what)
    if len(found) < least:
        raise ValueError(f"{what} has fewer than {least} items")
    if not all(type(each) is int for each in found):
        raise ValueError(f"{what} holds what is no whole number")
    if found and not shortest_ns <= min(found) <= max(found) <= MOST_NS:
        raise ValueError(f"{what} holds a time that cannot be")
    return tuple(found)


def shape_from(value: Any) -> tuple[int, ...]:
    found = items(list(value) if isinstance(value, tuple) else value, HIGHEST_RANK, "shape")
    return tuple(number(dim, 0, LARGEST_DIM, "a dimension") for dim in found)


def dim_from(value: Any) -> int | str | None:
    if value is None or isinstance(value, str):
        return None if value is None else text(value, "a dimension")
    return number(value, 0, LARGEST_DIM, "a dimension")
