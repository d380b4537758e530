"""Target: what a user names when they say where a model shall run."""

from dataclasses import dataclass

from targets.errors import BadInput


@dataclass(frozen=True)
class Target:
    """A device with a runtime on it, and how it is to be used.

    `transport` and `runtime` are names from the tables in `targets.transports` and `targets.runtimes`. `threads` is
    the number of cores that a model gets, each pinned. `regime` is "as-shipped" (clocks as the device comes) or
    "locked"; timings of the two are never mixed.
    """

    name: str
    transport: str = "local"
    runtime: str = "onnxruntime"
    precision: str = "fp32"
    threads: int = 1
    regime: str = "as-shipped"


BUILT_IN = (Target("local"),)


def find_target(name: str) -> Target:
    """The target of that name. `BadInput` lists the known ones."""
    for target in BUILT_IN:
        if target.name == name:
            return target
    raise BadInput(f"There is no target {name!r}. Known targets: {', '.join(target.name for target in BUILT_IN)}.")
