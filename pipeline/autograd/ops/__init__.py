"""Torch rules for ONNX ops, one file per op family; DOMAINS is the whole table."""

from pipeline.autograd.node import Rule
from pipeline.autograd.ops import (
    activation,
    attention,
    bits,
    contrib,
    control,
    conv,
    elementwise,
    indexing,
    integer,
    linear,
    normalization,
    padding,
    patterns,
    pooling,
    quantize,
    recurrent,
    reduce,
    regions,
    resize,
    sampling,
    sequence,
    shape,
    signal,
    unpooling,
)

RULES: dict[str, Rule] = {
    **activation.RULES,
    **attention.RULES,
    **bits.RULES,
    **control.RULES,
    **conv.RULES,
    **elementwise.RULES,
    **indexing.RULES,
    **integer.RULES,
    **linear.RULES,
    **normalization.RULES,
    **padding.RULES,
    **patterns.RULES,
    **pooling.RULES,
    **quantize.RULES,
    **recurrent.RULES,
    **reduce.RULES,
    **regions.RULES,
    **resize.RULES,
    **sampling.RULES,
    **sequence.RULES,
    **shape.RULES,
    **signal.RULES,
    **unpooling.RULES,
}

# domain -> operator -> rule; every table of rules there is
DOMAINS: dict[str, dict[str, Rule]] = {"": RULES, "com.microsoft": contrib.RULES}
