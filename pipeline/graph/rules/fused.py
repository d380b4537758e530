"""ONNX Runtime's own operators, which it writes into the models that it has optimised."""

from collections.abc import Callable

from pipeline.graph.labels import Labelling
from pipeline.graph.rules.elementwise import pass_on, unite
from pipeline.graph.rules.linear import fused_conv, gemm, matmul
from pipeline.graph.rules.node import Node, Outputs, refuse

TRANSPOSING = ("transA", "transB", "transBatchA", "transBatchB")


def fused_matmul(node: Node, run: Labelling) -> Outputs:
    """A product and a scale; one that transposes is not followed, since its shape is not known."""
    if any(node.attributes.get(name, 0) for name in TRANSPOSING):
        return refuse(node, run, "transposes what it multiplies: not followed yet")
    return matmul(node, run)


MICROSOFT_RULES: dict[str, Callable[[Node, Labelling], Outputs]] = {
    "BiasGelu": unite,
    "FastGelu": unite,
    "FusedConv": fused_conv,
    "FusedGemm": gemm,
    "FusedMatMul": fused_matmul,
    "Gelu": pass_on,
    "QuickGelu": pass_on,
}
