"""Staircases: how a kernel's time climbs with its width, and which widths are worth having.

Time over width is a staircase whose steps differ by runtime, precision and device. A width is worth having only when no
larger one costs the same: the right edge of its stair. Many widths of one kernel are timed in one build, as parallel
branches of a small graph, so that a whole staircase costs one session.
"""

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pipeline.graph.model import Model
from pipeline.latency.sites import Site
from targets.connection import Connection
from targets.measurement import interquartile_mean
from targets.profiles.key import KernelKey
from targets.profiles.store import ProfileStore, Row
from targets.timing import VERSION

# Two widths that differ by less than this take the same time.
SAME_STAIR = 1.05
Progress = Callable[[int, int, str], None]

MOST_WIDTHS = 48  # a sweep with more would not fit the cache any network has
RUNS = 24


@dataclass(frozen=True)
class Sweep:
    """One linear node at many widths of one side ("in", "out" or "both"), the other side at `other`. `per_group`,
    `groups`: what stays of a grouped convolution, which has equal sides here."""

    node: onnx.NodeProto
    input_shape: tuple[int, ...]
    weight_shape: tuple[int, ...]
    side: str
    other: int
    per_group: int | None = None
    groups: int | None = None

    @property
    def op(self) -> dict[str, Any]:
        from pipeline.latency.sites import linear_attributes

        spatial = list(self.input_shape[2:]) if len(self.input_shape) > 2 else []
        return {
            "op": self.node.op_type,
            "attributes": linear_attributes(self.node),
            "batch": self.input_shape[0],
            "spatial": spatial,
            "kernel": list(self.weight_shape[2:]),
            "side": self.side,
            "other": self.other,
            "per_group": self.per_group,
            **({"groups": self.groups} if self.groups else {}),
        }

    def inputs_a_group(self, width: int) -> int:
        """Of a convolution that reads `width` channels."""
        return self.per_group or width // (self.groups or 1)


@dataclass(frozen=True)
class Staircase:
    """Times at widths, ascending. `edges`: the widths worth having."""

    op: Mapping[str, Any]
    widths: tuple[int, ...]
    times_ns: tuple[float, ...]

    @property
    def edges(self) -> tuple[int, ...]:
        return right_edges(self.widths, self.times_ns)


def right_edges(widths: Sequence[int], times_ns: Sequence[float]) -> tuple[int, ...]:
    """The widths that no larger one matches in time (within SAME_STAIR)."""
    edges, cheapest_above = [], float("inf")
    for width, time_ns in sorted(zip(widths, times_ns, strict=True), reverse=True):
        if cheapest_above > time_ns * SAME_STAIR:
            edges.append(width)
        cheapest_above = min(cheapest_above, time_ns)
    return tuple(reversed(edges))


def sweep_of(model: Model, site: Site, side: str) -> Sweep | None:
    """The sweep that shows how the site's linear node climbs along `side`; None where it has no such side."""
    if site.linear is None:
        return None
    node = next(node for node in model.proto.graph.node if node.name == site.linear)
    input_shape, weight = model.shapes.get(node.input[0]), model.shapes.get(node.input[1])
    if input_shape is None or weight is None or node.op_type not in ("Conv", "Gemm") or len(input_shape) < 2:
        return None
    if node.op_type == "Gemm" and any(a.name == "transA" and a.i for a in node.attribute):
        return None
    per_group, groups = site.family.get("per_group"), site.family.get("groups")
    if (per_group or groups) and side != "both":
        return None  # one side alone would no longer divide by the groups
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    out = weight[0] if node.op_type == "Conv" or transposed else weight[1]
    return Sweep(node, input_shape, weight, side, out if side == "in" else input_shape[1], per_group, groups)


def measure_staircase(
    sweep: Sweep, widths: Sequence[int], connection: Connection, store: ProfileStore | None, session_id: str
) -> Staircase:
    """The staircase at `widths`: from the database where it is known, else timed now and recorded."""
    keys = {width: _key(sweep, width, connection) for width in widths}
    known = store.find([key.digest for key in keys.values()]) if store else {}
    times = {
        width: float(np.median([row.mean_ns for row in known[key.digest]]))
        for width, key in keys.items()
        if known.get(key.digest)
    }
    missing = [width for width in widths if width not in times]
    if missing:
        samples = _time(sweep, missing, connection)
        times.update((width, interquartile_mean(sample)) for width, sample in samples.items())
        if store:
            store.add(Row(keys[width], tuple(sample), session_id) for width, sample in samples.items())
    ordered = sorted(times)
    return Staircase(sweep.op, tuple(ordered), tuple(times[width] for width in ordered))


def _time(sweep: Sweep, widths: Sequence[int], connection: Connection) -> dict[int, tuple[int, ...]]:
    with tempfile.TemporaryDirectory(prefix="cutback-stairs-") as folder:
        path = Path(folder, "stairs.onnx")
        path.write_bytes(_graph(sweep, widths).SerializeToString())
        profile = connection.profile(path, runs=RUNS)
    by_output = {name: kernel for kernel in profile.kernels for name in kernel.outputs if kernel.nodes}
    return {width: tuple(by_output[f"y{width}"].samples_ns) for width in widths if f"y{width}" in by_output}


def _graph(sweep: Sweep, widths: Sequence[int]) -> onnx.ModelProto:
    generator = np.random.default_rng(0)
    nodes, weights, inputs, outputs = [], [], {}, []
    for width in widths:
        source = width if sweep.side in ("in", "both") else sweep.other
        out = width if sweep.side in ("out", "both") else sweep.other
        shape = (sweep.input_shape[0], source, *sweep.input_shape[2:])
        inputs[f"x{source}"] = helper.make_tensor_value_info(f"x{source}", TensorProto.FLOAT, shape)
        attributes = {a.name: helper.get_attribute_value(a) for a in sweep.node.attribute if a.name != "group"}
        if sweep.node.op_type == "Conv":
            per_group = sweep.inputs_a_group(source)
            attributes["group"] = source // per_group
            weight_shape: tuple[int, ...] = (out, per_group, *sweep.weight_shape[2:])
        else:
            weight_shape = (out, source) if attributes.get("transB") else (source, out)
        weight = generator.standard_normal(weight_shape) / math.sqrt(max(1, math.prod(weight_shape[1:])))
        weights += [
            numpy_helper.from_array(weight.astype(np.float32), f"w{width}"),
            numpy_helper.from_array(np.zeros(out, np.float32), f"b{width}"),
        ]
        names = [f"x{source}", f"w{width}", f"b{width}"]
        nodes.append(helper.make_node(sweep.node.op_type, names, [f"y{width}"], f"n{width}", **attributes))
        outputs.append(helper.make_tensor_value_info(f"y{width}", TensorProto.FLOAT, None))
    graph = helper.make_graph(nodes, "stairs", list(inputs.values()), outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _key(sweep: Sweep, width: int, connection: Connection) -> KernelKey:
    device = connection.device
    op = {**sweep.op, "width": width, "precision": connection.target.precision}
    return KernelKey(device.device_class, device.stack, device.regime, op, {"timing": VERSION, "place": "staircase"})


def sweep_widths(full: int, step: int, offset: int = 0) -> list[int]:
    """At most MOST_WIDTHS tensor widths up to offset + full, by `step`: each one while there are few, else by a power
    of two of channels."""
    channels = full // step
    stride = 1
    while channels / stride > MOST_WIDTHS:
        stride *= 2
    counts = [*range(stride, channels, stride), channels]
    return [offset + step * count for count in counts]
