"""Join ncnn's layers to the tensors of the graph they were converted from (host side).

Its converter keeps no names, but the order: of each kind of operator that it neither makes up nor leaves out, the first
layer is the first node, and so on. Where the numbers of the two differ, or their channels, nothing is guessed.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from targets.errors import TargetError
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
OUTPUTS = "0"  # the number of the parameter that holds output channels


def join(
    raw: Sequence[Mapping[str, Any]], graph: Path, source: Path, shapes: Mapping[str, Sequence[int]]
) -> tuple[Kernel, ...]:
    """`raw` layers and what `ncnn.layers_of` told of them -> kernels in the same order."""
    layers = json.loads(graph.read_text(encoding="utf-8"))
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
            own = [layer for layer in layers if layer["type"] in kinds]
            nodes = [node for node in given.nodes if kind_of(node) in operators and node.output[0] in given.varying]
            fits = len(own) == len(nodes) and all(map(same_channels, own, nodes, [given] * len(own)))
            if table is WEIGHTED and not fits:
                raise TargetError(
                    f"{name}: ncnn runs {len(own)} layers {' / '.join(kinds)} for {len(nodes)} nodes "
                    f"{' / '.join(operators)}, and which is which cannot be told. Profile it on another runtime."
                )
            if fits:
                claims |= {layer["name"]: (node.output[0],) for layer, node in zip(own, nodes, strict=True)}
    return claims


def kind_of(node: onnx.NodeProto) -> str:
    grouped = node.op_type == "Conv" and attributes_of(node).get("group", 1) > 1
    return "grouped Conv" if grouped else str(node.op_type)


def same_channels(layer: Mapping[str, Any], node: onnx.NodeProto, given: Graph) -> bool:
    """Whether both give as many channels, where both say."""
    weight = given.constants.get(node.input[1]) if len(node.input) > 1 else None
    if kind_of(node) not in ("Conv", "grouped Conv") or weight is None or OUTPUTS not in layer["parameters"]:
        return True
    same: bool = int(layer["parameters"][OUTPUTS]) == weight[0]
    return same
