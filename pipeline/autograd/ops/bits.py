"""Operators on the bits of integers."""

from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.autograd.dtypes import TORCH_TYPES
from pipeline.autograd.node import Node, Operation, Rule


def _shift(node: Node) -> Operation:
    direction = node.attributes.get("direction")
    if direction not in ("LEFT", "RIGHT"):
        raise node.refusal(f"direction {direction!r} is unknown")
    return torch.bitwise_left_shift if direction == "LEFT" else torch.bitwise_right_shift


def _bit_cast(node: Node) -> Operation:
    number = node.attributes.get("to")
    if number not in TORCH_TYPES:
        raise node.refusal(f"element type {number} of the ONNX enumeration has no torch type to compute with")
    return lambda x: x.view(TORCH_TYPES[number])


def _plain(function: Callable[..., Tensor]) -> Rule:
    return Rule(lambda node: function, gradient="none")


RULES: dict[str, Rule] = {
    "BitCast": Rule(_bit_cast, gradient="none"),
    "BitShift": Rule(_shift, gradient="none"),
    "BitwiseAnd": _plain(torch.bitwise_and),
    "BitwiseNot": _plain(torch.bitwise_not),
    "BitwiseOr": _plain(torch.bitwise_or),
    "BitwiseXor": _plain(torch.bitwise_xor),
}
