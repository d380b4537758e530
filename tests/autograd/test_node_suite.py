"""The ONNX node tests, as the onnx package generates them, for every operator that has a rule."""

import fnmatch
import functools
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx.backend.test.case.node import collect_testcases

from pipeline.autograd import OnnxModule
from pipeline.autograd.bodies import bodies_of
from pipeline.autograd.dtypes import to_numpy, to_torch
from pipeline.autograd.ops import RULES
from targets.errors import BadInput

# Cases that are refused when the module is made, each with what the refusal says.
REFUSED: Mapping[str, str] = {
    "test_*_uint16": "torch does not compute with",
    "test_*_uint32": "torch does not compute with",
    "test_*_uint64": "torch does not compute with",
    "test_*_uint[136][624]_expanded": "torch does not compute with",
    "test_equal_string*": "torch does not compute with",
    "test_bitcast_uint32_to_int32": "torch does not compute with",
    "test_bitcast_uint16_to_int16": "torch does not compute with",
    "test_bitwise_*_ui64_bcast_3v1d": "torch does not compute with",
    "test_bitwise_not_3d": "torch does not compute with",
    "test_cast_*FLOAT[48]E*": "torch",
    "test_cast_*INT[24]*": "torch",
    "test_castlike_*FLOAT[48]E*": "torch does not compute with",
    "test_castlike_*INT[24]*": "torch does not compute with",
    "test_dequantizelinear_e[45]m*": "torch does not compute with",
    "test_dequantizelinear_float4e2m1": "torch does not compute with",
    "test_dequantizelinear_*int[24]": "torch does not compute with",
    "test_quantizelinear_e[45]m*": "torch does not compute with",
    "test_quantizelinear_float4e2m1": "torch does not compute with",
    "test_quantizelinear_*int[24]": "torch does not compute with",
    "test_scan_sum": "its rule reads opset 9",
}
# Cases that are not run, though no rule refuses them.
LEFT_OUT: Mapping[str, str] = {
    "test_training_dropout": "random: the numbers are torch's own",
    "test_training_dropout_default": "random: the numbers are torch's own",
    "test_training_dropout_default_mask": "random: the numbers are torch's own",
    "test_training_dropout_mask": "random: the numbers are torch's own",
    "test_resize_downsample_scales_*_align_corners": "uneven scales: ONNX Runtime and torch take the output's size",
}
HALF_PRECISION = 2e-2  # intermediate results are rounded at other places


@functools.cache
def suite() -> dict[str, Any]:
    """Name -> case, for all that have a model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the generators divide by zero on purpose
        return {case.name: case for case in collect_testcases(None) if case.model is not None}


@functools.cache
def cases() -> dict[str, Any]:
    """Those whose operators all have rules, inner graphs included."""
    return {name: case for name, case in suite().items() if is_claimed(case.model)}


def operators(graph: onnx.GraphProto) -> Iterator[tuple[str, str]]:
    for node in graph.node:
        yield node.domain, node.op_type
        for body in bodies_of(node).values():
            yield from operators(body)


def is_claimed(model: onnx.ModelProto) -> bool:
    return all(domain == "" and (op in RULES or op == "Constant") for domain, op in operators(model.graph))


def listed(name: str, patterns: Mapping[str, str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def array(value: Any) -> np.ndarray:
    return np.asarray(onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value)


def given(value: Any) -> Any:
    return [to_torch(array(entry)) for entry in value] if isinstance(value, list) else to_torch(array(value))


def flat(values: Any) -> Iterator[Any]:
    """Sequences, a list each, taken apart."""
    for value in values:
        yield from (value if isinstance(value, list) else [value])


def check(case: Any) -> None:
    module = OnnxModule(case.model)
    attributes = [attribute for node in case.model.graph.node for attribute in node.attribute]
    module.train(any(attribute.name == "training_mode" and attribute.i for attribute in attributes))
    for inputs, expected in case.data_sets:
        with torch.no_grad():
            outputs = module(*[given(value) for value in inputs])
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        for output, value in zip(flat(outputs), flat(expected), strict=True):
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


def alone(case: Any) -> str:
    """The operator of a case that has only one node, else an empty name."""
    nodes = case.model.graph.node
    return str(nodes[0].op_type) if len(nodes) == 1 else ""


@pytest.mark.parametrize("op", sorted(RULES))
def test_rules_agree_with_the_node_tests(op):
    for name, case in cases().items():
        if alone(case) == op and not listed(name, {**REFUSED, **LEFT_OUT}):
            check(case)


def test_rules_agree_with_the_node_tests_of_composed_functions():
    composed = [case for name, case in cases().items() if not alone(case) and not listed(name, {**REFUSED, **LEFT_OUT})]
    for case in composed:
        check(case)
    assert len(composed) > 300


@pytest.mark.parametrize("pattern", REFUSED)
def test_what_a_rule_does_not_cover_is_refused_when_the_module_is_made(pattern):
    matching = fnmatch.filter(cases(), pattern)
    assert matching
    for name in matching:
        with pytest.raises(BadInput, match=REFUSED[pattern]):
            OnnxModule(cases()[name].model)


@pytest.mark.parametrize("pattern", LEFT_OUT)
def test_every_left_out_case_exists(pattern):
    assert fnmatch.filter(cases(), pattern)


# Operators of the suite that have no rule, and why.
WITHOUT_A_RULE: Mapping[str, str] = {
    "Bernoulli": "random",
    "ImageDecoder": "reads files",
    "MelWeightMatrix": "a constant that belongs in the file",
    "NegativeLogLikelihoodLoss": "a loss is no part of a deployed network",
    "Optional": "values that may be missing",
    "OptionalGetElement": "values that may be missing",
    "OptionalHasElement": "values that may be missing",
    "RandomUniformLike": "random",
    "RegexFullMatch": "strings",
    "SoftmaxCrossEntropyLoss": "a loss is no part of a deployed network",
    "StringConcat": "strings",
    "StringNormalizer": "strings",
    "StringSplit": "strings",
    "TfIdfVectorizer": "strings",
}


def test_nothing_of_the_suite_is_skipped_without_a_reason():
    missing = {
        op
        for name, case in suite().items()
        if name not in cases()
        for domain, op in operators(case.model.graph)
        if domain == "" and op not in RULES and op != "Constant"
    }
    assert missing == set(WITHOUT_A_RULE)
