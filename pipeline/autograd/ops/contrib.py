"""ONNX Runtime's own operators (domain com.microsoft): what it fuses, and what converters write."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.autograd.node import Node, Operation, Rule
from pipeline.autograd.ops.attention import merge_heads, split_heads
from pipeline.autograd.ops.conv import build_convolution
from pipeline.autograd.ops.linear import build_gemm

Activation = Callable[[Tensor], Tensor]


def _with_activation(node: Node, function: Operation) -> Operation:
    """The operation, then the activation that the node names (Conv and Gemm carry one)."""
    name = node.attributes.get("activation", "")
    alpha, beta = node.attributes.get("activation_alpha", 0.01), node.attributes.get("activation_beta", 0.0)
    first, *more = node.attributes.get("activation_params") or (alpha, beta)
    last = more[0] if more else beta
    functions: dict[str, Activation] = {
        "": lambda x: x,
        "Clip": lambda x: torch.clamp(x, first, last),
        "HardSigmoid": lambda x: torch.clamp(first * x + last, 0.0, 1.0),
        "LeakyRelu": lambda x: F.leaky_relu(x, first),
        "Relu": torch.relu,
        "Sigmoid": torch.sigmoid,
        "Tanh": torch.tanh,
    }
    if name not in functions:
        raise node.refusal(f"activation {name} is unknown")
    activation = functions[name]
    return lambda *given: activation(function(*given))


def _fused_conv(node: Node) -> Operation:
    convolve = build_convolution(node)

    def apply(x: Tensor, w: Tensor, bias: Tensor | None = None, added: Tensor | None = None) -> Tensor:
        y: Tensor = convolve(x, w, bias)
        return y if added is None else y + added

    return _with_activation(node, apply)


def _fused_gemm(node: Node) -> Operation:
    return _with_activation(node, build_gemm(node))


def _fused_matmul(node: Node) -> Operation:
    get = node.attributes.get
    alpha = get("alpha", 1.0)
    turns = [(get(f"trans{side}", 0), get(f"transBatch{side}", 0)) for side in "AB"]
    if any(batched for _, batched in turns):
        raise node.refusal("transBatchA or transBatchB")

    def apply(a: Tensor, b: Tensor) -> Tensor:
        (turn_a, _), (turn_b, _) = turns
        a, b = (x.transpose(-2, -1) if turn and x.dim() > 1 else x for x, turn in ((a, turn_a), (b, turn_b)))
        product = torch.matmul(a, b)
        return product if alpha == 1.0 else alpha * product

    return apply


def _fast_gelu(x: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.gelu(x if bias is None else x + bias, approximate="tanh")


def _quick_gelu(node: Node) -> Operation:
    alpha = node.attributes.get("alpha", 1.702)
    return lambda x: x * torch.sigmoid(alpha * x)


def _skip_norm(*, simplified: bool) -> Callable[[Node], Operation]:
    """x + skip + bias, normalised over the last axis; simplified: without the mean, and without a shift."""

    def build(node: Node) -> Operation:
        epsilon = node.attributes.get("epsilon", 1e-5 if simplified else 1e-12)

        def apply(x: Tensor, skip: Tensor, scale: Tensor, *rest: Tensor | None) -> tuple[Any, ...]:
            shift, bias = (None, *rest, None)[:2] if simplified else (*rest, None, None)[:2]
            total = x + skip if bias is None else x + skip + bias
            mean = total.mean(-1, keepdim=True)
            centred = total if simplified else total - mean
            inverse = torch.rsqrt((centred * centred).mean(-1, keepdim=True) + epsilon)
            if simplified:
                y = total * inverse * scale
            else:
                y = F.layer_norm(total, total.shape[-1:], scale, shift, epsilon)
            return y, mean, inverse, total

        return apply

    return build


def _multi_head_attention(node: Node) -> Operation:
    """Queries, keys and values as (batch, sequence, hidden); masks, caches and packed forms are refused."""
    heads, scale = node.attributes.get("num_heads"), node.attributes.get("scale", 0.0)
    node.attributes.get("mask_filter_value")  # concerns masks only
    if node.attributes.get("unidirectional", 0) or any(node.has(at) for at in (4, *range(6, 10))):
        raise node.refusal("key_padding_mask, a cache, or unidirectional")
    if not (node.has(1) and node.has(2)):
        raise node.refusal("packed keys and values")

    def apply(
        q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, mask: None = None, added: Tensor | None = None
    ) -> Tensor:
        if k.dim() != 3 or v.dim() != 3:
            raise node.refusal("packed keys and values")
        if bias is not None:
            shares = torch.split(bias, [q.shape[-1], k.shape[-1], v.shape[-1]])
            q, k, v = (x + share for x, share in zip((q, k, v), shares, strict=True))
        q, k, v = (split_heads(x, heads) for x in (q, k, v))
        return merge_heads(F.scaled_dot_product_attention(q, k, v, added, scale=scale or None))

    return apply


RULES: dict[str, Rule] = {
    "BiasGelu": Rule(lambda node: lambda x, bias: F.gelu(x + bias)),
    "FastGelu": Rule(lambda node: _fast_gelu),
    "FusedConv": Rule(_fused_conv),
    "FusedGemm": Rule(_fused_gemm),
    "FusedMatMul": Rule(_fused_matmul),
    "Gelu": Rule(lambda node: F.gelu),
    "MultiHeadAttention": Rule(_multi_head_attention, remark="without masks of keys, caches and packed inputs"),
    "QuickGelu": Rule(_quick_gelu),
    "SkipLayerNormalization": Rule(_skip_norm(simplified=False)),
    "SkipSimplifiedLayerNormalization": Rule(_skip_norm(simplified=True)),
}
