"""What a node says about sizes, read the same way for activations and for shape arithmetic.

Several ops moved their axes and bounds from attributes to inputs at some opset; these functions know when.
"""

from collections.abc import Sequence

import torch

from pipeline.autograd.dtypes import TORCH_TYPES
from pipeline.autograd.node import Node
from pipeline.autograd.sizes import Sizes


def axes_of(node: Node, given: Sizes | None, inputs_from: int) -> tuple[int, ...] | None:
    """Axes, `given` as an input since opset `inputs_from`, an attribute before. None: not given."""
    if node.opset < inputs_from:
        attribute = node.attributes.get("axes")
        return None if attribute is None else tuple(attribute)
    return None if given is None else given.ints


def slice_bounds(node: Node, given: Sequence[Sizes | None]) -> list[tuple[int, int, int, int]]:
    """Slice's (axis, start, end, step) for each axis it cuts, from attributes (before opset 10) or inputs."""
    read: list[tuple[int, ...] | None]
    if node.opset < 10:
        read = [node.attributes.get("starts"), node.attributes.get("ends"), node.attributes.get("axes"), None]
    else:
        read = [None if entry is None else entry.ints for entry in (*given, *[None] * (4 - len(given)))]
    starts, ends = tuple(read[0] or ()), tuple(read[1] or ())
    axes = tuple(range(len(starts))) if read[2] is None else tuple(read[2])
    steps = (1,) * len(starts) if read[3] is None else tuple(read[3])
    return list(zip(axes, starts, ends, steps, strict=True))


def target_shape(shape: Sequence[int], target: Sequence[int], *, allow_zero: bool) -> list[int]:
    """Reshape's target with 0 replaced by the input's own size (unless `allow_zero`); -1 stays."""
    return [shape[axis] if not allow_zero and size == 0 else size for axis, size in enumerate(target)]


def split_lengths(size: int, outputs: int) -> list[int]:
    """Split without lengths: equal pieces, the last one shorter (ONNX, opset 18)."""
    piece = -(-size // outputs)
    return [piece] * (outputs - 1) + [size - piece * (outputs - 1)]


def cast_target(node: Node) -> torch.dtype:
    """Cast's target type; refused where torch does not compute with it."""
    number = node.attributes.get("to")
    node.attributes.get("saturate")  # concerns float8 only
    node.attributes.get("round_mode")  # concerns float8 only
    if number not in TORCH_TYPES:
        raise node.refusal(f"element type {number} of the ONNX enumeration has no torch type to compute with")
    return TORCH_TYPES[number]
