"""Kernels alone: a linear node at many widths of one side, many such branches in one small graph."""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pipeline.graph.model import Model
from pipeline.latency.sites import Site, linear_attributes
from targets.connection import Connection
from targets.kernels import Profile

RUNS = 12


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


def profile_branches(branches: Sequence[tuple[Sweep, int]], connection: Connection) -> Profile:
    """Every sweep at its width, as parallel branches; branch i makes the tensor `y{i}`."""
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
