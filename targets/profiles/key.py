"""KernelKey: everything that a kernel's time depends on, and nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from targets.device import Device
from targets.kernels import Kernel
from targets.profiles.lines import PARTS as PARTS
from targets.profiles.lines import canonical as canonical
from targets.profiles.lines import digest_of as digest_of
from targets.profiles.lines import digest_of_texts as digest_of_texts
from targets.timing import VERSION

ABSENT = "(absent)"  # where one of two documents has nothing at all, which is not null


@dataclass(frozen=True)
class Difference:
    """One place where two documents differ: `path` such as "stack.version"."""

    path: str
    theirs: Any
    ours: Any

    def __str__(self) -> str:
        return f"{self.path}: {self.theirs} there, {self.ours} here"


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any], path: str) -> tuple[Difference, ...]:
    """Every place where they differ, in order; lists are compared whole."""
    found: list[Difference] = []
    for name in sorted({*theirs, *ours}):
        pair = theirs.get(name, ABSENT), ours.get(name, ABSENT)
        inside = f"{path}.{name}"
        if all(isinstance(value, Mapping) for value in pair):
            found += differences(*pair, inside)
        elif canonical({"": pair[0]}) != canonical({"": pair[1]}):
            found.append(Difference(inside, *pair))
    return tuple(found)


@dataclass(frozen=True)
class KernelKey:
    """Five JSON documents; two keys are the same when their digests are.

    `device`: the class of device. `stack`: system, runtime, version, provider, options. `regime`: clocks, governor,
    threads, pinning. `op`: fused operators, attributes, shapes, dtypes, layout. `method`: how it was timed.
    """

    device: Mapping[str, Any]
    stack: Mapping[str, Any]
    regime: Mapping[str, Any]
    op: Mapping[str, Any]
    method: Mapping[str, Any]

    @cached_property
    def digest(self) -> str:
        """sha256 of the canonical JSON, in hexadecimal."""
        return digest_of({part: getattr(self, part) for part in PARTS})


def kernel_key(kernel: Kernel, device: Device, *, precision: str = "fp32", place: str = "in place") -> KernelKey:
    """The key of a profiled kernel. `place`: "in place" (within a whole network) or "alone".

    The names of tensors and nodes are not in it: equal kernels of two networks share their timings.
    """
    op = {
        "op": kernel.op,
        "fused": list(kernel.fused),
        "attributes": dict(kernel.attributes),
        "inputs": [list(shape) for shape in kernel.input_shapes],
        "weights": [list(shape) for shape in kernel.weight_shapes],
        "outputs": [list(shape) for shape in kernel.output_shapes],
        "precision": precision,
        "layout": kernel.layout,
    }
    method = {"timing": VERSION, "place": place}
    return KernelKey(device.device_class, device.stack, device.regime, op, method)
