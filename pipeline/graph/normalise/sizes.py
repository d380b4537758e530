"""Shape arithmetic becomes constants wherever it does not hang on a free dimension."""

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from pipeline.graph.editing import Names, add_initialiser, is_standard
from pipeline.graph.evaluate import Value
from pipeline.graph.normalise.batch import zeros_copy
from pipeline.graph.shapes import Shapes, contradiction, infer_shapes, size_values


def sizes_are_constants(proto: onnx.ModelProto, bound: Shapes) -> None:
    """Follow shape arithmetic at two bindings of the free dimensions; what comes out equal twice is a constant.

    A Reshape target that differs in one place only becomes a constant with 0 (copied) or -1 (inferred) there.
    """
    if not any(is_standard(node, "Shape", "Size") for node in proto.graph.node):
        return
    runs = [infer_shapes(proto, binding) for binding in _bindings(proto, bound)]
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


def _bindings(proto: onnx.ModelProto, bound: Shapes) -> list[Shapes]:
    """`bound`, and a second binding with every free dimension at another size.

    Where the graph contradicts itself at the second one, the dimension is free by name only: then the batch alone
    changes, or nothing.
    """
    found: list[Shapes] = [bound]
    for batch_only in (False, True):
        other = _other_binding(proto, bound, batch_only=batch_only)
        if other != dict(bound) and contradiction(proto, other) is None:
            return [bound, other]
    return found


def _other_binding(proto: onnx.ModelProto, bound: Shapes, *, batch_only: bool) -> dict[str, tuple[int, ...]]:
    """Equal names stay equal, since all batches grow by one and everything else doubles."""
    other = {}
    for value in proto.graph.input:
        dims = value.type.tensor_type.shape.dim
        sizes = bound.get(value.name, ())
        other[value.name] = tuple(
            size if dim.dim_value > 0 else size + 1 if axis == 0 else size if batch_only else size * 2
            for axis, (dim, size) in enumerate(zip(dims, sizes, strict=True))
        )
    return other
