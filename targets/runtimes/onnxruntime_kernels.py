"""Join ONNX Runtime's profile to the tensors of the graph it was given (host side).

The profile names nodes of the optimised graph. There, blocked tensors are called `reorder_token_7`, and a blocked
convolution is named after the tensor it ended in before an Add and an activation were fused into it. What such a token
stands for is told, in this order, by: the ReorderOutput that leads back to a plain tensor; the kernel that makes it; the
kernels that read it. Where none tells, the runtime's name stays.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from targets.errors import BadInput
from targets.feeds import bind
from targets.kernels import Kernel, Shape
from targets.runtimes.onnx_graph import Graph, attributes_of, infer_shapes

BLOCKED_DOMAIN = "com.microsoft.nchwc"
BLOCKED_SUFFIX = "_nchwc"
CAST_PREFIX = "InsertedPrecisionFreeCast_"
LAYOUT_OPS = ("ReorderInput", "ReorderOutput")
FUSED_SUM = 3  # the input of a blocked convolution that is added to its result
FOLDED = "BatchNormalization"  # becomes weights and bias of the convolution before it


def join(
    raw: Sequence[Mapping[str, Any]], graph: Path, source: Path, shapes: Mapping[str, Sequence[int]]
) -> tuple[Kernel, ...]:
    ran = Graph(onnx.load(graph, load_external_data=False))
    given = onnx.load(source, load_external_data=False)
    original = Graph(given)
    true_shapes = infer_shapes(given, shapes)
    names = Names(original, ran)
    materialised = {names.of(output) for node in ran.nodes for output in node.output}
    unnamed = {node.op_type for node in ran.nodes if not node.name}
    kernels = []
    for entry in raw:
        node = ran.by_name.get(entry["name"])
        samples = tuple(int(sample) for sample in entry["samples_ns"])
        seen = tuple(tuple(int(dim) for dim in shape) for shape in entry["output_shapes"])
        if node is None:
            if entry["op"] in unnamed:  # without a name it cannot be joined, but it did take its time
                kernels.append(Kernel(entry["name"], entry["op"], (), (), (), seen, samples, (entry["op"],)))
            continue  # inside a body: its time is in the kernel of the control flow node
        kernels.append(kernel_of(node, samples, seen, names, original, true_shapes, materialised))
    return tuple(kernels)
