"""Two bindings of the free dimensions: what comes out the same under both does not depend on them."""

import onnx

from pipeline.graph.shapes import Shapes, contradicts


def bindings(proto: onnx.ModelProto, bound: Shapes) -> list[Shapes]:
    """`bound`, and a second binding with every free dimension at another size.

    Where the graph contradicts itself at the second one, the dimension is free by name only: then the batch alone
    changes, or nothing.
    """
    found: list[Shapes] = [bound]
    for batch_only in (False, True):
        other = _other_binding(proto, bound, batch_only=batch_only)
        if other != dict(bound) and not contradicts(proto, other):
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
