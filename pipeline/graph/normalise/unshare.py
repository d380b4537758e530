"""One reader for every initialiser.

Two readers of one tensor would have to be cut alike, and exporters share equal tensors that have nothing in common.
"""

from collections import Counter

import onnx

from pipeline.graph.editing import Names
from pipeline.graph.shapes import Shapes
from pipeline.graph.tensors import stored_bytes
from targets.errors import BadInput

# All copies together, beyond what the file holds: networks share a few tensors, not a large one a thousand times.
MAX_COPIED_BYTES = 2**30


def initialisers_are_unshared(proto: onnx.ModelProto, bound: Shapes) -> None:
    values = {tensor.name: tensor for tensor in proto.graph.initializer}
    names = Names(proto.graph)
    seen: Counter[str] = Counter()
    budget_bytes = MAX_COPIED_BYTES + sum(stored_bytes(tensor) for tensor in values.values())
    for node in proto.graph.node:
        for position, name in enumerate(node.input):
            if name not in values:
                continue
            seen[name] += 1
            if seen[name] > 1:
                budget_bytes -= stored_bytes(values[name])
                if budget_bytes < 0:
                    raise BadInput(f"Tensor {name!r} is read so often that a copy for each reader fits no memory.")
                own = proto.graph.initializer.add()
                own.CopyFrom(values[name])
                own.name = names.fresh(f"{name}#{seen[name]}")
                node.input[position] = own.name
