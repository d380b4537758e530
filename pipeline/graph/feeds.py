"""Random inputs for a graph."""

import numpy as np
import onnx
from numpy.typing import NDArray

from pipeline.graph.shapes import Shapes

Feeds = dict[str, NDArray[np.generic]]


def draw(proto: onnx.ModelProto, bound: Shapes, seed: int, *, scale: float = 1.0) -> Feeds:
    """Normal floats of the given scale, bytes over their whole range, small integers, coin tosses; shapes as bound."""
    generator = np.random.default_rng(seed)
    constant = {tensor.name for tensor in proto.graph.initializer}
    feeds: Feeds = {}
    for value in proto.graph.input:
        if value.name in constant:
            continue
        shape = bound[value.name]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type or onnx.TensorProto.FLOAT)
        if np.issubdtype(dtype, np.floating):
            feeds[value.name] = np.asarray(scale * generator.standard_normal(shape)).astype(dtype)
        elif dtype in (np.uint8, np.int8):
            feeds[value.name] = np.asarray(generator.integers(0, 256, shape)).astype(np.uint8).view(dtype)
        else:
            feeds[value.name] = np.asarray(generator.integers(0, 2, shape)).astype(dtype)
    return feeds
