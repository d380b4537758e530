"""Elementwise arithmetic, comparison and logic, with broadcasting."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.autograd.node import Gradient, Node, Operation, Rule


def _binary(function: Callable[[Tensor, Tensor], Tensor], gradient: Gradient = "exact") -> Rule:
    """Before opset 7 broadcasting was an attribute with rules of its own: refused."""

    def build(node: Node) -> Operation:
        node.attributes.get("consumed_inputs")
        if node.attributes.get("broadcast", 0):
            raise node.refusal("broadcast as before opset 7; convert the model to opset 13 or newer")
        return function

    return Rule(build, gradient=gradient)


def _unary(function: Callable[[Tensor], Tensor], gradient: Gradient = "exact") -> Rule:
    return Rule(lambda node: function, gradient=gradient)


def _variadic(function: Callable[[Tensor, Tensor], Tensor]) -> Rule:
    return Rule(lambda node: lambda *operands: functools.reduce(function, operands))


def _divide(a: Tensor, b: Tensor) -> Tensor:
    """ONNX divides integers towards zero."""
    if a.is_floating_point() or b.is_floating_point():
        return a / b
    return torch.div(a, b, rounding_mode="trunc")


def _power(base: Tensor, exponent: Tensor) -> Tensor:
    """The result has the base's type."""
    return torch.pow(base, exponent).to(base.dtype)


def _modulo(node: Node) -> Operation:
    return torch.fmod if node.attributes.get("fmod", 0) else torch.remainder


def _is_infinite(node: Node) -> Operation:
    negative, positive = node.attributes.get("detect_negative", 1), node.attributes.get("detect_positive", 1)
    if negative and positive:
        return torch.isinf
    if positive:
        return torch.isposinf
    return torch.isneginf if negative else lambda x: torch.zeros_like(x, dtype=torch.bool)


def _mean(node: Node) -> Operation:
    return lambda *operands: functools.reduce(torch.add, operands) / len(operands)


RULES: dict[str, Rule] = {
    "Abs": _unary(torch.abs),
    "Acos": _unary(torch.acos),
    "Acosh": _unary(torch.acosh),
    "Add": _binary(torch.add),
    "And": _binary(torch.logical_and, "none"),
    "Asin": _unary(torch.asin),
    "Asinh": _unary(torch.asinh),
    "Atan": _unary(torch.atan),
    "Atanh": _unary(torch.atanh),
    "Ceil": _unary(torch.ceil),
    "Cos": _unary(torch.cos),
    "Cosh": _unary(torch.cosh),
    "Div": _binary(_divide),
    "Equal": _binary(torch.eq, "none"),
    "Exp": _unary(torch.exp),
    "Floor": _unary(torch.floor),
    "Greater": _binary(torch.gt, "none"),
    "GreaterOrEqual": _binary(torch.ge, "none"),
    "IsInf": Rule(_is_infinite, gradient="none"),
    "IsNaN": _unary(torch.isnan, "none"),
    "Less": _binary(torch.lt, "none"),
    "LessOrEqual": _binary(torch.le, "none"),
    "Log": _unary(torch.log),
    "Max": _variadic(torch.maximum),
    "Mean": Rule(_mean),
    "Min": _variadic(torch.minimum),
    "Mod": Rule(_modulo),
    "Mul": _binary(torch.mul),
    "Neg": _unary(torch.neg),
    "Not": _unary(torch.logical_not, "none"),
    "Or": _binary(torch.logical_or, "none"),
    "Pow": _binary(_power),
    "Reciprocal": _unary(torch.reciprocal),
    "Round": _unary(torch.round),
    "Sign": _unary(torch.sign),
    "Sin": _unary(torch.sin),
    "Sinh": _unary(torch.sinh),
    "Sqrt": _unary(torch.sqrt),
    "Sub": _binary(torch.sub),
    "Sum": _variadic(torch.add),
    "Tan": _unary(torch.tan),
    "Where": Rule(lambda node: torch.where),
    "Xor": _binary(torch.logical_xor, "none"),
}
