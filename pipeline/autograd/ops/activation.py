"""Activations, clipping and softmax."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.autograd.node import Node, Operation, Rule
from pipeline.autograd.sizes import Sizes


def _prelu(node: Node) -> Operation:
    def apply(x: Tensor, slope: Tensor) -> Tensor:
        slope = slope.to(x.dtype)
        per_channel = (*slope.shape[:1], *[1] * (x.dim() - 2))
        if slope.numel() == 1 or (x.dim() > 1 and slope.shape == per_channel and slope.shape[0] == x.shape[1]):
            return F.prelu(x, slope.reshape(-1))
        return torch.where(x >= 0, x, slope * x)

    return apply


def _clip(node: Node) -> Operation:
    if node.opset < 11:
        low, high = node.attributes.get("min"), node.attributes.get("max")
        return lambda x: x if low is None and high is None else torch.clamp(x, low, high)

    def bound(given: Sizes | None, x: Tensor) -> float | None:
        if given is None:
            return None
        return given.floats[0] if x.is_floating_point() else given.ints[0]

    def apply(x: Tensor, low: Sizes | None = None, high: Sizes | None = None) -> Tensor:
        if low is None and high is None:
            return x
        least, most = bound(low, x), bound(high, x)
        return torch.clamp(x, least, most)

    return apply


def _gelu(node: Node) -> Operation:
    approximate = node.attributes.get("approximate", "none")
    if approximate not in ("none", "tanh"):
        raise node.refusal(f"approximate {approximate!r} is unknown")
    return lambda x: F.gelu(x, approximate=approximate)


def _selu(node: Node) -> Operation:
    alpha = node.attributes.get("alpha", 1.6732632423543772)
    gamma = node.attributes.get("gamma", 1.0507009873554805)
    return lambda x: gamma * F.elu(x, alpha)


def _hard_sigmoid(node: Node) -> Operation:
    alpha, beta = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
    return lambda x: torch.clamp(alpha * x + beta, 0.0, 1.0)


def _thresholded_relu(node: Node) -> Operation:
    alpha = node.attributes.get("alpha", 1.0)
    return lambda x: torch.where(x > alpha, x, torch.zeros_like(x))


def _swish(node: Node) -> Operation:
    alpha = node.attributes.get("alpha", 1.0)
    return lambda x: F.silu(x) if alpha == 1.0 else x * torch.sigmoid(alpha * x)


def _swiglu(node: Node) -> Operation:
    swish = _swish(node)
    return lambda gate, value: swish(gate) * value


def _shrink(node: Node) -> Operation:
    bias, threshold = node.attributes.get("bias", 0.0), node.attributes.get("lambd", 0.5)

    def apply(x: Tensor) -> Tensor:
        outside = torch.where(x > threshold, x - bias, torch.where(x < -threshold, x + bias, torch.zeros_like(x)))
        return outside.to(x.dtype)

    return apply


def _hardmax(x: Tensor, dim: int) -> Tensor:
    """One at the first maximum; its gradient is zero."""
    return torch.zeros_like(x).scatter(dim, x.argmax(dim, keepdim=True), 1.0)


def _softmax(function: Callable[..., Tensor]) -> Callable[[Node], Operation]:
    """Since opset 13 over one axis; before, over all axes from `axis` on, flattened."""

    def build(node: Node) -> Operation:
        if node.opset >= 13:
            axis = node.attributes.get("axis", -1)
            return lambda x: function(x, dim=axis)
        first = node.attributes.get("axis", 1)

        def flattened(x: Tensor) -> Tensor:
            return function(x.flatten(first % x.dim()), dim=-1).reshape(x.shape)

        return flattened

    return build


def _of_alpha(function: Callable[..., Tensor], default: float) -> Callable[[Node], Operation]:
    def build(node: Node) -> Operation:
        alpha = node.attributes.get("alpha", default)
        return lambda x: function(x, alpha)

    return build


def _plain(function: Callable[[Tensor], Tensor]) -> Rule:
    return Rule(lambda node: function)


RULES: dict[str, Rule] = {
    "Celu": Rule(_of_alpha(F.celu, 1.0)),
    "Clip": Rule(_clip, sizes=frozenset({1, 2})),
    "Elu": Rule(_of_alpha(F.elu, 1.0)),
    "Erf": _plain(torch.erf),
    "Gelu": Rule(_gelu),
    "HardSigmoid": Rule(_hard_sigmoid),
    "HardSwish": _plain(F.hardswish),
    "Hardmax": Rule(_softmax(_hardmax), gradient="none"),
    "LeakyRelu": Rule(_of_alpha(F.leaky_relu, 0.01)),
    "LogSoftmax": Rule(_softmax(F.log_softmax)),
    "Mish": _plain(F.mish),
    "PRelu": Rule(_prelu),
    "Relu": _plain(torch.relu),
    "Selu": Rule(_selu),
    "Shrink": Rule(_shrink),
    "Sigmoid": _plain(torch.sigmoid),
    "Softmax": Rule(_softmax(F.softmax)),
    "Softplus": _plain(F.softplus),
    "Softsign": _plain(F.softsign),
    "SwiGLU": Rule(_swiglu),
    "Swish": Rule(_swish),
    "Tanh": _plain(torch.tanh),
    "ThresholdedRelu": Rule(_thresholded_relu),
}
