"""Staircases: how a kernel's time climbs with one of its widths.

Time over width is a staircase whose steps differ by runtime, precision and device. Many widths of many kernels are
timed in one build, as parallel branches of a small graph. Widths are chosen as they are needed: some far apart, a
dense stretch that shows the grain, then a few where that grain says steps should be, and dense stretches where they
are not.
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
from pipeline.latency.grain import Curve, find_curve
from pipeline.latency.keys import STAIRCASE, in_gauges_of, key_of, observed_in
from pipeline.latency.sites import Site, linear_attributes
from targets.connection import Connection
from targets.kernels import in_gauges
from targets.profiles.key import digest_of
from targets.profiles.store import Profiles, Row

Progress = Callable[[int, int, str], None]

FEW_WIDTHS = 40  # so many or fewer are all measured
DENSE = 36  # widths in a row: two blocks of sixteen with both their ends
DENSE_FROM = 30  # where a block is a good part of the whole: wide kernels hide their stairs in noise
LANDMARKS = (96, 128, 192, 256, 384, 512, 768, 1024, 2048)  # with their upper neighbours: where wider blocks would end
CHECKS = 3  # edges that the grain foretells, each with its upper neighbour
SURPRISE = 0.08  # relative error at a check from which on the stretch around it is looked at closely
MOST_ROUNDS = 3
RUNS = 12
SAME_STAIR = 1.05  # two measured times that differ by less than this factor are the same
MOST_BYTES = 256_000_000  # of weights in one build


@dataclass(frozen=True)
class Sweep:
    """One linear node at many widths of one side ("in", "out" or "both"), the other side at `other`. `per_group`,
    `groups`: what stays of a grouped convolution, which has equal sides here."""

    node: onnx.NodeProto
    input_shape: tuple[int, ...]
    weight_shape: tuple[int, ...]
    side: str
    other: int
    full: int
    per_group: int | None = None
    groups: int | None = None

    @property
    def op(self) -> dict[str, Any]:
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

    @property
    def step(self) -> int:
        """Widths are multiples of it."""
        return self.per_group or self.groups or 1

    def inputs_a_group(self, width: int) -> int:
        """Of a convolution that reads `width` channels."""
        return self.per_group or width // (self.groups or 1)

    def sides(self, width: int) -> tuple[int, int]:
        """Input and output width."""
        return (
            width if self.side in ("in", "both") else self.other,
            width if self.side in ("out", "both") else self.other,
        )

    def weights(self, width: int) -> tuple[int, ...]:
        """The shape of the weights at `width`."""
        source, out = self.sides(width)
        if self.node.op_type == "Conv":
            return (out, self.inputs_a_group(source), *self.weight_shape[2:])
        transposed = any(attribute.name == "transB" and attribute.i for attribute in self.node.attribute)
        return (out, source) if transposed else (source, out)


@dataclass(frozen=True)
class Staircase:
    """Times at widths, ascending, and the widths worth having."""

    op: Mapping[str, Any]
    widths: tuple[int, ...]
    times_ns: tuple[float, ...]
    edges: tuple[int, ...] = ()


def right_edges(widths: Sequence[int], times: Sequence[float], same: float = SAME_STAIR) -> tuple[int, ...]:
    """The widths that no larger edge matches in time; times that differ by less than the factor `same` are the same.
    Compared with edges alone: from one width to the next a wide kernel's time climbs too little to count."""
    edges, cheapest_edge = [], float("inf")
    for width, time in sorted(zip(widths, times, strict=True), reverse=True):
        if cheapest_edge > time * same:
            edges.append(width)
            cheapest_edge = time
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
    other, full = (out, input_shape[1]) if side == "in" else (input_shape[1], out)
    return Sweep(node, input_shape, weight, side, other, full, per_group, groups)


def find_curves(
    sweeps: Mapping[str, Sweep],
    connection: Connection,
    store: Profiles | None,
    session_id: str,
    on_progress: Progress | None = None,
) -> dict[str, Curve]:
    """The curve of every sweep (same names), from as few widths as show its grain."""
    wanted = {name: first_widths(sweep.full, sweep.step) for name, sweep in sweeps.items()}
    times: dict[str, dict[int, float]] = {name: {} for name in sweeps}
    curves: dict[str, Curve] = {}
    for round_ in range(MOST_ROUNDS):
        if on_progress:
            on_progress(round_, MOST_ROUNDS, "looking for the steps of the stairs")
        asked = {name: (sweeps[name], sorted(set(widths) - set(times[name]))) for name, widths in wanted.items()}
        for name, found in measure_sweeps(asked, connection, store, session_id).items():
            times[name].update(found)
        surprised = {
            name: [w for w in wanted[name] if round_ and _surprise(curves[name], w, times[name])] for name in wanted
        }
        curves.update((name, find_curve(times[name])) for name in wanted if times[name])
        if round_ == 0:
            wanted = {name: checks(curves[name], sweeps[name], times[name]) for name in curves}
        else:
            wanted = {name: around(widths, sweeps[name]) for name, widths in surprised.items() if widths}
        wanted = {name: widths for name, widths in wanted.items() if set(widths) - set(times[name])}
        if not wanted:
            break
    return curves


def measure_sweeps(
    asked: Mapping[str, tuple[Sweep, Sequence[int]]],
    connection: Connection,
    store: Profiles | None,
    session_id: str,
) -> dict[str, dict[int, float]]:
    """Times by name and width, in gauges: from the database where they are known, else timed now and recorded."""
    keys = {
        (name, width): key_of(connection, {**sweep.op, "width": width}, STAIRCASE)
        for name, (sweep, widths) in asked.items()
        for width in widths
    }
    known = store.find([key.digest for key in keys.values()]) if store else {}
    found: dict[str, dict[int, float]] = {name: {} for name in asked}
    missing = []
    for (name, width), key in keys.items():
        if rows := known.get(key.digest):
            found[name][width] = float(np.median([in_gauges_of(row) for row in rows]))
        else:
            missing.append((name, width))
    for chunk in _chunks(asked, missing):
        # A session has one gauge: what is timed together is a session of its own.
        session = f"{session_id}-{digest_of({'branches': [keys[branch].digest for branch in chunk]})[:12]}"
        profile = _profile([(asked[name][0], width) for name, width in chunk], connection)
        by_output = {name: kernel for kernel in profile.kernels for name in kernel.outputs if kernel.nodes}
        rows, calm, observed = [], profile.calm, observed_in(profile)
        for index, (name, width) in enumerate(chunk):
            if kernel := by_output.get(f"y{index}"):
                found[name][width] = in_gauges(kernel.samples_ns, profile.gauge_ns, calm)
                rows.append(Row(keys[name, width], tuple(kernel.samples_ns), session, 0, observed))
        if store and rows:
            store.add(rows)
    return found


def first_widths(full: int, step: int) -> list[int]:
    """Where a staircase is looked at first: everywhere when it is short."""
    if full // step <= FEW_WIDTHS:
        return list(range(step, full + 1, step))
    dense = {step * (DENSE_FROM + k) for k in range(DENSE)}
    landmarks = {step * mark for mark in LANDMARKS}
    return sorted(w for w in dense | landmarks | {w + step for w in landmarks} | {full} if w <= full)


def checks(curve: Curve, sweep: Sweep, known: Mapping[int, float]) -> list[int]:
    """Edges that the curve's grain foretells where nothing was measured, each with its upper neighbour."""
    block = math.lcm(curve.grain.block, sweep.step)
    edges = [edge for edge in range(block, sweep.full, block) if edge not in known]
    if curve.grain.block == 1 or not edges:
        return []
    picked = {edges[round((len(edges) - 1) * k / (CHECKS + 1))] for k in range(1, CHECKS + 1)}
    return sorted(w for edge in picked for w in (edge, edge + sweep.step) if w <= sweep.full)


def around(widths: Sequence[int], sweep: Sweep) -> list[int]:
    """A dense stretch around the first of `widths`."""
    low = max(sweep.step, widths[0] - DENSE // 2 * sweep.step)
    return [w for w in range(low, low + DENSE * sweep.step, sweep.step) if w <= sweep.full]


def _surprise(curve: Curve, width: int, times: Mapping[int, float]) -> bool:
    return width in times and abs(curve.at(width) / times[width] - 1) > SURPRISE


def _chunks(asked: Mapping[str, tuple[Sweep, Sequence[int]]], missing: Sequence[tuple[str, int]]) -> list[Any]:
    """As many branches together as their weights allow."""
    chunks: list[list[tuple[str, int]]] = []
    room = 0
    for name, width in missing:
        size = 4 * math.prod(asked[name][0].weights(width))
        if not chunks or size > room:
            chunks.append([])
            room = MOST_BYTES
        chunks[-1].append((name, width))
        room -= size
    return chunks


def _profile(branches: Sequence[tuple[Sweep, int]], connection: Connection) -> Any:
    with tempfile.TemporaryDirectory(prefix="cutback-stairs-") as folder:
        path = Path(folder, "stairs.onnx")
        path.write_bytes(_graph(branches).SerializeToString())
        return connection.profile(path, runs=RUNS, kernels_only=True)


def _graph(branches: Sequence[tuple[Sweep, int]]) -> onnx.ModelProto:
    generator = np.random.default_rng(0)
    nodes, weights, inputs, outputs = [], [], {}, []
    for index, (sweep, width) in enumerate(branches):
        source, out = sweep.sides(width)
        shape = (sweep.input_shape[0], source, *sweep.input_shape[2:])
        name = "x" + "_".join(map(str, shape))
        inputs[name] = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        attributes = {a.name: helper.get_attribute_value(a) for a in sweep.node.attribute if a.name != "group"}
        weight_shape = sweep.weights(width)
        if sweep.node.op_type == "Conv":
            attributes["group"] = source // weight_shape[1]
        weight = generator.standard_normal(weight_shape, np.float32) / np.float32(
            math.sqrt(math.prod(weight_shape[1:]))
        )
        weights += [
            numpy_helper.from_array(weight, f"w{index}"),
            numpy_helper.from_array(np.zeros(out, np.float32), f"b{index}"),
        ]
        names = [name, f"w{index}", f"b{index}"]
        nodes.append(helper.make_node(sweep.node.op_type, names, [f"y{index}"], f"n{index}", **attributes))
        outputs.append(helper.make_tensor_value_info(f"y{index}", TensorProto.FLOAT, None))
    graph = helper.make_graph(nodes, "stairs", list(inputs.values()), outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
