"""Small networks with their coupled channels written down by hand."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from calibration.batches import Batch
from pipeline.graph.channels import AxisSlice, ChannelGroup, Read

Array = NDArray[Any]


def model(
    nodes: Sequence[onnx.NodeProto], shape: Sequence[int | str], initialisers: Mapping[str, Array]
) -> onnx.ModelProto:
    """Input `x` of this shape, output `y`; a node is named after its first output."""
    for node in nodes:
        node.name = node.output[0]
    made = helper.make_model(
        helper.make_graph(
            nodes,
            "small",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [onnx.ValueInfoProto(name="y")],
            [numpy_helper.from_array(array, name) for name, array in initialisers.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    inferred = onnx.shape_inference.infer_shapes(made)
    onnx.checker.check_model(inferred)
    return inferred


def floats(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def group(
    name: str,
    channels: int,
    slices: Sequence[tuple[str, int, str]],
    reads: Sequence[tuple[str, int, int]] = (),
    *,
    repeats: int = 1,
    locked: str | None = None,
) -> ChannelGroup:
    """slices: (tensor, axis, role); reads: (node, axis, indices per channel). Channels lie in order."""
    plain = np.arange(channels)
    return ChannelGroup(
        id=name,
        width=channels * repeats,
        step=repeats,
        slices=tuple(AxisSlice(tensor, axis, np.repeat(plain, repeats), role) for tensor, axis, role in slices),  # type: ignore[arg-type]
        reads=tuple(Read(node, 0, name, axis, np.repeat(plain, count)) for node, axis, count in reads),
        locked_because=locked,
    )


def classifier(*, normed: bool = True, last: str = "") -> tuple[onnx.ModelProto, tuple[ChannelGroup, ...]]:
    """Conv(4), batch-norm, Relu, Conv(6) read by a Gemm over its flattened 3x3 output: two groups."""
    weights = {
        "w0": floats(4, 2, 3, 3), "b0": floats(4, seed=1), "w1": floats(6, 4, 3, 3, seed=2), "b1": floats(6, seed=3),
        "g": floats(4, seed=4), "b": floats(4, seed=5), "m": floats(4, seed=6), "v": np.abs(floats(4, seed=7)) + 0.5,
        "w2": floats(54, 3, seed=8) / 30, "b2": floats(3, seed=9),
    }  # fmt: skip
    used = set(weights) if normed else set(weights) - {"g", "b", "m", "v"}
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], pads=[1, 1, 1, 1]),
        *([helper.make_node("BatchNormalization", ["c0", "g", "b", "m", "v"], ["n0"])] if normed else []),
        helper.make_node("Relu", ["n0" if normed else "c0"], ["r0"]),
        helper.make_node("Conv", ["r0", "w1", "b1"], ["c1"]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Flatten", ["r1"], ["f"]),
        helper.make_node("Gemm", ["f", "w2", "b2"], ["z" if last else "y"]),
        *([helper.make_node(last, ["z"], ["y"], axis=1)] if last else []),
    ]
    rides = [(name, 0, "rides") for name in "gbmv"] if normed else []
    groups = (
        group("c0", 4, [("w0", 0, "makes"), ("b0", 0, "makes"), *rides, ("w1", 1, "reads")], [("c1", 1, 1)]),
        group("c1", 6, [("w1", 0, "makes"), ("b1", 0, "makes")], [("z" if last else "y", 1, 9)]),
    )
    return model(nodes, ("N", 2, 5, 5), {name: weights[name] for name in weights if name in used}), groups


def batches(*sizes: int, labels: bool = True) -> list[Batch]:
    """Batches of these sizes for `classifier`."""
    made = []
    for seed, size in enumerate(sizes):
        own = np.random.default_rng(seed).integers(0, 3, size) if labels else None
        made.append(Batch({"x": floats(size, 2, 5, 5, seed=seed)}, own))
    return made
