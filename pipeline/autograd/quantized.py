"""Where quantised values may stay floats, so that gradients pass straight through the rounding.

A graph that quantises and dequantises (QDQ) simulates integers: between the two stand only operators that move or
select. There the values are kept as floats that hold whole numbers. Where anything else reads them, they are integers,
and no gradient passes.
"""

import onnx

# They give back entries of their inputs as they are.
MOVERS = frozenset(
    {
        "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Reshape", "Slice",
        "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
    }
)  # fmt: skip
QUANTIZED = "QuantizeLinear"
DEQUANTIZED = "DequantizeLinear"


def carried_outputs(graph: onnx.GraphProto) -> frozenset[str]:
    """Outputs of QuantizeLinear, and of movers behind it, that only DequantizeLinear reads in the end."""
    if not any(node.op_type == QUANTIZED for node in graph.node):
        return frozenset()
    inner = {name for node in graph.node for name in _inner_reads(node)}
    outside = {output.name for output in graph.output} | inner
    makers = {name: node for node in graph.node for name in node.output if name}
    free: set[str] = {name for name, node in makers.items() if node.op_type in MOVERS | {QUANTIZED}} - outside
    while True:
        bound = {name for node in graph.node for name in node.input if name in free and not _lets_through(node, free)}
        bound |= {name for name in free if not _comes_from(makers[name], free)}
        if not bound:
            return frozenset(free)
        free -= bound


def _lets_through(reader: onnx.NodeProto, free: set[str]) -> bool:
    """Whether what it reads may be a float: a dequantiser, or a mover whose own outputs may be."""
    if reader.op_type == DEQUANTIZED:
        return True
    return reader.op_type in MOVERS and all(name in free for name in reader.output if name)


def _comes_from(maker: onnx.NodeProto, free: set[str]) -> bool:
    """Whether it is a quantiser, or moves values that may be floats."""
    if maker.op_type == QUANTIZED:
        return True
    moved = maker.input if maker.op_type == "Concat" else maker.input[:1]
    return all(name in free for name in moved)


def _inner_reads(node: onnx.NodeProto) -> set[str]:
    names: set[str] = set()
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            for inside in attribute.g.node:
                names |= {*inside.input, *_inner_reads(inside)}
            names |= {output.name for output in attribute.g.output}
    return names
