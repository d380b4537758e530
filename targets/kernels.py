"""Kernels: what a runtime really ran, with its times, in the words of the graph that the user gave."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from targets.device import Device
from targets.measurement import Session, interquartile_mean
from targets.runtimes import facts_of

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Kernel:
    """One kernel of one run. `name` and `op` are the runtime's; all tensor and node names are the original graph's.

    `inputs` and `outputs`: activations (no weights), with their true shapes, unpadded. A kernel that only changes the
    layout carries one tensor on both sides. A tensor that the runtime made up keeps the runtime's name. `nodes`: the
    original nodes that it computes; `fused`: their operators, without the batch-norms that were folded into weights.
    `attributes` and `weight_shapes`: the runtime's, of the kernel; blocked weights are padded. `layout`: "blocked"
    where channels are padded to vector blocks. `samples_ns`: one duration a run, as coarse as the runtime's profile.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    input_shapes: tuple[Shape, ...]
    output_shapes: tuple[Shape, ...]
    samples_ns: tuple[int, ...]
    fused: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    weight_shapes: tuple[Shape, ...] = ()
    layout: str = "plain"

    @property
    def mean_ns(self) -> float:
        """The interquartile mean of the samples: below the quantum of a profile in whole microseconds."""
        return interquartile_mean(self.samples_ns)


@dataclass(frozen=True)
class Profile:
    """Kernels in the order of execution, and end-to-end runs of the same process that took turns with them, un-
    profiled.

    Profiling slows every node: the end-to-end time is never the kernels' sum, and never taken from profiled runs.
    `gauge_ns`: what the gauge took, in the same turns; `stream_ns`: what copies through memory took before and after
    them. Empty where none ran. There are no kernels where the runtime does not tell their times.
    """

    kernels: tuple[Kernel, ...]
    end_to_end: Session
    device: Device
    gauge_ns: tuple[int, ...] = ()
    stream_ns: tuple[int, ...] = ()

    @property
    def calm(self) -> tuple[int, ...]:
        """The numbers of the profiled runs that were fastest as a whole, a fifth of them: the others were disturbed.
        Empty where the runtime tells no kernel times."""
        if not self.kernels:
            return ()
        totals = np.sum([kernel.samples_ns for kernel in self.kernels], axis=0)
        return tuple(int(run) for run in np.sort(np.argsort(totals, kind="stable")[: fifth(len(totals))]))

    @property
    def total_ns(self) -> float:
        """The sum over the kernels, with what profiling added to each."""
        return sum(kernel.mean_ns for kernel in self.kernels)

    @property
    def beyond_ns(self) -> float:
        """End-to-end less the kernels' sum. Negative where profiling adds more to kernels than runs between them."""
        return self.end_to_end.median_ns - self.total_ns


def fifth(count: int) -> int:
    """How many of so many runs are looked at: a fifth, though not fewer than five."""
    return min(count, max(5, -(-count // 5)))


def fastest(samples_ns: Sequence[float]) -> float:
    """The mean of the fastest fifth. On a shared machine the others are slowed down by up to a third, in spells too
    short to see; of six profiles of one network these means differed by 2.4 %, medians by 8 %."""
    return float(np.mean(np.sort(np.asarray(samples_ns, np.float64))[: fifth(len(samples_ns))]))


def in_gauges(samples_ns: Sequence[float], gauge_ns: Sequence[float], calm: Sequence[int] | None = None) -> float:
    """The samples' level as a multiple of the gauge's; nanoseconds where no gauge ran. Of a kernel the `calm` runs
    count, which are the same for all kernels of a profile, so that their levels add up; without them the fastest
    fifth."""
    level = fastest(samples_ns) if calm is None else float(np.mean([samples_ns[run] for run in calm]))
    return level / (fastest(gauge_ns) if gauge_ns else 1.0)


def join_kernels(
    runtime: str, raw: Sequence[Mapping[str, Any]], graph: Path, source: Path, shapes: Mapping[str, Sequence[int]]
) -> tuple[Kernel, ...]:
    """Raw kernels of a runtime, `graph` (what it ran) and `source` (what it was given) -> kernels."""
    join = facts_of(runtime).join
    assert join is not None, f"{runtime} told kernel times, and nothing joins them"
    joined: tuple[Kernel, ...] = importlib.import_module(join).join(raw, graph, source, shapes)
    return joined
