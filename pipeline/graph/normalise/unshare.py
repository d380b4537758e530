"""One reader for every initialiser.

Two readers of one tensor would have to be cut alike, and exporters share equal tensors that have nothing in common.
"""

from collections import Counter

import onnx

from pipeline.graph.editing import Names
from pipeline.graph.shapes import Shapes


def initialisers_are_unshared(proto: onnx.ModelProto, bound: Shapes) -> None:
    values = {tensor.name: tensor for tensor in proto.graph.initializer}
    names = Names(proto.graph)
    seen: Counter[str] = Counter()
    for node in proto.graph.node:
        for position, name in enumerate(node.input):
            if name not in values:
                continue
            seen[name] += 1
            if seen[name] > 1:
                own = proto.graph.initializer.add()
                own.CopyFrom(values[name])
                own.name = names.fresh(f"{name}#{seen[name]}")
                node.input[position] = own.name
