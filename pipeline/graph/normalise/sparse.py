"""Sparse constants are written out: every stage after this one knows weights by index."""

import math
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from pipeline.graph.editing import attribute, is_standard
from pipeline.graph.shapes import Shapes
from targets.errors import BadInput

MAX_DENSE_ELEMENTS = 2**26  # a few bytes may claim any shape


def sparse_constants_are_dense(proto: onnx.ModelProto, bound: Shapes) -> None:
    """Raises BadInput for one whose indices lie outside its shape, or which is too large to write out."""
    graph = proto.graph
    graph.initializer.extend(_dense(sparse, sparse.values.name) for sparse in graph.sparse_initializer)
    del graph.sparse_initializer[:]
    for node in graph.node:
        entry = attribute(node, "sparse_value") if is_standard(node, "Constant") else None
        if entry is not None:
            tensor = _dense(entry.sparse_tensor, node.output[0])
            del node.attribute[:]
            node.attribute.append(onnx.helper.make_attribute("value", tensor))


def _dense(sparse: onnx.SparseTensorProto, name: str) -> onnx.TensorProto:
    elements = math.prod(sparse.dims)
    if min(sparse.dims, default=1) < 0 or elements > MAX_DENSE_ELEMENTS:
        raise BadInput(f"The sparse tensor {name!r} of shape {list(sparse.dims)} is too large to be written out.")
    values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    if indices.ndim == 2 and indices.shape[1] == len(sparse.dims) and _inside(indices, np.asarray(sparse.dims)):
        flat = np.ravel_multi_index(tuple(indices.T), tuple(sparse.dims)) if indices.size else indices.reshape(-1)
    elif indices.ndim == 1 and _inside(indices, np.asarray(elements)):
        flat = indices
    else:
        raise BadInput(f"The sparse tensor {name!r} has indices outside its shape {list(sparse.dims)}.")
    if values.shape != flat.shape:
        raise BadInput(f"The sparse tensor {name!r} has {values.size} values at {flat.size} indices.")
    dense = np.zeros(elements, values.dtype)
    dense[flat] = values
    return numpy_helper.from_array(dense.reshape(tuple(sparse.dims)), name)


def _inside(indices: NDArray[Any], sizes: NDArray[Any]) -> bool:
    return bool(np.issubdtype(indices.dtype, np.integer) and np.all(indices >= 0) and np.all(indices < sizes))
