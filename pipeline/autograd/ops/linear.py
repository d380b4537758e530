"""Matrix products: Gemm, MatMul, Einsum, and the determinant."""

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.autograd.node import Node, Operation, Rule


def build_gemm(node: Node) -> Operation:
    alpha, beta = node.attributes.get("alpha", 1.0), node.attributes.get("beta", 1.0)
    trans_a, trans_b = node.attributes.get("transA", 0), node.attributes.get("transB", 0)
    node.attributes.get("broadcast")  # before opset 7; what is broadcast is the same

    def apply(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        a = a.t() if trans_a else a
        if alpha == 1.0 and beta == 1.0 and (c is None or c.dim() == 1):
            return F.linear(a, b if trans_b else b.t(), c)
        product = torch.matmul(a, b.t() if trans_b else b)
        product = product if alpha == 1.0 else alpha * product
        if c is None:
            return product
        return product + (c if beta == 1.0 else beta * c)

    return apply


def _einsum(node: Node) -> Operation:
    equation = node.attributes.get("equation").replace(" ", "")
    return lambda *operands: torch.einsum(equation, *operands)


RULES: dict[str, Rule] = {
    "Det": Rule(lambda node: torch.linalg.det),
    "Einsum": Rule(_einsum),
    "Gemm": Rule(build_gemm),
    "MatMul": Rule(lambda node: torch.matmul),
}
