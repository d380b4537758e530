"""Torch rules for ONNX ops, one file per op family; RULES is the whole table."""

from pipeline.autograd.node import Rule
from pipeline.autograd.ops import (
    activation,
    conv,
    elementwise,
    linear,
    normalization,
    padding,
    pooling,
    reduce,
    resize,
    shape,
)

RULES: dict[str, Rule] = {
    **activation.RULES,
    **conv.RULES,
    **elementwise.RULES,
    **linear.RULES,
    **normalization.RULES,
    **padding.RULES,
    **pooling.RULES,
    **reduce.RULES,
    **resize.RULES,
    **shape.RULES,
}

# domain -> operator -> rule; every table of rules there is
DOMAINS: dict[str, dict[str, Rule]] = {"": RULES}
