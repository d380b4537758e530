"""Shape arithmetic becomes constants wherever it does not hang on a free dimension."""

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from pipeline.graph.editing import Names, add_initialiser, is_standard
from pipeline.graph.evaluate import Value
from pipeline.graph.normalise.batch import zeros_copy
from pipeline.graph.normalise.bindings import bindings
from pipeline.graph.shapes import Shapes, infer_shapes, size_values


def sizes_are_constants(proto: onnx.ModelProto, bound: Shapes) -> None:
    """Follow shape arithmetic at two bindings of the free dimensions; what comes out equal twice is a constant.

    A Reshape target that differs in one place only becomes a constant with 0 (copied) or -1 (inferred) there.
    """
    if not any(is_standard(node, "Shape", "Size") for node in proto.graph.node):
        return
    runs = [infer_shapes(proto, binding) for binding in bindings(proto, bound)]
    settled = _equal([size_values(proto, shapes) for shapes in runs])
    constant = {tensor.name for tensor in proto.graph.initializer}
    names = Names(proto.graph)
    for node in proto.graph.node:
        if all(name in settled for name in node.output):
            continue  # nobody reads it any more
        for position, name in enumerate(node.input):
            if name in settled:
                node.input[position] = add_initialiser(proto.graph, names, f"{node.name}:{position}", settled[name])
        if is_standard(node, "Reshape") and node.input[1] not in constant and node.input[1] not in settled:
            target = _reshape_target(node, runs)
            if target is not None:
                node.input[1] = add_initialiser(proto.graph, names, f"{node.name}:1", target)


def _equal(runs: Sequence[dict[str, Value]]) -> dict[str, Value]:
    first, *others = runs
    return {
        name: value
        for name, value in first.items()
        if all(name in other and np.array_equal(value, other[name]) for other in others)
    }


def _reshape_target(node: onnx.NodeProto, runs: Sequence[Shapes]) -> NDArray[np.int64] | None:
    if any(node.output[0] not in shapes or node.input[0] not in shapes for shapes in runs):
        return None
    made, read = ([shapes[name] for shapes in runs] for name in (node.output[0], node.input[0]))
    if len({len(shape) for shape in made}) > 1:
        return None
    target = []
    for axis, sizes in enumerate(zip(*made, strict=True)):
        copied = all(axis < len(source) and source[axis] == size for source, size in zip(read, sizes, strict=True))
        target.append(sizes[0] if len(set(sizes)) == 1 else 0 if copied else -1)
    if target.count(-1) > 1 or not zeros_copy(node, np.ones(1)):
        return None
    return np.asarray(target, np.int64)
