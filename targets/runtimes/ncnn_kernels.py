"""Join ncnn's layers to the tensors of the graph they were converted from (host side).

Its converter keeps no names. Convolutions are told by their weights, and among equal ones by their order; other kinds
of operators that it neither makes up nor leaves out by their order alone. Where the numbers of the two differ, nothing
is guessed.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import onnx

from targets.errors import TargetError
from targets.foreign_json import parsed
from targets.kernels import Kernel
from targets.runtimes.join_by_names import Ran, join_by_names
from targets.runtimes.onnx_graph import Graph, attributes_of

# ncnn's kinds of layers -> ONNX operators. The first of these have weights and have to be found; of the others, what
# was fused is not among the layers, and then the numbers differ.
WEIGHTED: Mapping[tuple[str, ...], tuple[str, ...]] = {
    ("Convolution",): ("Conv",),
    ("ConvolutionDepthWise",): ("grouped Conv",),
    ("Deconvolution", "DeconvolutionDepthWise"): ("ConvTranspose",),
    ("InnerProduct",): ("Gemm",),
}
OTHERS: Mapping[tuple[str, ...], tuple[str, ...]] = {
    ("Pooling",): ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"),
    ("BinaryOp", "Eltwise"): ("Add", "Sub", "Mul", "Div"),
    ("Concat",): ("Concat",),
    ("Softmax",): ("Softmax",),
    ("Interp",): ("Resize", "Upsample"),
    ("ReLU",): ("Relu", "LeakyRelu"),
    ("Clip",): ("Clip",),
    ("Sigmoid",): ("Sigmoid",),
    ("HardSwish",): ("HardSwish",),
    ("HardSigmoid",): ("HardSigmoid",),
    ("Swish",): ("Swish",),
}
OUTPUTS, WEIGHTS = "0", "6"  # the numbers of a convolution's parameters: output channels, and how many weights
Item = TypeVar("Item")


def join(
    raw: Sequence[Mapping[str, Any]], graph: Path, source: Path, shapes: Mapping[str, Sequence[int]]
) -> tuple[Kernel, ...]:
    """`raw` layers and what `ncnn.layers_of` told of them -> kernels in the same order."""
    layers = parsed(graph.read_bytes())
    given = Graph(onnx.load(source, load_external_data=False))
    claims = paired(layers, given, source.name)
    makers = {tensor: layer["name"] for layer in layers for tensor in layer["makes"]}
    ran = [
        Ran(
            name=layer["name"],
            op=layer["type"],
            samples_ns=tuple(entry["samples_ns"]),
            claims=claims.get(layer["name"], ()),
            feeds_from=tuple(makers[tensor] for tensor in layer["reads"] if tensor in makers),
        )
        for layer, entry in zip(layers, raw, strict=True)
    ]
    return join_by_names(ran, source, shapes)


def paired(layers: Sequence[Mapping[str, Any]], given: Graph, name: str) -> dict[str, tuple[str, ...]]:
    """A layer's name -> the output of its node."""
    claims: dict[str, tuple[str, ...]] = {}
    for table in (WEIGHTED, OTHERS):
        for kinds, operators in table.items():
            own = sorted_out([layer for layer in layers if layer["type"] in kinds], signature_of_layer)
            nodes = [node for node in given.nodes if kind_of(node) in operators and node.output[0] in given.varying]
            theirs = sorted_out(nodes, lambda node: signature_of_node(node, given))
            fits = {each: len(found) for each, found in own.items()} == {e: len(f) for e, f in theirs.items()}
            if table is WEIGHTED and not fits:
                raise TargetError(
                    f"{name}: which layer {' / '.join(kinds)} of ncnn is which node {' / '.join(operators)} cannot be "
                    "told: their numbers or their weights differ. Profile it on another runtime."
                )
            if fits:
                for signature, found in own.items():
                    pairs = zip(found, theirs[signature], strict=True)
                    claims |= {layer["name"]: (node.output[0],) for layer, node in pairs}
    return claims


def sorted_out(items: Sequence[Item], signature: Callable[[Item], Hashable]) -> dict[Hashable, list[Item]]:
    """By signature, in order."""
    found: dict[Hashable, list[Item]] = {}
    for item in items:
        found.setdefault(signature(item), []).append(item)
    return found


def signature_of_layer(layer: Mapping[str, Any]) -> Hashable:
    """(output channels, weights) of a convolution; nothing of others."""
    if layer["type"] not in ("Convolution", "ConvolutionDepthWise"):
        return ()
    return int(layer["parameters"][OUTPUTS]), int(layer["parameters"][WEIGHTS])


def signature_of_node(node: onnx.NodeProto, given: Graph) -> Hashable:
    weight = given.constants.get(node.input[1], ()) if len(node.input) > 1 else ()
    return (weight[0], math.prod(weight)) if node.op_type == "Conv" and weight else ()


def kind_of(node: onnx.NodeProto) -> str:
    grouped = node.op_type == "Conv" and attributes_of(node).get("group", 1) > 1
    return "grouped Conv" if grouped else str(node.op_type)
