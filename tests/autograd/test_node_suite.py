"""The ONNX node tests, as the onnx package generates them, for every op that has a rule."""

import fnmatch
import functools
import warnings
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx.backend.test.case.node import collect_testcases

from pipeline.autograd import OnnxModule
from pipeline.autograd.dtypes import TORCH_TYPES, to_numpy, to_torch
from pipeline.autograd.ops import RULES
from targets.errors import BadInput

# Cases that a rule refuses when the module is made.
REFUSED = {
    "test_dropout_default_mask*": "the mask as an output",
    "test_training_dropout_*mask": "the mask as an output",
    "test_maxpool_with_argmax_*": "indices of the maxima as an output",
    "test_resize_tf_crop_and_resize*": "crops while it resizes, which no network that is trained does",
    "test_resize_*_antialias": "filters as wide as the scale, which torch does differently",
    "test_resize_*_not_larger": "sizes that depend on each other",
    "test_resize_*_not_smaller": "sizes that depend on each other",
}
# Cases that are not run, though no rule refuses them.
LEFT_OUT = {
    "test_training_dropout_default": "random",
    "test_training_dropout": "random",
    "test_resize_downsample_scales_*_align_corners": "uneven scales: ONNX Runtime and torch take the output's size",
    "test_reduce_m??_empty_set*": "the maximum of nothing: torch has none",
}
HALF_PRECISION = 2e-2  # intermediate results are rounded at other places


@functools.cache
def cases() -> dict[str, Any]:
    """Name -> case, for those whose ops all have rules and whose element types torch computes with."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the generators divide by zero on purpose
        collected = {case.name: case for case in collect_testcases(None)}
    return {name: case for name, case in collected.items() if case.model is not None and is_claimed(case.model)}


def is_claimed(model: onnx.ModelProto) -> bool:
    ends = [*model.graph.input, *model.graph.output]
    types = {end.type.tensor_type.elem_type for end in ends}
    return types <= set(TORCH_TYPES) and all(
        node.domain == "" and (node.op_type in RULES or node.op_type == "Constant") for node in model.graph.node
    )


def listed(name: str, patterns: dict[str, str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def array(value: Any) -> np.ndarray:
    return np.asarray(onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value)


def check(case: Any) -> None:
    module = OnnxModule(case.model)
    attributes = [attribute for node in case.model.graph.node for attribute in node.attribute]
    module.train(any(attribute.name == "training_mode" and attribute.i for attribute in attributes))
    for inputs, expected in case.data_sets:
        with torch.no_grad():
            outputs = module(*[to_torch(array(value)) for value in inputs])
        for output, value in zip(outputs if isinstance(outputs, tuple) else (outputs,), expected, strict=True):
            truth = array(value)
            tolerance = HALF_PRECISION if truth.dtype.itemsize == 2 else max(case.rtol, 1e-4)
            computed = to_numpy(output)
            assert computed.shape == truth.shape, case.name
            assert computed.dtype == truth.dtype, case.name
            np.testing.assert_allclose(
                computed.astype(np.float64),
                truth.astype(np.float64),
                rtol=tolerance,
                atol=max(case.atol, 1e-6),
                err_msg=case.name,
            )


@pytest.mark.parametrize("op", sorted(RULES))
def test_rules_agree_with_the_node_tests(op):
    for name, case in cases().items():
        alone = len(case.model.graph.node) == 1 and case.model.graph.node[0].op_type == op
        if alone and not listed(name, {**REFUSED, **LEFT_OUT}):
            check(case)


def test_rules_agree_with_the_node_tests_of_composed_functions():
    composed = [case for case in cases().values() if len(case.model.graph.node) > 1]
    for case in composed:
        check(case)
    assert len(composed) > 100


@pytest.mark.parametrize("pattern", REFUSED)
def test_what_a_rule_does_not_cover_is_refused_when_the_module_is_made(pattern):
    matching = fnmatch.filter(cases(), pattern)
    assert matching
    for name in matching:
        with pytest.raises(BadInput, match="No gradient rule for node"):
            OnnxModule(cases()[name].model)


@pytest.mark.parametrize("pattern", LEFT_OUT)
def test_every_left_out_case_exists(pattern):
    assert fnmatch.filter(cases(), pattern)
