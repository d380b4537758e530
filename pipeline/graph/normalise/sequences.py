"""A tensor cut into a sequence whose parts are taken out by number is a Split."""

import numpy as np
import onnx
from onnx import numpy_helper

from pipeline.graph.editing import Names, add_initialiser, attribute, is_standard, opset, set_nodes
from pipeline.graph.shapes import Shapes, infer_shapes

OPSET_WITH_SPLIT_INPUT = 13
MAX_PARTS = 4096  # a Split names every one of them


def sequences_are_splits(proto: onnx.ModelProto, bound: Shapes) -> None:
    """Only where every reader of the sequence is a SequenceAt with a constant number, and the sizes are known."""
    if opset(proto) < OPSET_WITH_SPLIT_INPUT or not any(is_standard(n, "SplitToSequence") for n in proto.graph.node):
        return
    names, shapes = Names(proto.graph), infer_shapes(proto, bound)
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in proto.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {value.name for value in proto.graph.output}
    gone: set[str] = set()
    for node in proto.graph.node:
        if is_standard(node, "SplitToSequence") and node.output[0] not in outputs:
            sizes, parts = _sizes(node, constants, shapes), readers.get(node.output[0], [])
            picks = [_picked(part, constants) for part in parts]
            if sizes is not None and all(pick is not None and -len(sizes) <= pick < len(sizes) for pick in picks):
                numbers = [int(pick) % len(sizes) for pick in picks if pick is not None]
                if len(set(numbers)) == len(numbers):
                    _write_split(proto, node, names, sizes, dict(zip(numbers, parts, strict=True)))
                    gone.update(part.name for part in parts)
    set_nodes(proto.graph, [node for node in proto.graph.node if node.name not in gone])


def _sizes(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto], shapes: Shapes) -> list[int] | None:
    """The length of every part along the axis; None where it is not known, or where the parts lose the axis."""
    if len(node.input) < 2 or node.input[1] not in constants or node.input[0] not in shapes:
        return None
    split, shape = numpy_helper.to_array(constants[node.input[1]]), shapes[node.input[0]]
    entry = attribute(node, "axis")
    axis = entry.i if entry else 0
    if not -len(shape) <= axis < len(shape) or split.ndim > 1 or not np.all(split > 0):
        return None
    whole = shape[axis]
    if split.ndim == 1:
        return [int(size) for size in split] if split.sum() == whole else None
    size = int(split)
    if whole > MAX_PARTS * size:
        return None
    return [min(size, whole - start) for start in range(0, whole, size)]


def _picked(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> int | None:
    if not is_standard(node, "SequenceAt") or node.input[1] not in constants:
        return None
    return int(numpy_helper.to_array(constants[node.input[1]]))


def _write_split(
    proto: onnx.ModelProto, node: onnx.NodeProto, names: Names, sizes: list[int], parts: dict[int, onnx.NodeProto]
) -> None:
    """Parts that nobody takes still have to be named."""
    unread = node.output[0]
    node.op_type = "Split"
    node.input[1] = add_initialiser(proto.graph, names, f"{node.name}:split", np.asarray(sizes, np.int64))
    taken = {number: part.output[0] for number, part in parts.items()}
    made = [taken.get(number) or names.fresh(f"{unread}:{number}") for number in range(len(sizes))]
    del node.output[:]
    node.output.extend(made)
    kept = [entry for entry in node.attribute if entry.name != "keepdims"]
    del node.attribute[:]
    node.attribute.extend(kept)
