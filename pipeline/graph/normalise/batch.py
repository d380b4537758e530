"""A graph exported at batch 1 runs on any batch once no Reshape insists on the 1."""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from pipeline.graph.editing import Names, add_initialiser, attribute, is_standard
from pipeline.graph.shapes import Shapes, infer_shapes


def reshapes_carry_the_batch(proto: onnx.ModelProto, bound: Shapes) -> None:
    """A leading 1 in a Reshape target whose input also leads with 1 means "as many": written as 0, any batch fits."""
    values = {tensor.name: tensor for tensor in proto.graph.initializer}
    shapes, names = infer_shapes(proto, bound), Names(proto.graph)
    for node in proto.graph.node:
        target = values.get(node.input[1]) if is_standard(node, "Reshape") and len(node.input) > 1 else None
        if target is None:
            continue
        sizes = numpy_helper.to_array(target).copy()
        if sizes.ndim != 1:
            continue  # no target that a runtime takes
        if len(sizes) > 1 and sizes[0] == 1 and shapes.get(node.input[0], (0,))[:1] == (1,) and zeros_copy(node, sizes):
            sizes[0] = 0
            node.input[1] = add_initialiser(proto.graph, names, f"{node.name}:batch", sizes)


def zeros_copy(node: onnx.NodeProto, target: NDArray[np.generic]) -> bool:
    """Whether a 0 in the Reshape's target means "as long as in the input"; an `allowzero` without use is dropped."""
    entry = attribute(node, "allowzero")
    if entry is not None and entry.i:
        if not target.all():
            return False
        node.attribute.remove(entry)
    return True
