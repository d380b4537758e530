"""A kernel by itself, end to end: between two narrow ones, so that a graph's own edges are the same at every width.

Where a graph begins and ends, runtimes change layouts and pad, at a price that depends on the width there and that no
kernel inside of a network pays. A narrow pointwise kernel on every side that is swept keeps the edges as they are.
"""

import math
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pipeline.latency.alone import RUNS, Sweep
from targets.connection import Connection
from targets.kernels import Profile

EDGE = 16  # channels: few against the kernel's own, and wide enough for every vector


def profile_between(sweep: Sweep, width: int, copies: int, connection: Connection) -> Profile:
    """The sweep's kernel at `width`, `copies` times over with other weights, as one network, end to end."""
    with tempfile.TemporaryDirectory(prefix="cutback-stairs-") as folder:
        path = Path(folder, "width.onnx")
        path.write_bytes(between(sweep, width, copies).SerializeToString())
        return connection.profile(path, runs=RUNS)


def between(sweep: Sweep, width: int, copies: int) -> onnx.ModelProto:
    """From `x` to `y0`, `y1`, ...: branches of [pointwise,] kernel [, pointwise]."""
    generator = np.random.default_rng(0)
    convolution = sweep.node.op_type == "Conv"
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def add(name: str, source: str, target: str, shape: tuple[int, ...], like: onnx.NodeProto | None, out: int) -> None:
        attributes = (
            {a.name: helper.get_attribute_value(a) for a in like.attribute if a.name != "group"} if like else {}
        )
        if like is not None and convolution:
            attributes["group"] = sweep.sides(width)[0] // shape[1]
        if like is None and not convolution:
            attributes["transB"] = 1
        values = generator.standard_normal(shape, np.float32) / np.float32(math.sqrt(math.prod(shape[1:])))
        weights.extend(
            (
                numpy_helper.from_array(values, f"{name}.w"),
                numpy_helper.from_array(np.zeros(out, np.float32), f"{name}.b"),
            )
        )
        inputs = [source, f"{name}.w", f"{name}.b"]
        nodes.append(helper.make_node(sweep.node.op_type, inputs, [target], name, **attributes))

    source, out = sweep.sides(width)
    point = (1,) * (len(sweep.weight_shape) - 2)
    before, behind = sweep.side in ("in", "both"), sweep.side in ("out", "both")
    for copy in range(copies):
        now = "x"
        if before:
            add(f"before{copy}", now, f"before{copy}", (source, EDGE, *point), None, source)
            now = f"before{copy}"
        end = f"kernel{copy}" if behind else f"y{copy}"
        add(f"kernel{copy}", now, end, sweep.weights(width), sweep.node, out)
        if behind:
            add(f"behind{copy}", end, f"y{copy}", (EDGE, out, *point), None, EDGE)
    shape = (sweep.input_shape[0], EDGE if before else source, *sweep.input_shape[2:])
    graph = helper.make_graph(
        nodes,
        "width",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(f"y{copy}", TensorProto.FLOAT, None) for copy in range(copies)],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
