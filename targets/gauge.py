"""The gauge: a small network, the same for every profile, whose time tells how fast a device was just then (host side).

Its kernels are of the kinds that fill convolutional networks: two 3x3 convolutions whose data fit the caches of a core,
a pointwise one that moves more memory than it computes, and an addition. About a millisecond on a server's core.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 28
NARROW, WIDE = 64, 256
WEIGHTS = {"first": (NARROW, NARROW, 3, 3), "second": (NARROW, NARROW, 3, 3), "third": (WIDE, NARROW, 1, 1)}


def write_gauge(path: Path) -> Path:
    """The network as ONNX (opset 13), from seeded weights; the same bytes every time."""
    generator = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(
            (generator.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32), name
        )
        for name, shape in WEIGHTS.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["a"], "a", pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"], "b"),
        helper.make_node("Conv", ["b", "second"], ["c"], "c", pads=[1] * 4),
        helper.make_node("Add", ["c", "x"], ["d"], "d"),
        helper.make_node("Conv", ["d", "third"], ["y"], "y"),
    ]
    shape = [1, NARROW, SIDE, SIDE]
    graph = helper.make_graph(
        nodes,
        "gauge",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, WIDE, SIDE, SIDE])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7, producer_name="cutback")
    onnx.save(model, path)
    return path
